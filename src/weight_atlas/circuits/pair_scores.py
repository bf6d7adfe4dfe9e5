"""The composition scores of all pairs of heads of a model, as numbers, and the tables made of them in parts.

A model of 80 layers of 64 heads has 39 million scores: as one table, with the place of both heads in each row, they
take over 10 GB. Here a score is two numbers at a place that follows from its heads, and at most three are held besides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.circuits.head_sides import CROSS, READS
from weight_atlas.spectra.attention_factors import Block
from weight_atlas.statistics.corrections import false_discovery_rates
from weight_atlas.statistics.order import ordered

PAIR = ["stack", "kind", "layer", "component", "head", "from_layer", "from_component", "from_head"]
LAYERS = ["stack", "kind", "layer", "from_layer"]
NUMBERS = ["score", "null", "excess", "p", "q"]
# Level of the false discovery rate (Benjamini and Hochberg) over all pairs of a model, and least ratio of a score to
# its null: with thousands of pairs a small excess is sure, but no circuit.
LEVEL, LEAST_RATIO = 0.01, 2.0
# Rows of a frame: those of a row group of a parquet file.
ROWS = 1 << 20


@dataclass(frozen=True, order=True)
class Reader:
    """The heads of a module that read, for one kind of composition; width: heads of earlier layers in its stack.

    start: place of the first pair of the module among all. columns: place of the first head that writes in the stack.
    """

    stack: str
    kind: str
    layer: int
    component: str
    heads: int
    width: int
    start: int = 0
    columns: int = 0

    @property
    def stop(self) -> int:
        """The place after its last pair."""
        return self.start + self.heads * self.width


class PairScores:
    """Scores and their p of all pairs of heads, in the order of PAIR; NaN where a pair has none."""

    def __init__(self, blocks: list[Block]) -> None:
        """Make place for the pairs of the heads of attention modules."""
        writers = sorted(
            (block.stack, block.layer, block.component, int(block.rows["W_O"].n_heads))
            for block in blocks
            if not block.missing("OV")
        )
        self._columns: dict[tuple[str, int, str], int] = {}
        firsts: dict[str, int] = {}
        heads: list[tuple[int, str, int]] = []
        for stack, layer, component, count in writers:
            first = firsts.setdefault(stack, len(heads))
            self._columns[stack, layer, component] = len(heads) - first
            heads += [(layer, component, head) for head in range(count)]
        self._from = pd.DataFrame(heads, columns=["layer", "component", "head"])
        self.readers: list[Reader] = []
        total = 0
        for block, kind, count in sorted(_reading(blocks), key=lambda each: _place(each[0], each[1])):
            width = sum(number for stack, layer, _, number in writers if stack == block.stack and layer < block.layer)
            if width:
                place = _place(block, kind)
                self.readers.append(Reader(*place, count, width, total, firsts[block.stack]))
                total += count * width
        self.stacks = list(dict.fromkeys(reader.stack for reader in self.readers))
        self._at = {_place(reader, reader.kind): number for number, reader in enumerate(self.readers)}
        self._starts = np.array([reader.start for reader in self.readers])
        self._null = np.full(len(self.readers), np.nan)
        self._score, self._p = np.full(total, np.nan), np.full(total, np.nan)

    def put(self, kind: str, reads: Block, writes: Block, scores: np.ndarray, p: np.ndarray, null: float) -> None:
        """Hold the scores (readers, writers) of two modules and their p; pairs without a finite score have none."""
        number = self._at[_place(reads, kind)]
        reader = self.readers[number]
        first = self._columns[writes.stack, writes.layer, writes.component]
        known = np.isfinite(scores)
        for held, values in ((self._score, scores), (self._p, p)):
            whole = held[reader.start : reader.stop].reshape(reader.heads, reader.width)
            whole[:, first : first + scores.shape[1]] = np.where(known, values, np.nan)
        self._null[number] = null

    def finish(self) -> None:
        """Take the false discovery rates over all pairs, and the order, once all are there."""
        known = ~np.isnan(self._score)
        self._known = int(known.sum())
        with np.errstate(divide="ignore"):
            rates = false_discovery_rates(np.log(self._p if known.all() else self._p[known]))
        np.exp(rates, out=rates)
        if known.all():
            self._q = rates
        else:
            self._q = np.full(len(known), np.nan)
            self._q[known] = rates
        self._below = np.empty(len(known))  # how far below its null a score is: the smallest have the largest excess
        for reader, null in zip(self.readers, self._null, strict=True):
            part = slice(reader.start, reader.stop)
            np.subtract(null, self._score[part], out=self._below[part])

    def frames(self) -> Iterator[pd.DataFrame]:
        """The table of compositions, in frames of ROWS rows (the last has the rest), at least one."""
        left = np.empty(0, dtype=np.int64)
        rest = self._known
        for band in ordered(self._below):
            left = np.concatenate([left, band[:rest]])  # pairs without a score are last
            rest -= min(rest, len(band))
            while len(left) > ROWS:
                yield self.table(left[:ROWS])
                left = left[ROWS:]
        yield self.table(left)

    def largest(self, count: int, stack: str | None = None) -> pd.DataFrame:
        """The first rows of the table, or of those of a stack."""
        of = [reader for reader in self.readers if stack in (None, reader.stack)]
        start, stop = of[0].start, of[-1].stop
        chosen, most = np.empty(0, dtype=np.int64), np.inf
        for first in range(start, stop, ROWS):
            better = np.flatnonzero(self._below[first : min(first + ROWS, stop)] <= most)  # never NaN
            index = np.concatenate([chosen, first + better])
            chosen = index[np.argsort(self._below[index], kind="stable")][:count]
            most = self._below[chosen[-1]] if count and len(chosen) == count else most
        return self.table(chosen)

    def by_layers(self) -> pd.DataFrame:
        """The table of by_layers, from the pairs of a few reading layers at a time."""
        parts = [by_layers(self.table(index)) for index in self._by_reading_layers()]
        return pd.concat(parts, ignore_index=True).sort_values(LAYERS, ignore_index=True)

    def _by_reading_layers(self) -> Iterator[np.ndarray]:
        """Places of pairs, largest excess first, of whole reading layers: ROWS, or one layer where that has more."""
        readers = sorted(self.readers, key=lambda reader: (reader.stack, reader.layer))
        layers = [list(group) for _, group in groupby(readers, key=lambda reader: (reader.stack, reader.layer))]
        batch: list[Reader] = []
        for number, layer in enumerate(layers):
            batch += layer
            following = layers[number + 1] if number + 1 < len(layers) else []
            if not following or sum(reader.stop - reader.start for reader in batch + following) > ROWS:
                index = np.concatenate([np.arange(reader.start, reader.stop) for reader in sorted(batch)])
                below = self._below[index]
                yield index[np.argsort(below, kind="stable")[: np.count_nonzero(~np.isnan(below))]]
                batch = []

    def table(self, index: np.ndarray) -> pd.DataFrame:
        """Rows of the table, by the places of their pairs."""
        number = np.searchsorted(self._starts, index, side="right") - 1

        def text(name: str) -> Any:
            return pd.array([getattr(reader, name) for reader in self.readers], dtype="str").take(number)

        def whole(name: str) -> np.ndarray:
            return np.array([getattr(reader, name) for reader in self.readers])[number]

        head, column = np.divmod(index - self._starts[number], whole("width"))
        column += whole("columns")
        score, null, q = self._score[index], self._null[number], self._q[index]
        composes = (q < LEVEL) & (score > LEAST_RATIO * null)
        columns = {
            "stack": text("stack"), "kind": text("kind"), "layer": whole("layer"), "component": text("component"),
            "head": head, "from_layer": self._from["layer"].to_numpy()[column],
            "from_component": self._from["component"].array.take(column),
            "from_head": self._from["head"].to_numpy()[column],
            "score": score, "null": null, "excess": score - null, "p": self._p[index], "q": q,
            "label": pd.array(["", "composes"], dtype="str").take(composes.astype(np.int64)),
        }  # fmt: skip
        return pd.DataFrame(columns)[[*PAIR, *NUMBERS, "label"]]


def by_layers(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs, mean and largest score, largest excess and labelled pairs by kind and pair of layers.

    pairs: of compositions. With the pair of heads of the largest excess, as head and from_head.
    """
    groups = pairs.groupby(LAYERS, sort=True)
    best = groups.head(1).set_index(LAYERS)
    table = pd.DataFrame(
        {
            "pairs": groups.size(),
            "composing": groups["label"].agg(lambda labels: int((labels != "").sum())),
            "mean_score": groups["score"].mean(),
            "max_score": groups["score"].max(),
            "null": groups["null"].mean(),
            "max_excess": groups["excess"].max(),
        }
    )
    return table.join(best[["head", "from_head"]]).reset_index()


def _reading(blocks: list[Block]) -> Iterator[tuple[Block, str, int]]:
    """Every module and kind of composition that it has, with the number of its heads (see head_sides)."""
    for block in blocks:
        for kind in READS:
            if block.missing("OV" if kind == "V" else "QK") or (kind != "Q" and block.component == CROSS):
                continue
            role = "W_O" if kind == "V" else "W_Q_b" if "W_Q_b" in block.rows else "W_Q"
            yield block, kind, int(block.rows[role].n_heads)


def _place(of: Block | Reader, kind: str) -> tuple[str, str, int, str]:
    return of.stack, kind, of.layer, of.component
