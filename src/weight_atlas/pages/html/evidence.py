"""The small chart beside a finding: all values that its rule looked at on one line, its own in colour."""

from typing import Any

import numpy as np
import pandas as pd

from weight_atlas import metrics
from weight_atlas.findings.rules import Rule, rules
from weight_atlas.findings.views import LISTS, VIEWS
from weight_atlas.metrics import Metric
from weight_atlas.pages.html.encoding import json_text

WIDTH, MARGIN, MOST_DOTS = 320, 8, 240


def strip(finding: dict[str, Any], tables: dict[str, pd.DataFrame]) -> dict[str, Any] | None:
    """The chart of a finding: dots (x, y, hit) in a drawing WIDTH wide, the place of the null, and what is at its ends.

    tables: by their paths below the results. None where the finding rests on a single number without a null.
    """
    file, rows = finding["evidence"]["file"], finding["evidence"]["rows"]
    rule = rules().get(finding["id"])
    looked_at = _looked_at(rule, tables[file]) if rule is not None and file in tables else None
    if rule is None or looked_at is None:
        chart = _of_two(finding)
        return chart and {**chart, **({"title": rule.number} if rule else {})}
    metric = metrics.of(rule.table).by_column.get(rule.value)
    hits = looked_at.index.isin(rows)
    chart = _drawn(looked_at.to_numpy(dtype=np.float64, na_value=np.nan), hits, finding["null_value"], metric)
    return chart and {**chart, "title": metric.label if metric else rule.number}


def _looked_at(rule: Rule, table: pd.DataFrame) -> pd.Series | None:
    """The number that a rule rests on for all rows it looks at, by their places; None where a page has not all of them.

    Some rules read lists as large as the weights, which pages leave to the step that judges.
    """
    if not set(LISTS.get(rule.view or "", ())) <= set(table.columns):
        return None
    table = table.reset_index(drop=True)
    rows = VIEWS[rule.view](table) if rule.view else table
    rows = rows[rows.eval(rule.of, engine="python").fillna(False).astype(bool)] if rule.of else rows
    values = rows.eval(rule.value, engine="python")
    return pd.to_numeric(pd.Series(values, index=rows.index), errors="coerce")


def _of_two(finding: dict[str, Any]) -> dict[str, Any] | None:
    """The finding's number beside its null."""
    value, null = finding["value"], finding["null_value"]
    if value is None or null is None or not np.isfinite([value, null]).all() or value == null:
        return None
    name = finding["evidence"].get("metric")
    return _drawn(np.array([value]), np.array([True]), null, metrics.metric(name) if name else None)


def _drawn(values: np.ndarray, hits: np.ndarray, null: float | None, metric: Metric | None) -> dict[str, Any] | None:
    keep = np.isfinite(values)
    values, hits = values[keep], hits[keep]
    null = null if null is not None and np.isfinite(null) else None
    if not len(values):
        return None
    every = np.append(values, null) if null is not None else values
    logarithmic = bool((every > 0).all()) and (
        (metric is not None and metric.scale == "log") or every.max() > 1000 * every.min()
    )
    low, high = float(every.min()), float(every.max())

    def place(value: float) -> float:
        if high == low:
            return WIDTH / 2
        share = np.log(value / low) / np.log(high / low) if logarithmic else (value - low) / (high - low)
        return round(float(MARGIN + share * (WIDTH - 2 * MARGIN)), 1)

    others = np.flatnonzero(~hits)
    others = others[np.argsort(values[others], kind="stable")]
    others = others[:: max(1, -(-len(others) // MOST_DOTS))]
    shown = [*others, *np.flatnonzero(hits)[:MOST_DOTS]]
    # Dots of equal values lie above each other, at heights that look like chance and are none.
    return {
        "dots": [(place(values[each]), round(12 + 14 * (each * 0.618 % 1), 1), bool(hits[each])) for each in shown],
        "null": None if null is None else place(null),
        "null_said": None if null is None else _said(null, metric),
        "low": _said(low, metric),
        "high": _said(high, metric),
        "title": metric.label if metric else "value",
        "metric": metric.id if metric else "",
        "logarithmic": logarithmic,
        "values": json_text([float(f"{value:.7g}") for value in values[hits][:8]]),
    }


def _said(value: float, metric: Metric | None) -> str:
    if metric is None or (metric.format == "," and not float(value).is_integer()):
        return format(value, ".4g")
    return metric.written(int(value) if metric.format == "," else value)
