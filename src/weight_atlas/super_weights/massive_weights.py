"""The weights that write massive activations and those that remove them again, and what removing each of them does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.changes import zeroed
from weight_atlas.interventions.controls import matched_draws
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.residual_stream import residual_stages
from weight_atlas.live.windows import Windows
from weight_atlas.settings.super_weights import MassiveActivations
from weight_atlas.super_weights.massive_sites import EMBEDDING, REMOVED, Site
from weight_atlas.super_weights.stages import MassiveChannel
from weight_atlas.super_weights.variant_table import intervened

COLUMNS = (
    "channel", "effect", "layer", "site", "role", "component", "expert", "row", "column", "weight", "input_value",
    "contribution", "share", "participation_ratio", "value", "value_without", "delta_nll", "delta_nll_low",
    "delta_nll_high", "ratio", "null_draws", "null_median", "exceed_share",
)  # fmt: skip
WRITES, REMOVES = "writes", "removes"


@dataclass(frozen=True)
class MassiveWeight:
    """A weight that moves a massive activation at a site.

    contribution: to the residual stream; share: of what the site adds.
    """

    site: Site
    place: Coordinate
    weight: float
    input_value: float
    contribution: float
    share: float

    @property
    def effect(self) -> str:
        """Whether it writes the activation or removes it."""
        return REMOVES if self.site.event == REMOVED else WRITES


def weights_of(sites: Sequence[Site], everywhere: Sequence[int], *, min_share: float) -> list[MassiveWeight]:
    """The weights behind the events of some sites, each place once; one that writes and one that removes in turn.

    Of each event those that contribute `min_share` of what the site adds, the largest first; behind them, of events
    that are spread over many weights, the largest of each. everywhere: channels that are massive at many tokens: their
    column of the embedding is one weight of many rows.
    """
    found: dict[tuple[Coordinate, int], MassiveWeight] = {}
    for site in sites:
        strongest = site.written.strongest if site.event and site.written else ()
        for one in [*strongest[:1], *(each for each in strongest[1:] if each.share >= min_share)]:
            whole = site.site == EMBEDDING and site.massive.channel in everywhere and one.coordinate.role == "W_E"
            place = replace(one.coordinate, row=None) if whole else one.coordinate
            own = MassiveWeight(site, place, one.weight, one.input_value, one.share * site.added, one.share)
            found.setdefault((place, site.massive.channel), own)
    ordered = sorted(found.values(), key=lambda each: (-abs(each.contribution), str(each.place)))
    spread = [each for each in ordered if each.share < min_share]
    kinds = ([each for each in ordered if each.effect == effect and each not in spread] for effect in (WRITES, REMOVES))
    return [each for turn in zip_longest(*kinds) for each in turn if each is not None] + spread


def weight_table(
    live: Anatomy,
    windows: Windows,
    weights: Sequence[MassiveWeight],
    super_weights: Sequence[Coordinate],
    settings: MassiveActivations,
) -> tuple[pd.DataFrame, dict[Coordinate, float]]:
    """One row per weight (COLUMNS), and the factor on perplexity of removing each super weight.

    The first `removals` of the weights are set to zero one at a time, and of each matrix `draws` random weights nearest
    in size: delta_nll with its paired interval, and the share of the draws that does as much harm. value,
    value_without: of the activation after the weight's layer as it is and without the weight.
    """
    tested = list(dict.fromkeys(each.place for each in weights))[: settings.removals]
    plan = [Intervention("screened", zeroed([place]), target=number) for number, place in enumerate(tested)]
    for number, place in enumerate(tested):
        if place.row is not None:
            for draw, controls in enumerate(_controls(live, place, tested, settings), 1):
                plan.append(Intervention("random", zeroed(controls), target=number, draw=draw))
    first = len(plan)
    plan += [Intervention("single", zeroed([place])) for place in super_weights]
    # Where nothing is planned, the unchanged model need not be scored.
    effects = pd.DataFrame({"ratio": []})
    if plan:
        effects = intervened(live, windows, plan, batch_size=settings.batch_size).iloc[1:].reset_index(drop=True)
    factors = dict(zip(super_weights, effects.ratio[first:].tolist(), strict=True))
    rows = [_row(live, windows, each, effects.iloc[:first], tested) for each in weights]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"expert": "Int64"}), factors


def _controls(
    live: Anatomy, place: Coordinate, tested: Sequence[Coordinate], settings: MassiveActivations
) -> list[list[Coordinate]]:
    try:
        return matched_draws(live, [place], draws=settings.draws, seed=settings.seed, never=tested)
    except AtlasError:  # a matrix without places of its own, such as one that only a part of a fused one holds
        return []


def _row(
    live: Anatomy, windows: Windows, one: MassiveWeight, effects: pd.DataFrame, tested: Sequence[Coordinate]
) -> dict[str, Any]:
    site, place = one.site, one.place
    row = {
        **dict.fromkeys(COLUMNS),
        "channel": site.massive.channel,
        "effect": one.effect,
        "layer": site.layer,
        "site": site.site,
        "role": place.role,
        "component": place.component,
        "expert": place.expert,
        "row": place.row,
        "column": place.col,
        "weight": one.weight,
        "input_value": one.input_value,
        "contribution": one.contribution,
        "share": one.share,
        "participation_ratio": site.written.participation_ratio if site.written else None,
    }
    if place not in tested:
        return row
    own = effects[effects.candidate == tested.index(place)]
    removed, null = own[own.kind == "screened"].iloc[0], own[own.kind == "random"].delta_nll
    row |= {name: removed[name] for name in ("delta_nll", "delta_nll_low", "delta_nll_high", "ratio")}
    row["null_draws"] = len(null)
    if len(null):
        row |= {"null_median": null.median(), "exceed_share": (null >= removed.delta_nll).mean()}
    row["value"] = value_at(live, windows, site.massive, site.layer + 1)
    with edited(live, [zero(place)]):
        row["value_without"] = value_at(live, windows, site.massive, site.layer + 1)
    return row


def value_at(live: Anatomy, windows: Windows, massive: MassiveChannel, stage: int) -> float:
    """The value of a massive channel at its token after a stage, as the model is now."""
    stages = residual_stages(live, windows.ids[massive.window : massive.window + 1])
    return float(stages[stage][massive.position, massive.channel])
