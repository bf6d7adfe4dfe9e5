"""What the cells of a map can be coloured by: every metric of the tables that have a row for each of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.metrics import Metric, Table, of
from weight_atlas.pages.html.encoding import packed
from weight_atlas.pages.html.grids import keys_of

# Values of the column that tells several rows of a cell apart (schemes, shares pruned) up to which each is a metric.
MOST_KINDS = 40
# Metrics that every table repeats.
SIZES = {"rows", "cols", "n", "n_heads", "head_dim", "parameters", "elements", "r"}


@dataclass(frozen=True)
class Measure:
    """A metric over the cells of a grid. of: which of a table's several rows a cell ("int4/group:128"), or "".

    values: one a cell, NaN where there is none; nulls: likewise, None for a metric without a null.
    """

    metric: Metric
    table: Table
    of: str
    values: np.ndarray
    nulls: np.ndarray | None

    @property
    def id(self) -> str:
        return f"{self.metric.id}:{self.of}" if self.of else self.metric.id

    @property
    def packed(self) -> dict[str, Any]:
        """The numbers for the page: `v`, and `n`, one null for all or one a cell."""
        if self.nulls is None:
            return {"v": packed(self.values)}
        known = self.nulls[~np.isnan(self.nulls)]
        one = len(known) and bool((known == known[0]).all())
        return {"v": packed(self.values), "n": _json_number(known[0]) if one else packed(self.nulls)}

    @property
    def about(self) -> dict[str, Any]:
        """What the page says of it."""
        about = {
            "id": self.id,
            "metric": self.metric.id,
            "title": f"{self.metric.title} · {self.of}" if self.of else self.metric.title,
            "group": self.table.part,
            "step": self.table.step,
            "label": self.metric.label,
            "format": self.metric.format,
            "direction": self.metric.direction,
            "scale": self.metric.scale,
            "definition": self.metric.definition,
            "reading": self.metric.reading,
            "null": self.nulls is not None,
            "count": int((~np.isnan(self.values)).sum()),
        }
        return {key: value for key, value in about.items() if value not in ("", False)}


def _json_number(value: float) -> Any:
    return float(value) if np.isfinite(value) else "inf" if value > 0 else "-inf"


def measures(grid: dict[str, Any], tables: Mapping[str, pd.DataFrame]) -> Iterator[Measure]:
    """Every metric of the tables whose rows are cells of the grid; of alike tables the fuller or later.

    A column that is the null or a bound of another is none by itself, and neither is one without any value.
    """
    rows = {name: found for name, frame in tables.items() if (found := _rows(grid, of(name), frame)) is not None}
    for name, frame in rows.items():
        if not _repeated(name, rows):
            yield from _of_table(of(name), frame, len(grid["cells"]["id"]))


def changes(grid: dict[str, Any], others: Mapping[str, pd.DataFrame]) -> Iterator[Measure]:
    """What tells a model's tensors apart from those of other models: the metrics of comparisons that can be unusual.

    others: by the other model's name, the table `comparison` with the column `id` of this model's tensors.
    """
    table, cells = of("comparison"), {name: number for number, name in enumerate(grid["cells"]["id"])}
    for other, frame in others.items():
        rows = frame.assign(_cell=frame["id"].map(cells)).dropna(subset="_cell")
        for metric in table.metrics:
            if metric.direction == "none" or metric.column not in rows:
                continue
            values = _spread(rows, pd.to_numeric(rows[metric.column], errors="coerce"), len(cells))
            if not np.isnan(values).all():
                null = metric.null_of(rows)
                nulls = None if null is None else _spread(rows, null, len(cells))
                yield Measure(metric, table, f"against {other}", values, nulls)


def _repeated(name: str, rows: dict[str, pd.DataFrame]) -> bool:
    """Whether another of these tables has all metrics of one, for no fewer cells: more of them, or it comes later."""

    def rank(table: str) -> tuple[int, int, int]:
        """How much of the metrics and cells a table has, and how late it comes."""
        metrics = len(set(of(table).by_column) - SIZES)
        return metrics, rows[table]["_cell"].nunique(), list(rows).index(table)

    own = set(of(name).by_column) - SIZES
    more = (other for other in rows if other != name and own <= set(of(other).by_column))
    return any(rank(other)[1] >= rank(name)[1] and rank(other) > rank(name) for other in more)


def _rows(grid: dict[str, Any], table: Table, frame: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of a table that are about cells, with the column `_cell`; None for a table of something else."""
    level = {metric.level for metric in table.metrics}
    kind = grid["kind"]
    if kind == "tensor":
        if "tensor" not in level or "id" not in table.keys or table.keys["id"] not in frame:
            return None
        whole = frame[frame[table.keys["head"]].isna()] if "head" in table.keys else frame
        cells = {name: number for number, name in enumerate(grid["cells"]["id"])}
        return whole.assign(_cell=whole[table.keys["id"]].map(cells)).dropna(subset="_cell")
    if kind not in level or kind not in frame or "layer" not in frame:
        return None
    known = frame[frame[kind].notna() & frame["layer"].notna()]
    cells = {key: number for number, key in enumerate(grid["keys"])}
    found = known.assign(_cell=[cells.get(key) for key in keys_of(known, kind)]).dropna(subset="_cell")
    return found if len(found) else None


def _of_table(table: Table, frame: pd.DataFrame, cells: int) -> Iterator[Measure]:
    beside = {
        column
        for metric in table.metrics
        for column in (metric.null, metric.error, *(metric.interval or ()))
        if isinstance(column, str)
    }
    by = _told_apart_by(table, frame)
    if by == "":
        return
    parts = [("", frame)] if by is None else [(str(value), part) for value, part in frame.groupby(by, sort=False)]
    if len(parts) > MOST_KINDS:
        return
    for metric in table.metrics:
        if metric.column in beside or metric.column in SIZES or metric.column not in frame or metric.column == by:
            continue
        if by is not None and metric.direction == "none":
            continue
        for kind, part in parts:
            values = _spread(part, pd.to_numeric(part[metric.column], errors="coerce"), cells)
            if not np.isnan(values).all():
                null = metric.null_of(part) if not isinstance(metric.null, str) or metric.null in part else None
                yield Measure(metric, table, kind, values, None if null is None else _spread(part, null, cells))


def _told_apart_by(table: Table, frame: pd.DataFrame) -> str | None:
    """The column that tells several rows of a cell apart; None if there is one row each, "" without such a column."""
    if not frame["_cell"].duplicated().any():
        return None
    keys = [table.keys[key] for key in ("circuit", "kind") if key in table.keys]
    for column in [*keys, *table.words, *table.by_column]:
        if column not in frame or frame.duplicated(["_cell", column]).any():
            continue
        # Each value is of most cells: a number that differs everywhere tells nothing apart.
        if 2 * len(frame) >= frame[column].nunique() * frame["_cell"].nunique():
            return column
    return ""


def _spread(rows: pd.DataFrame, values: pd.Series, cells: int) -> np.ndarray:
    found = np.full(cells, np.nan)
    found[rows["_cell"].to_numpy(dtype=int)] = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return found
