"""Outliers of the screening, tried by removal: large weights that no massive activation led to.

The detection looks where activations grow and last. A weight of the last layer, or one that matters without a massive
activation, is not seen there, but it is an outlier of its matrix. Each of the largest is removed once, which costs one
pass; those that do harm, or may, become candidates of the verification.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.changes import zeroed
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import value_at
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.verification import costly, intervened

# An outlier is this many times as large as the largest of as many Gaussian numbers, which happens by chance with a
# probability of n * n^-4.
STANDS_OUT = 2.0
RECORD = ("layer", "row", "column", "component", "expert", "size", "gaussian_size")


@dataclass(frozen=True)
class Trial:
    """Effects of removing the outliers one at a time.

    table: one row each: layer, row, column, component, expert, size, gaussian_size, delta_nll, delta_nll_low, ratio.
    variants: the same as rows of the verification, of kind "screened". suspects: those whose removal costs enough,
    be it certain or not. left: how many more stand out and were not tried.
    """

    table: pd.DataFrame
    variants: pd.DataFrame
    suspects: tuple[Coordinate, ...]
    left: int


def try_outliers(
    live: Anatomy,
    windows: Windows,
    screening: pd.DataFrame,
    known: Sequence[Coordinate],
    *,
    most: int,
    ratio: float,
    batch_size: int,
) -> Trial:
    """Remove the weights of a screening that stand out from their matrices, each alone, the largest first.

    known: candidates that are verified anyway. most: how many are tried. ratio: of perplexity, from which on a weight
    is suspected.
    """
    places = outliers(live, screening, known)
    tried, left = places[:most], len(places) - len(places[:most])
    if not tried:
        return Trial(pd.DataFrame(columns=[*RECORD, "delta_nll", "delta_nll_low", "ratio"]), pd.DataFrame(), (), left)
    plan = [Intervention("screened", zeroed([place])) for place, _ in tried]
    variants = intervened(live, windows, plan, batch_size=batch_size).iloc[1:].reset_index(drop=True)
    table = pd.DataFrame([{name: getattr(row, name) for name in RECORD} for _, row in tried])
    table = pd.concat([table, variants[["delta_nll", "delta_nll_low", "ratio"]]], axis=1)
    suspects = [place for (place, _), row in zip(tried, variants.itertuples(), strict=True) if costly(row, ratio)]
    return Trial(table, variants, tuple(suspects), left)


def outliers(live: Anatomy, screening: pd.DataFrame, known: Sequence[Coordinate]) -> list[tuple[Coordinate, Any]]:
    """The weights of a screening that stand out, with their rows, the farthest out first; known ones are left out."""
    far = screening[screening["size"] >= STANDS_OUT * screening.gaussian_size]
    far = far.assign(far=far["size"] / far.gaussian_size).sort_values("far", ascending=False, kind="stable")
    found = []
    for row in far.itertuples():
        place = _live_place(live, row)
        if place is not None and place not in known:
            found.append((place, row))
    return found


def _live_place(live: Anatomy, row: Any) -> Coordinate | None:
    """The coordinate of a stored weight in the live model; None where the live model holds another value there."""
    expert = None if pd.isna(row.expert) else int(row.expert)
    shared = "shared" in str(row.component)
    here = [
        projection
        for projection in live.projections
        if projection.layer == row.layer and projection.shared_expert == shared
        and (expert is not None if projection.stacked else projection.expert == expert)
    ]  # fmt: skip
    if len(here) != 1:
        return None
    place = here[0].coordinate(row.row, row.column, expert)
    try:
        value = value_at(live, place)
    except (AtlasError, IndexError):
        return None
    # The live model may compute in fewer bits than are stored.
    return place if abs(value - row.weight) <= 0.01 * abs(row.weight) else None
