"""One rule applied to one table: the rows that are a finding, as one record."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas import metrics
from weight_atlas.findings.rules import Rule, fields_of
from weight_atlas.findings.views import VIEWS

# Rows that a sentence names; the record lists all.
NAMED = 3
# The keys that say where a number comes from, for tables whose rows are no tensors.
PLACE = ("stack", "layer", "component", "circuit", "role", "expert", "head", "channel", "token_id", "token")


def judged(name: str, rule: Rule, table: pd.DataFrame, explained: Collection[str] = ()) -> dict[str, Any] | None:
    """The finding of a rule in a table, or None.

    explained: places that graver findings name already. See gather.COLUMNS for the record; its evidence has no file
    yet, and its rows are those of the table, counted from 0.
    """
    table = table.reset_index(drop=True)
    rows = VIEWS[rule.view](table) if rule.view else table
    rows = rows.assign(_place=_places(rows, rule.table))
    rows = rows[~rows["_place"].isin(explained)]
    rows = rows[_true(rows, rule.of)] if rule.of else rows
    hits = rows[_true(rows, rule.when, looked_at=len(rows))] if len(rows) else rows
    if hits.empty:
        return None
    with np.errstate(all="ignore"):
        hits = hits.assign(_value=_number(hits, rule.value), _null=_number(hits, rule.null_expression))
        hits = hits.assign(_effect=(hits["_value"] / hits["_null"]).where(hits["_null"] != 0))
    hits = hits.sort_values("_value", ascending=rule.worst == "smallest", kind="stable")
    worst = hits.iloc[0]
    said = {
        "places": _listed(
            [_filled(rule.each or "{_place}", row, rule) for _, row in hits.head(NAMED).iterrows()], len(hits)
        ),
        "count": f"{len(hits):,}",
        "looked_at": f"{len(rows):,}",
        "value": _written(worst["_value"], rule),
        "null": _written(worst["_null"], rule),
        "effect": f"{worst['_effect']:.3g}",
    }
    return {
        "id": name,
        "grade": rule.grade,
        "analysis": metrics.of(rule.table).step,
        "place": worst["_place"],
        "places": hits["_place"].tolist(),
        "count": len(hits),
        "looked_at": len(rows),
        "value": float(worst["_value"]),
        "null_value": float(worst["_null"]),
        "effect": float(worst["_effect"]),
        "text": _filled(rule.text, worst, rule, said),
        "evidence": {"rows": hits.index.tolist()},
        "remedy": rule.remedy,
    }


def _places(rows: pd.DataFrame, name: str) -> pd.Series:
    """What each row is about: its tensor, or the keys of the table in words."""
    keys = metrics.of(name).keys
    if "id" in keys:
        return rows[keys["id"]].astype(str)
    given = [key for key in PLACE if key in keys]
    if not given:
        return pd.Series(rows.index.astype(str), index=rows.index)
    return rows.apply(
        lambda row: " ".join(f"{key} {_plain(row[keys[key]])}" for key in given if _has(row[keys[key]])), axis=1
    )


def _has(value: object) -> bool:
    return not pd.isna(value) and value != ""


def _true(rows: pd.DataFrame, expression: str, **names: Any) -> pd.Series:
    """The rows for which an expression holds; one that cannot be told, since a number is missing, does not hold."""
    told = rows.eval(expression, engine="python", local_dict=names)
    return pd.Series(told, index=rows.index).astype("boolean").fillna(False).astype(bool)


def _number(rows: pd.DataFrame, expression: str | float | None) -> pd.Series:
    value = rows.eval(expression, engine="python", local_dict={}) if isinstance(expression, str) else expression
    return pd.Series(np.nan if value is None else value, index=rows.index).astype(float)


def _filled(template: str, row: pd.Series, rule: Rule, said: dict[str, str] | None = None) -> str:
    """A template with the columns of a row as the registry writes them."""
    known = metrics.of(rule.table).by_column
    values = dict(said or {})
    for field in fields_of(template) - values.keys():
        value = row[field]
        values[field] = _metric(known.get(field), value)
    return template.format(**values)


def _written(value: float, rule: Rule) -> str:
    return _metric(metrics.of(rule.table).by_column.get(rule.value), value)


def _metric(metric: metrics.Metric | None, value: Any) -> str:
    """A value as its metric is written; whole numbers whole, though missing ones beside them made them floats."""
    if metric is None or pd.isna(value):
        return _plain(value) if metric is None else "missing"
    return metric.written(int(value) if metric.format == "," and float(value).is_integer() else value)


def _plain(value: Any) -> str:
    """A value that the registry does not know: whole numbers whole, others to four digits, texts as they are."""
    if not isinstance(value, float | np.floating):
        return str(value)
    number = float(value)
    return f"{int(number)}" if number.is_integer() and abs(number) < 1e6 else f"{number:.4g}"


def _listed(names: list[str], count: int) -> str:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return ", ".join(names) + more
