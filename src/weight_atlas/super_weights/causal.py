"""What the strongest weights of experts do to the loss, as the router sends tokens and with every token sent there."""

import math

import pandas as pd

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.scoring import score_windows
from weight_atlas.live.windows import Windows
from weight_atlas.statistics.paired import paired_difference
from weight_atlas.super_weights.aftermath import interventional_impact


def with_causal_scores(
    live: Anatomy, windows: Windows, experts: pd.DataFrame, *, batch_size: int, most: int = 10
) -> pd.DataFrame:
    """Add impact_natural and impact_interventional, nats per token, for the `most` weights that contribute most.

    natural: zeroing the weight as the router sends tokens. interventional: the same with every token sent to the
    expert in both arms; of stacked experts only. Empty for the others.
    """
    scored = experts.assign(impact_natural=math.nan, impact_interventional=math.nan)
    seen = experts[experts.tokens > 0]
    if seen.empty:
        return scored
    intact = score_windows(live, windows, batch_size=batch_size)
    for row in seen.nlargest(most, "contribution_ratio", keep="first").itertuples():
        place = Coordinate(row.layer, int(row.row), int(row.column), row.expert, component=row.component)
        with edited(live, [zero(place)]):
            zeroed = score_windows(live, windows, batch_size=batch_size)
        scored.loc[row.Index, "impact_natural"] = paired_difference(intact, zeroed)[0]
        if live.projection(place).stacked:
            forced = interventional_impact(live, windows, place, batch_size=batch_size)
            scored.loc[row.Index, "impact_interventional"] = forced
    return scored
