"""The scalars of an atlas: every number of a model's products that the registry of metrics knows, by role."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_json, read_table
from weight_atlas.errors import NotApplicable
from weight_atlas.metrics import Metric, Table, table_of

# Levels of which a model has few rows, or many that are alike: tensors and heads of a role. A single token, neuron or
# window is none of them, nor a weight.
LEVELS = {
    "model", "stack", "role", "phase", "layer", "tensor", "head", "expert", "component", "corpus", "task", "variant",
}  # fmt: skip
# Keys that tell numbers of one metric apart; over the others, such as layers, a scalar is the median.
KEPT = (
    "stack", "role", "circuit", "kind", "phase", "corpus", "ablation", "variant", "factor", "task", "subtask", "metric",
    "filter", "class", "group", "probability",
)  # fmt: skip
COLUMNS = {
    "metric": "str", "stack": "str", "role": "str", "of": "str", "level": "str", "rows": "int64", "n": "int64",
    "value": "float64", "low": "float64", "high": "float64", "null": "float64",
}  # fmt: skip


def scalars(products: Iterable[Path], results: Path) -> pd.DataFrame:
    """One row a metric, stack, role and what else tells numbers apart (of: "corpus=text, variant=baseline").

    products: tables and JSON files of one model below the folder of results; those without a place in the registry are
    left out, and so are nulls, bounds and errors of other metrics. value: median over `n` of `rows` rows of the table,
    those with a finite value that is to be trusted; low, high: their quartiles; null: the median of the nulls of these.
    """
    parts = []
    for path in products:
        relative = path.relative_to(results).as_posix()
        table = table_of(relative)
        if table is None or not (wanted := _wanted(table)):
            continue
        try:
            found = _of_json(path, wanted) if path.suffix == ".json" else _of_table(read_table(path), table, wanted)
        except NotApplicable:
            continue
        named = ", ".join(f"{key}={value}" for key, value in _wildcards(relative, table).items())
        parts.append(found.assign(of=[", ".join(filter(None, (named, of))) for of in found["of"]]))
    whole = pd.concat([pd.DataFrame(columns=list(COLUMNS)), *parts], ignore_index=True)[list(COLUMNS)]
    return whole.astype(COLUMNS)


def _wanted(table: Table) -> list[Metric]:
    """The metrics of a table that are scalars of their own: no null, bound or error of another."""
    beside = {each.null for each in table.metrics} | {each.error for each in table.metrics}
    beside |= {bound for each in table.metrics for bound in each.interval or ()}
    return [each for each in table.metrics if each.level in LEVELS and each.column not in beside]


def _wildcards(relative: str, table: Table) -> dict[str, str]:
    """The values of the wildcards in the name of a table's file that no column of it says again."""
    names = re.findall(r"\{(\w+)\}", table.file)
    values = re.fullmatch(re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(table.file)), relative)
    found = dict(zip(names, values.groups(), strict=True)) if values else {}
    return {key: value for key, value in found.items() if key in KEPT and key not in table.keys}


def _of_json(path: Path, wanted: Sequence[Metric]) -> pd.DataFrame:
    content, rows = read_json(path), []
    for metric in wanted:
        value = _number(metric.value_in(content))
        null = metric.null
        if isinstance(null, str):
            null = next((_number(each.value_in(content)) for each in [_column(metric, null)]), None)
        rows.append(_row(metric, value, _number(null)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _column(metric: Metric, column: str) -> Metric:
    """A column of the same table, to be read like a metric."""
    return Metric(column, column, column, metric.unit, metric.level)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _row(metric: Metric, value: float, null: float) -> dict[str, Any]:
    place = {"metric": metric.id, "stack": "", "role": "", "of": "", "level": metric.level}
    return {**place, "rows": 1, "n": int(np.isfinite(value)), "value": value, "low": value, "high": value, "null": null}


def _of_table(frame: pd.DataFrame, table: Table, wanted: Sequence[Metric]) -> pd.DataFrame:
    keys = {key: table.keys[key] for key in KEPT if key in table.keys and table.keys[key] in frame}
    # Texts are made of the few places that differ: a table of pairs of heads has millions of rows.
    columns = list(dict.fromkeys(keys.values()))
    of_row = pd.Series(0, index=frame.index)
    if columns:
        of_row = frame.groupby(columns, sort=False, dropna=False).ngroup()
    differing = frame[~of_row.duplicated()].reset_index(drop=True)
    texts = pd.DataFrame({key: differing[column].map(_text) for key, column in keys.items()}, index=differing.index)
    names = texts.drop(columns=["stack", "role"], errors="ignore")
    of = [", ".join(f"{key}={value}" for key, value in row.items() if value) for row in names.to_dict("records")]
    place = pd.DataFrame({"of": of or [""] * len(differing)}, index=differing.index)
    for key in ("stack", "role"):
        place[key] = texts.get(key, "")
    groups = place.groupby(["stack", "role", "of"], sort=False)
    told, first = groups.ngroup(), place.drop_duplicates()
    number = of_row.map(dict(zip(of_row.drop_duplicates(), told, strict=True))).astype("int64")
    parts = [_medians(frame, metric, number, first) for metric in wanted if metric.column in frame]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _medians(frame: pd.DataFrame, metric: Metric, number: pd.Series, first: pd.DataFrame) -> pd.DataFrame:
    """One row a group of a table's rows, by the groups' numbers; first: the place of each group, in that order."""
    values = pd.to_numeric(frame[metric.column], errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    if metric.trusted:
        values = values.where(frame.eval(metric.trusted))
    null = metric.null_of(frame)
    beside = pd.Series(np.nan, index=frame.index) if null is None else null.where(values.notna())
    by = values.groupby(number)
    quartiles = {name: by.quantile(share) for name, share in (("low", 0.25), ("value", 0.5), ("high", 0.75))}
    counts = {"rows": number.groupby(number).size(), "n": by.count(), "null": beside.groupby(number).median()}
    found = pd.DataFrame({**counts, **quartiles}).reset_index(drop=True)
    places = first.reset_index(drop=True)
    return found.assign(metric=metric.id, level=metric.level, **{key: places[key] for key in ("stack", "role", "of")})


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
