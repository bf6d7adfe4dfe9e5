"""What pages draw of each analysis: which columns of which of its tables, as charts.yaml says.

The page draws a chart from the rows of the table that it holds anyway; this says only what goes where.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from weight_atlas.metrics import Metric, Table, of
from weight_atlas.pages.html.measures import SIZES

FILE = Path(__file__).with_name("charts.yaml")
# Metrics that a chart offers beside its own.
MOST_CHOICES = 60


class Chart(BaseModel):
    """One chart. kind: how its rows are drawn.

    lines: `y` by `x`, a line a value of `by`, medians where several rows fall together; curve: the same without dots.
    heat: `value` by `x` and `y`. bars: `y` a row, named by `label`, the `most` farthest from nothing, and of rows alike
    in the columns `one` only the farthest. points: `y` against `x`. stack: sums of `y` by `x` and `by`, or of the
    columns `several`. histogram: of `y`. tree: of the distances `value` between `x` and `y`.

    otherwise: the column that takes the place of `x` where no row has a value in that.
    The number that is drawn can be chosen among the table's metrics. beside: a column that is drawn as the null is.
    split: columns of which one value at a time is drawn, the one of `first` to begin with. label: what names a row.
    words: of a heat map, by axis, a column that says in words what stands at each of its places, such as a token.
    cell: the grid of the map that a click on a cell leads to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lines", "curve", "heat", "bars", "points", "stack", "histogram", "tree"]
    table: str
    x: str = ""
    y: str = ""
    value: str = ""
    otherwise: str = ""
    by: str = ""
    several: tuple[str, ...] = ()
    beside: str = ""
    split: tuple[str, ...] = ()
    first: dict[str, str] = {}
    label: tuple[str, ...] = ()
    words: dict[Literal["x", "y"], str] = {}
    most: int = 0
    one: tuple[str, ...] = ()
    cell: str = ""

    @property
    def columns(self) -> set[str]:
        """Every column that it names."""
        single = {self.x, self.otherwise, self.y, self.value, self.by, self.beside}
        return single.union(self.several, self.split, self.label, self.one, self.words.values()) - {""}

    @property
    def number(self) -> str:
        """The column that is drawn first."""
        return self.value or self.y or self.several[0]


class Drawn(BaseModel):
    """What is drawn of an analysis. pictures: patterns of the figures that pages show as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    charts: tuple[Chart, ...]
    pictures: tuple[str, ...] = ()


@cache
def drawn() -> dict[str, Drawn]:
    """By analysis, what is drawn of it; of one that is not among them pages show all figures."""
    return TypeAdapter(dict[str, Drawn]).validate_python(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def pictures(analysis: str, figures: Iterable[str]) -> list[str]:
    """Those figures of an analysis, by their links, that its page shows beside charts or in their place."""
    known = drawn().get(analysis)
    if known is None:
        return list(figures)
    return [each for each in figures if any(PurePosixPath(each).match(pattern) for pattern in known.pictures)]


def charts_of(analysis: str, tables: Mapping[str, tuple[Table, pd.DataFrame]]) -> list[dict[str, Any]]:
    """The charts of an analysis for the page, each with the key of the rows that it is drawn from.

    tables: by key, what the registry says of each and its rows. A chart without a number to draw is left out.
    """
    known = drawn().get(analysis)
    return [
        _for_page(chart, key, table, frame)
        for chart in (known.charts if known else ())
        for key, (table, frame) in tables.items()
        if table.name == chart.table and _can_be_drawn(chart, frame)
    ]


def _can_be_drawn(chart: Chart, frame: pd.DataFrame) -> bool:
    there = {chart.number, chart.x} - {""} <= set(frame.columns)
    return there and bool(np.isfinite(_numbers(frame[chart.number])).any())


def _for_page(chart: Chart, key: str, table: Table, frame: pd.DataFrame) -> dict[str, Any]:
    columns = set(frame.columns)
    if chart.otherwise and not frame[chart.x].notna().any():
        chart = chart.model_copy(update={"x": chart.otherwise})
    said = chart.model_dump(exclude_defaults=True, exclude={"table", "otherwise"})
    said = {
        name: value for name, value in said.items() if not isinstance(value, str) or name in OWN or value in columns
    }
    for name in ("split", "label", "several", "one"):
        if name in said:
            said[name] = [column for column in said[name] if column in columns]
    if "words" in said:
        said["words"] = {axis: column for axis, column in said["words"].items() if column in columns}
    choices = [] if chart.kind in ("stack", "tree") else _choices(chart, table, frame)
    return {**said, "key": key, **({"choose": choices} if len(choices) > 1 else {})}


OWN = ("kind", "cell")  # words of a chart that name no column


def _choices(chart: Chart, table: Table, frame: pd.DataFrame) -> list[str]:
    """The columns that may take the place of the chart's number, it among them."""
    beside = {bound for metric in table.metrics for bound in beside_of(metric)} | SIZES | {chart.x, chart.by}
    metrics = [
        metric.column for metric in table.metrics if metric.column not in beside or metric.column == chart.number
    ]
    found = [name for name in metrics if name in frame and np.isfinite(_numbers(frame[name])).any()]
    return found[:MOST_CHOICES]


def beside_of(metric: Metric) -> set[str]:
    """The columns that say something of a metric: its null, its bounds, its error."""
    return {each for each in (metric.null, metric.error, *(metric.interval or ())) if isinstance(each, str)}


def _numbers(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def faults() -> list[str]:
    """What charts name that the registry does not know."""
    return [
        f"{analysis}: {chart.table} has no column {column}"
        for analysis, each in drawn().items()
        for chart in each.charts
        for column in sorted(chart.columns - of(chart.table).columns)
    ]
