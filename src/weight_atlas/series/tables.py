"""A series of checkpoints as tables: scalars over steps, drift, when super weights arise, and the story of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weight_atlas.comparison.drift import drift_by_role
from weight_atlas.metrics import Metric, metric
from weight_atlas.natural_order import short_names
from weight_atlas.series.arisen import arisen
from weight_atlas.series.course import course, trends
from weight_atlas.series.story import findings, headline

Optional = Sequence[pd.DataFrame | None]
# Metrics that the first figure and the page's table show, where the checkpoints have them; of the last one the rows of
# the unchanged model.
SHOWN = (
    "heavy_tail.alpha", "effective_rank.erank_relative", "effective_rank.stable_rank_relative",
    "heavy_tail.mp_spike_energy", "weight_statistics.std", "weight_statistics.kurtosis",
    "ablation_perplexity.perplexity",
)  # fmt: skip
UNCHANGED = "variant=baseline"


@dataclass(frozen=True)
class Series:
    """Tables of a series: of course.course and course.trends, drift by role and checkpoint, of arisen.arisen; and the
    summary: checkpoints, steps, headline and findings.
    """

    names: list[str]
    course: pd.DataFrame
    trends: pd.DataFrame
    drift: pd.DataFrame
    arisen: pd.DataFrame
    summary: dict[str, Any]


def series(
    scalars: Sequence[pd.DataFrame],
    drifts: Sequence[pd.DataFrame],
    detected: Optional,
    verified: Optional,
    models: Sequence[str],
    steps: Sequence[int],
) -> Series:
    """The tables of a series, from those of its checkpoints in order.

    scalars: of scalars.scalars; drifts: of drift.drift, of all but the first; detected, verified: see arisen.arisen;
    steps: [] where they are not known.
    """
    names = short_names(models)
    whole = course(scalars, names, steps)
    moved = _drift(drifts, names, steps)
    found = arisen(detected, verified, names, steps)
    told = trends(whole)
    told.insert(4, "shown", [_is_shown(row.metric, row.of) and row.checkpoints > 0 for row in told.itertuples()])
    summary = {
        "schema": 1,
        "models": list(models),
        "checkpoints": names,
        "steps": list(steps),
        "headline": headline(moved, told, found, names, steps),
        "findings": findings(moved, drifts, found, steps),
    }
    return Series(names, whole, told, moved, found, summary)


def _is_shown(name: str, of: str) -> bool:
    return name in SHOWN and ("variant=" not in of or UNCHANGED in of)


_DRIFT = ("change_previous", "cosine_previous", "equal_previous", "change_first", "cosine_first", "equal_first")


def _drift(drifts: Sequence[pd.DataFrame], names: Sequence[str], steps: Sequence[int]) -> pd.DataFrame:
    parts = []
    for number, table in enumerate(drifts, 1):
        part = drift_by_role(table)
        part.insert(0, "number", number)
        part.insert(1, "checkpoint", names[number])
        part.insert(2, "step", steps[number] if steps else pd.NA)
        parts.append(part)
    columns = ["number", "checkpoint", "step", "stack", "role", "tensors", "elements", "not_finite", "norm", *_DRIFT]
    empty = pd.DataFrame(columns=columns)
    whole = pd.concat(parts, ignore_index=True) if parts else empty
    return whole[columns].astype({"number": "int64", "step": "Int64"})


def shown(found: Series) -> list[tuple[str, str, pd.DataFrame]]:
    """Title, scale and rows of the metrics of the first figure."""
    rows = found.course[[_is_shown(*place) for place in zip(found.course["metric"], found.course["of"], strict=True)]]
    return _courses(rows, [metric(name) for name in SHOWN])


def of_analyses(found: Series) -> dict[str, list[tuple[str, str, pd.DataFrame]]]:
    """The same for the main table of each analysis, of the metrics that can be unusual, by the table's name.

    Of variants of a model the unchanged one.
    """
    table = found.course["metric"].str.rpartition(".")[0]
    made = {}
    for name, rows in found.course[~table.str.contains(".", regex=False)].groupby(table, sort=False):
        known = [metric(each) for each in rows["metric"].unique()]
        plain = rows[~rows["of"].str.contains("variant=") | rows["of"].str.contains(UNCHANGED)]
        drawn = _courses(plain, [each for each in known if each.direction != "none"])
        if drawn:
            made[str(name)] = drawn[:MOST]
    return made


# Panels of one figure.
MOST = 12


def _courses(rows: pd.DataFrame, metrics: Sequence[Metric]) -> list[tuple[str, str, pd.DataFrame]]:
    parts = [(each.label, each.scale, rows[(rows["metric"] == each.id) & rows["value"].notna()]) for each in metrics]
    return [part for part in parts if len(part[2])]
