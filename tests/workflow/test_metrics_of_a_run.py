"""Every number of the default run's products is in the registry of metrics, and the registry has no others."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.api import types

from weight_atlas import metrics
from weight_atlas.artifacts import read_table
from weight_atlas.errors import NotApplicable
from weight_atlas.metrics.metric import COUNTED

pytestmark = pytest.mark.slow


def frames(results: Path) -> Iterator[tuple[str, metrics.Table, pd.DataFrame]]:
    """Each csv and parquet product that holds something: path, table of the registry, content."""
    for path in sorted(path for path in results.rglob("*") if path.suffix in (".csv", ".parquet")):
        name = path.relative_to(results).as_posix()
        table = metrics.table_of(name)
        assert table is not None, f"{name} is in no YAML file of weight_atlas/metrics"
        try:
            yield name, table, read_table(path)
        except NotApplicable:
            continue


# The default model has no experts (see tests/unit/test_metrics.py), its token weights no training run, its corpus is
# not counted in parts, nothing asks for recipes and no model is streamed; one model makes no pair (see
# test_comparison_tables.py).
NOT_IN_THE_DEFAULT_RUN = (
    "expert_routing", "token_weight_evolution", "token_counts_part", "quantization_recipe", "input_second_moments",
    "recipe_perplexity", "comparison_part", "comparison", "side_by_side", "scalars", "drift", "series",
    "weight_sketch", "lineage", "super_weight_inheritance", "stream_part",
)  # fmt: skip


def kind(values: pd.Series) -> str:
    """What a column with values holds."""
    if types.is_bool_dtype(values) or not types.is_numeric_dtype(values):
        first = values.dropna().iloc[0]
        return "word" if isinstance(first, str | bool) or types.is_bool_dtype(values) else "list"
    return "number"


def test_every_column_is_registered_as_what_it_is(finished):
    for name, table, content in frames(finished.folder / "results"):
        assert set(content.columns) - table.columns == set(), name
        for column in content.columns[content.notna().any()]:
            place = {"word": table.words, "number": table.by_column, "list": table.lists}[kind(content[column])]
            assert column in {*place, *table.keys.values()}, (name, column)


def test_every_registered_column_is_in_a_product(finished):
    """Except those that the registry says only some models have."""
    seen: dict[str, set[str]] = {}
    for _, table, content in frames(finished.folder / "results"):
        seen.setdefault(table.name, set()).update(content.columns)
    for table in metrics.tables().values():
        if table.file.endswith(".json") or table.step in NOT_IN_THE_DEFAULT_RUN:
            continue
        sometimes = {metric.column for metric in table.metrics if metric.when}
        if table.name not in seen and sometimes == set(table.by_column):
            continue  # the whole table is what only some models have
        assert table.columns - seen.get(table.name, set()) <= sometimes, table.name


def numbers(content: dict, words: dict[str, str], place: str = "") -> Iterator[str]:
    """Dotted names of all numbers of a JSON file, without the parts that the registry explains as a whole."""
    for key, value in content.items():
        name = f"{place}{key}"
        if isinstance(value, dict) and name not in words:
            yield from numbers(value, words, f"{name}.")
        elif not isinstance(value, bool | str | list) and name not in words:
            yield name


def test_registered_json_files_hold_these_numbers(finished):
    known = [table for table in metrics.tables().values() if table.file.endswith(".json")]
    tables = [table for table in known if table.step not in NOT_IN_THE_DEFAULT_RUN]
    assert {"heavy_tail.summary", "token_counts.summary"} <= {table.name for table in tables}
    for table in tables:
        (path,) = (finished.folder / "results").glob(table.file.format(model="demo", corpus="*"))
        assert set(numbers(json.loads(path.read_text()), table.words)) == set(table.by_column), table.name


def test_nulls_and_bounds_lie_beside_their_metric(finished):
    """A bound on the wrong side, or a null of another quantity, is a wrong name in the registry."""
    compared = 0
    for name, table, content in frames(finished.folder / "results"):
        for metric in table.metrics:
            if metric.interval and metric.column in content:
                rows = content[[metric.column, *metric.interval]].dropna().astype(float)
                low, value, high = (rows[column] for column in (metric.interval[0], metric.column, metric.interval[1]))
                slack = 1e-9 * (1 + value.abs())
                assert ((low <= value + slack) & (value <= high + slack)).all(), (name, metric.column)
                compared += len(rows)
    assert compared > 50


# What a unit allows; all else may have any value.
BOUNDS = {
    "share": (0, 1), "probability": (0, 1), "correlation": (-1, 1), "perplexity": (1, np.inf), "weight^2": (0, np.inf),
    "bits": (0, np.inf), **dict.fromkeys(COUNTED, (0, np.inf)),
}  # fmt: skip


def test_values_lie_where_their_unit_says(finished):
    for name, table, content in frames(finished.folder / "results"):
        for metric in table.metrics:
            if metric.column not in content:
                continue
            values = content[metric.column].dropna().astype(float)
            low, high = BOUNDS.get(metric.unit, (-np.inf, np.inf))
            assert values.between(low - 1e-9, high + 1e-9).all(), (name, metric.column, metric.unit)
            finite = values[np.isfinite(values)]
            assert metric.unit not in COUNTED or (finite % 1 == 0).all(), (name, metric.column, metric.unit)
