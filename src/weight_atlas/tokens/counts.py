"""Counts of tokens by group of documents, as a long and sparse table, with totals for the vocabulary."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.errors import AtlasError

GROUP_COLUMNS = ("group", "documents", "bytes", "words")
LONG_COLUMNS = ("group", "id", "count", "document_frequency")


class TokenCounts:
    """Counts of a corpus by token id and group of documents.

    groups: a row a group, sorted by name: group, documents, bytes (of UTF-8), words (between white space). long: a row
    for each group and token that occurs in it, sorted by both: group (a row of groups), id, count, document_frequency.
    vocabulary: number of ids.
    """

    def __init__(self, groups: pd.DataFrame, long: pd.DataFrame, vocabulary: int) -> None:
        self.groups, self.long, self.vocabulary = groups, long, vocabulary

    @property
    def documents(self) -> int:
        """Documents of the corpus."""
        return int(self.groups["documents"].sum())

    @property
    def counts(self) -> np.ndarray:
        """Occurrences of each id in the whole corpus, (vocabulary,) int64."""
        return self._total("count")

    @property
    def document_frequency(self) -> np.ndarray:
        """Documents that have each id, in the whole corpus, (vocabulary,) int64."""
        return self._total("document_frequency")

    def _total(self, column: str) -> np.ndarray:
        total = np.zeros(self.vocabulary, np.int64)
        np.add.at(total, self.long["id"].to_numpy(), self.long[column].to_numpy())
        return total

    def table(self, tokens: list[str]) -> pd.DataFrame:
        """One row per id: id, token (its text), count, document_frequency."""
        columns = {"token": tokens, "count": self.counts, "document_frequency": self.document_frequency}
        return pd.DataFrame({"id": np.arange(self.vocabulary), **columns})

    def named(self) -> pd.DataFrame:
        """The long table with the names of the groups in place of their rows."""
        names = pd.Categorical.from_codes(self.long["group"].to_numpy(), self.groups["group"].tolist())
        return self.long.assign(group=names.astype(str) if not len(names.categories) else names)


def merged(parts: Iterable[TokenCounts], vocabulary: int) -> TokenCounts:
    """The counts of several parts of a corpus, added up; the order of the parts makes no difference."""
    parts = list(parts)
    groups = pd.concat([_empty(GROUP_COLUMNS), *(part.groups for part in parts)])
    names = np.array(sorted(set(groups["group"])), dtype=object)
    groups = groups.groupby("group", sort=True, as_index=False).sum() if len(groups) else groups
    of = {name: row for row, name in enumerate(names)}
    moved = [part.long.assign(group=_renumbered(part, of)) for part in parts if len(part.long)]
    return TokenCounts(groups.astype(_types(GROUP_COLUMNS)), added_up(moved), vocabulary)


def _renumbered(part: TokenCounts, of: dict[str, int]) -> np.ndarray:
    return np.array([of[name] for name in part.groups["group"]], np.int64)[part.long["group"].to_numpy()]


def added_up(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Long tables whose groups are numbered alike, as one that has each pair of group and id once, sorted."""
    if not tables:
        return _empty(LONG_COLUMNS)
    whole = pd.concat(tables, ignore_index=True)
    keys = whole["group"].to_numpy() << 32 | whole["id"].to_numpy()
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    sums = {name: np.add.reduceat(whole[name].to_numpy()[order], starts) for name in LONG_COLUMNS[2:]}
    first = keys[order][starts]
    return pd.DataFrame({"group": first >> 32, "id": first & 0xFFFFFFFF, **sums})


def write_part(counts: TokenCounts, groups: Path, tokens: Path) -> None:
    """Write the counts of one part of a corpus as two tables; read_parts reads them."""
    write_table(groups, counts.groups)
    write_table(tokens, counts.long)


def read_parts(groups: Sequence[Path], tokens: Sequence[Path], vocabulary: int) -> TokenCounts:
    """The counts of a corpus from those of its parts; AtlasError where none of them has text."""
    tables = zip(map(read_table, groups), map(read_table, tokens), strict=True)
    counts = merged((TokenCounts(*pair, vocabulary) for pair in tables), vocabulary)
    if not counts.documents:
        raise AtlasError("the corpus has no text", remedy="take files that hold text")
    return counts


def _empty(columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _types(columns).items()})


def _types(columns: Sequence[str]) -> dict[str, type]:
    return {name: object if name == "group" and columns is GROUP_COLUMNS else np.int64 for name in columns}
