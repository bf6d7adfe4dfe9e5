"""What is said of massive activations: where they come and go, which weights matter, sinks, published definitions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.live.anatomy import Coordinate
from weight_atlas.ratios import times, written
from weight_atlas.statistics.severity import severity
from weight_atlas.super_weights.massive_sites import ARISES, EMBEDDING, GROWS, REMOVED
from weight_atlas.super_weights.massive_weights import REMOVES

_SITES = "massive_activations.ratio"  # of the registry of metrics
# A head that gives its sink this much attention, and more than this many times what uniform attention would give.
SINK_SHARE, SINK_RATIO = 0.3, 3.0
# Value vectors at a sink that are smaller than this share of the others'.
DRAIN = 0.5
# As many weights share an effect before it is called spread.
FEW = 2
# Things named in a sentence.
MOST = 4
# Of the random weights that are removed for comparison, those that do as much harm, at most.
SPECIAL = 0.1


def massive_findings(
    sites: pd.DataFrame,
    weights: pd.DataFrame,
    heads: pd.DataFrame | None,
    definitions: pd.DataFrame,
    left_out: int,
    ratio: float,
    verified: Sequence[Coordinate],
) -> list[dict[str, Any]]:
    """Findings of one model: grade, text, and value, null_value, their metric, place and remedy where there are such.

    verified: weights that super_weight_verification judges, on more text than there is here.
    """
    known = {(each.layer, each.role, each.row, each.col) for each in verified}
    places = zip(weights.layer, weights.role, weights.row, weights.column, strict=True)
    own = weights.loc[np.array([place not in known for place in places], dtype=bool)]
    found = [*_of_weights(own), _of_sites(sites, definitions, left_out, ratio)]
    return [*found, *([] if heads is None else [_of_sinks(heads)]), _of_definitions(definitions)]


def _of_sites(sites: pd.DataFrame, definitions: pd.DataFrame, left_out: int, ratio: float) -> dict[str, Any]:
    if sites.empty:
        largest = definitions.iloc[0]
        where = _after(largest.layer)
        return {
            "grade": "info",
            "text": f"No massive activation: of all channels {largest.channel} is largest beside its median, "
            f"{written(largest.ratio)} times, {where}; massive would be {written(ratio)} times.",
            "value": float(largest.ratio),
            "null_value": ratio,
            "metric": _SITES,
        }
    told = [_course(channel, part) for channel, part in sites.groupby("channel", sort=False)]
    more = f"; and {len(told) - MOST + left_out} channels more" if len(told) + left_out > MOST else ""
    plural = "s" if len(told) + left_out > 1 else ""
    text = f"Massive activation{plural}: {'; '.join(told[:MOST])}{more}."
    return {"grade": "info", "text": text, "value": float(sites.ratio.max()), "null_value": ratio, "metric": _SITES}


def _course(channel: Any, part: pd.DataFrame) -> str:
    """The way of one channel: where it arises, grows and is removed."""
    row = part[part.event == ARISES].iloc[0]
    grown, removed = (part[part.event == event] for event in (GROWS, REMOVED))
    text = f"channel {channel} of token {row.token!r} arises in {_site(row)} ({row.after:.4g})"
    if len(grown):
        text += f", grows in {_listed(_site(each) for each in grown.itertuples())}"
    if len(removed):
        return f"{text}, is removed in {_listed(map(_removed, removed.itertuples()))}"
    return f"{text}, and is never removed"


def _listed(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _site(row: Any) -> str:
    if row.site == EMBEDDING:
        return "the embedding"
    return f"{row.site} of layer {row.layer}" if row.site != "rest" else f"layer {row.layer}, neither attention nor MLP"


def _removed(row: Any) -> str:
    """A site that removes an activation, with the number of weights that it is spread over, if they are many."""
    carriers = row.participation_ratio
    return f"{_site(row)} (by about {carriers:.0f} weights)" if carriers >= FEW else _site(row)


def _after(layer: int) -> str:
    return "in the embedding" if layer < 0 else f"after layer {layer}"


def _of_weights(weights: pd.DataFrame) -> list[dict[str, Any]]:
    """A finding for each weight whose removal harms, and that a random one does not do as much harm as."""
    harmful = weights[(weights.ratio.astype(float) > 1.5) & ~(weights.exceed_share.astype(float) > SPECIAL)]
    return [_of_weight(row) for row in harmful.drop_duplicates(["role", "layer", "row", "column"]).itertuples()]


def _of_weight(row: Any) -> dict[str, Any]:
    expert = None if pd.isna(row.expert) else int(row.expert)
    at_row, at_column = (None if pd.isna(each) else int(each) for each in (row.row, row.column))
    component = "" if row.role == "W_down" else row.component
    place = str(Coordinate(row.layer, at_row, at_column, expert, row.role, component))
    place = place[0].upper() + place[1:]
    effect = "removes" if row.effect == REMOVES else "writes"
    draws = int(row.null_draws)
    exceed = 0 if pd.isna(row.exceed_share) else round(row.exceed_share * draws)
    against = f"; of {draws} random weights of its size {exceed or 'none'} as much" if draws else ""
    return {
        "grade": "critical" if severity(float(row.ratio)) in ("catastrophic", "severe") else "notable",
        "text": f"{place} {effect} the massive activation in channel {row.channel} ({row.contribution:.4g}, "
        f"{row.share:.0%} of what its site adds): set to zero it multiplies perplexity on the text of this analysis by "
        f"{times(row.delta_nll)}"
        f"{against}.",
        "place": place,
        "value": float(row.delta_nll),
        "null_value": None if pd.isna(row.null_median) else float(row.null_median),
        "metric": "massive_activations.weights.delta_nll",
        "remedy": "Keep it at full precision where the model is quantized, and never prune or clip it.",
    }


def _of_sinks(heads: pd.DataFrame) -> dict[str, Any]:
    sinks = heads[(heads.share > SINK_SHARE) & (heads.share > SINK_RATIO * heads.uniform)]
    what = f"the positions of the {heads.on.iloc[0]}" if heads.on.iloc[0] != "first token" else "the first token"
    text = f"{len(sinks)} of {len(heads)} heads give {what} more than {SINK_SHARE:.0%} of their attention and "
    text += f"{SINK_RATIO:g} times what uniform attention would"
    if len(sinks) and sinks.share_without.notna().any():
        kept = sinks[(sinks.share_without > SINK_SHARE) & (sinks.share_without > SINK_RATIO * sinks.uniform)]
        text += f", {len(kept)} of them still without the super weights"
    drains = sinks[sinks.value_ratio < DRAIN]
    if len(sinks) and sinks.value_ratio.notna().any():
        text += f"; the value vectors there are less than half as long as others for {len(drains)} of these heads"
    return {
        "grade": "info",
        "text": f"{text}.",
        "value": float(heads.share.mean()),
        "null_value": _mean(heads.uniform),
        "metric": "massive_activations.heads.share",
    }


def _mean(values: pd.Series) -> float | None:
    return None if values.isna().all() else float(values.mean())


def _of_definitions(definitions: pd.DataFrame) -> dict[str, Any]:
    told = []
    for (name, source), part in definitions.groupby(["definition", "source"], sort=False):
        yes = part[part.applies]
        where = f"yes ({_listed(yes.place)})" if len(yes) else f"no ({part.reason.iloc[0]})"
        told.append(f"{name} ({source}): {where}")
    return {"grade": "info", "text": f"Published definitions: {'; '.join(told)}."}
