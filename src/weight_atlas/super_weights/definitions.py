"""Which published definitions of massive activations, super weights and super experts apply, with the numbers of each.

Sun et al., "Massive Activations in Large Language Models" (arXiv 2402.17762): |h| above 100 and 1000 times the median.
Yu et al., "The Super Weight in Large Language Models" (arXiv 2411.07191): a super weight is a single weight of an MLP
output projection whose removal wrecks the model; the super activation that it writes lasts through the layers above and
is gone without it. Su et al., "Super Experts" (arXiv 2507.23279): experts whose output projection gives more than the
99.5th percentile of all experts and a tenth of the largest, in layers where massive activations form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.windows import Windows
from weight_atlas.statistics.severity import severity
from weight_atlas.super_weights.calibration import Seen, calibrate, experts_of
from weight_atlas.super_weights.expert_table import super_experts
from weight_atlas.super_weights.massive_activations import persistence_after
from weight_atlas.super_weights.massive_sites import ARISES, NORM, Site
from weight_atlas.super_weights.stages import MassiveChannel, Peaks
from weight_atlas.super_weights.super_activations import SUN_LEAST, SUN_RATIO

COLUMNS = (
    "definition", "source", "applies", "place", "layer", "channel", "value", "ratio", "persistence", "remaining",
    "perplexity_ratio", "reason",
)  # fmt: skip
MASSIVE, ACTIVATION, WEIGHT, EXPERT = "massive activation", "super activation", "super weight", "super expert"
SOURCES = {
    MASSIVE: "Sun et al. 2024", ACTIVATION: "Yu et al. 2024", WEIGHT: "Yu et al. 2024", EXPERT: "Su et al. 2025",
}  # fmt: skip
# Of the layers above, those that keep a super activation, and what is left of it without the super weights, at most.
LASTING, GONE = 0.5, 0.5


def definition_table(
    live: Anatomy,
    windows: Windows,
    peaks: Peaks,
    sites: Sequence[Site],
    super_weights: Sequence[Coordinate],
    remaining: Mapping[int, float],
    factors: Mapping[Coordinate, float],
    *,
    ratio: float,
) -> pd.DataFrame:
    """A row for each thing that a definition is about, COLUMNS: yes or no, and for a no the first condition that fails.

    sites: of the traced channels. remaining: of each channel, what is left of it without the super weights. factors:
    on perplexity, of removing each super weight. ratio: see Calibration.forming. Where a definition has nothing to be
    about, its row has the largest that there is.
    """
    activations = [_super_activation(own, super_weights, remaining) for own in _by_channel(sites)]
    rows = [_massive(peaks, each) for each in _traced(sites)] or [_largest(peaks)]
    rows += activations or [_absent(ACTIVATION, "no channel is massive")]
    written = {row["channel"] for row in activations if row["applies"]}
    rows += [_super_weight(each, written, factors) for each in super_weights] or [
        _absent(WEIGHT, "no super weight was detected")
    ]
    rows += _super_experts(live, windows, ratio)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table["source"] = table.definition.map(SOURCES)
    return table.astype({"layer": "Int64", "channel": "Int64"})


def _absent(definition: str, reason: str) -> dict[str, Any]:
    return {"definition": definition, "applies": False, "place": "", "reason": reason}


def _traced(sites: Sequence[Site]) -> list[MassiveChannel]:
    return list(dict.fromkeys(site.massive for site in sites))


def _by_channel(sites: Sequence[Site]) -> list[list[Site]]:
    return [[site for site in sites if site.massive == each] for each in _traced(sites)]


def _massive(peaks: Peaks, massive: MassiveChannel) -> dict[str, Any]:
    values, ratios = np.abs(peaks.value[: peaks.layers + 1, massive.channel]), peaks.stream[:, massive.channel]
    both = (values > SUN_LEAST) & (ratios > SUN_RATIO)
    stage = int(np.where(both, ratios, 0).argmax()) if both.any() else massive.stage
    return _of_sun(values[stage], ratios[stage], stage, massive.channel)


def _largest(peaks: Peaks) -> dict[str, Any]:
    stage, channel = np.unravel_index(peaks.stream.argmax(), peaks.stream.shape)
    return _of_sun(abs(peaks.value[stage, channel]), peaks.stream[stage, channel], int(stage), int(channel))


def _of_sun(value: float, ratio: float, stage: int, channel: int) -> dict[str, Any]:
    reason = "" if value > SUN_LEAST else f"|h| is at most {SUN_LEAST:.0f}"
    reason = reason or ("" if ratio > SUN_RATIO else f"at most {SUN_RATIO:,.0f} times the median")
    where = {"place": f"channel {channel}", "layer": stage - 1, "channel": channel}
    return {"definition": MASSIVE, "applies": not reason, **where, "value": value, "ratio": ratio, "reason": reason}


def _super_activation(
    sites: Sequence[Site], super_weights: Sequence[Coordinate], remaining: Mapping[int, float]
) -> dict[str, Any]:
    massive = sites[0].massive
    ends = {site.layer: site.after for site in sites if site.site != NORM}
    trace = np.array([ends[layer] for layer in sorted(ends)])
    arisen = next(site.layer for site in sites if site.event == ARISES)
    lasting, left = persistence_after(trace, arisen), remaining.get(massive.channel)
    if not any(place.row == massive.channel for place in super_weights):
        reason = "no detected super weight writes it"
    elif lasting < LASTING:
        reason = "it does not last through the layers above"
    else:
        reason = "" if left is not None and left <= GONE else "it stays without the super weights"
    return {
        "definition": ACTIVATION,
        "applies": not reason,
        "place": f"channel {massive.channel}",
        "layer": arisen,
        "channel": massive.channel,
        "value": abs(massive.value),
        "ratio": massive.ratio,
        "persistence": lasting,
        "remaining": left,
        "reason": reason,
    }


def _super_weight(place: Coordinate, written: set[int], factors: Mapping[Coordinate, float]) -> dict[str, Any]:
    factor = factors[place]
    reason = "" if place.row in written else "what it writes is no super activation"
    if not reason and severity(factor) != "catastrophic":
        reason = "its removal does not multiply perplexity by more than 10"
    where = {"place": str(place), "layer": place.layer, "channel": place.row}
    return {"definition": WEIGHT, "applies": not reason, **where, "perplexity_ratio": factor, "reason": reason}


def _super_experts(live: Anatomy, windows: Windows, ratio: float) -> list[dict[str, Any]]:
    experts = experts_of(live)
    if not experts:
        return [_absent(EXPERT, "the model has no experts")]
    calibration = calibrate(live, windows)
    table = pd.DataFrame(
        {
            "layer": [projection.layer for projection, _ in experts],
            "expert": [expert for _, expert in experts],
            "value": [calibration.seen.get((one.name, expert), Seen()).max_output for one, expert in experts],
        }
    )
    table["ratio"] = table.value / table.value.quantile(0.995)
    table["applies"] = super_experts(table.assign(max_output=table.value), calibration.forming(ratio))
    chosen = table[table.applies] if table.applies.any() else table.nlargest(1, "value")
    reason = "not above the percentile, or no massive activation forms in its layer"
    return [
        {
            "definition": EXPERT,
            "applies": bool(row.applies),
            "place": f"layer {row.layer} expert {row.expert}",
            "layer": row.layer,
            "value": row.value,
            "ratio": row.ratio,
            "reason": "" if row.applies else reason,
        }
        for row in chosen.itertuples()
    ]
