"""The super experts of a mixture of experts removed, beside as many random experts of the same layers.

An expert is removed by setting what it adds to zero; the router is left as it is, so that its tokens lose its share.
Source: Su et al., arXiv 2507.23279.
"""

import numpy as np
import pandas as pd

from weight_atlas.interventions.changes import experts_zeroed
from weight_atlas.interventions.intervention import Impossible, Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.settings.ablations import SuperExperts


class NoExperts(Impossible):
    """The model has no mixture of experts: among other changes there is nothing to say of that."""


def super_expert_variants(live: Anatomy, experts: pd.DataFrame | None, settings: SuperExperts) -> list[Intervention]:
    """All super experts removed at once, and draws of other experts: in each layer as many as it has super experts.

    experts: a table of super_weights.expert_table, None for a model without experts. Where a layer has no others left,
    there are no draws.
    """
    if experts is None or experts.empty:
        raise NoExperts("the model has no mixture of experts")
    chosen = experts[experts.super_expert.astype(bool)]
    if chosen.empty:
        raise Impossible("none of its experts is a super expert")
    named = _places(chosen)
    count = "super expert" if len(named) == 1 else f"{len(named)} super experts"
    removed = Intervention("super_experts", experts_zeroed(live, named), name=f"{count} removed")
    draws = [_drawn(experts, settings.seed, draw) for draw in range(1, settings.draws + 1)]
    return [
        removed,
        *(
            Intervention("random_experts", experts_zeroed(live, places), draw=draw, name=f"random experts {draw}")
            for draw, places in enumerate(draws, start=1)
            if len(places) == len(named)
        ),
    ]


def _drawn(experts: pd.DataFrame, seed: int, draw: int) -> list[Coordinate]:
    """For each layer as many of its other experts as it has super experts, at random."""
    generator = np.random.default_rng([seed, draw])
    chosen: list[Coordinate] = []
    for _, layer in experts.groupby("layer", sort=True):
        others, count = layer[~layer.super_expert.astype(bool)], int(layer.super_expert.sum())
        if count:
            chosen += _places(others.iloc[sorted(generator.permutation(len(others))[:count])])
    return chosen


def _places(rows: pd.DataFrame) -> list[Coordinate]:
    return [
        Coordinate(int(row.layer), None, None, int(row.expert), component=row.component) for row in rows.itertuples()
    ]
