"""Causal effects of candidates: on the residual stream, and of experts' weights on the loss with routing forced."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from weight_atlas.interventions.changes import Forced, zeroed
from weight_atlas.interventions.intervention import UNCHANGED, Intervention
from weight_atlas.interventions.measure import measure
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.residual_stream import residual_output
from weight_atlas.live.windows import Windows
from weight_atlas.statistics.paired import paired_difference
from weight_atlas.super_weights.prompts import Prompts

# Roles whose rows are channels of the residual stream.
WRITES = ("W_down", "W_O")


def residual_after(live: Anatomy, prompts: Prompts, candidates: Sequence[Coordinate]) -> list[dict[str, float]]:
    """Largest |h| in each candidate's channel after its layer: unchanged, without it, and without all candidates.

    Over the tokens of the prompts that begin with the tokenizer's own prefix. Keys residual_before, residual_after,
    residual_after_all; NaN for a candidate of a matrix that does not write into the residual stream.
    """
    before = _channel_peaks(live, prompts, candidates)
    with zeroed(candidates).applied(live):
        without_all = _channel_peaks(live, prompts, candidates)
    peaks = []
    for number, place in enumerate(candidates):
        with zeroed([place]).applied(live):
            after = _channel_peaks(live, prompts, [place])[0]
        peaks.append(
            {
                "residual_before": before[number],
                "residual_after": after,
                "residual_after_all": without_all[number],
            }
        )
    return peaks


@torch.no_grad()
def _channel_peaks(live: Anatomy, prompts: Prompts, candidates: Sequence[Coordinate]) -> list[float]:
    usual = [row for row, prefixed in enumerate(prompts.prefixed) if prefixed == max(prompts.prefixed)]
    ids, valid = prompts.ids[usual], prompts.valid[usual]
    peaks: dict[int, torch.Tensor] = {}

    def look(number: int, row: int | None):
        def keep(module, inputs, output):
            h = residual_output(output)
            peaks[number] = torch.where(valid.to(h.device), h[..., row].abs(), 0).max().float()

        return keep

    hooks = [
        live.layers[place.layer].register_forward_hook(look(number, place.row))
        for number, place in enumerate(candidates)
        if place.role in WRITES
    ]
    try:
        with out_of_memory_explained(f"a forward pass of {tuple(ids.shape)} tokens"):
            live.head.run(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return [float(peaks[number]) if number in peaks else math.nan for number in range(len(candidates))]


def natural_impacts(live: Anatomy, windows: Windows, places: Sequence[Coordinate], *, batch_size: int) -> list[float]:
    """Change of nll (nats per token) by zeroing each weight, with tokens sent to experts as the router does."""
    due = [UNCHANGED, *(Intervention("natural", zeroed([place])) for place in places)] if places else []
    measured = measure(live, windows, due, batch_size=batch_size, windows_at_once=batch_size)
    return [paired_difference(measured.of(0), measured.of(number))[0] for number in range(1, len(due))]


def interventional_impacts(
    live: Anatomy, windows: Windows, places: Sequence[Coordinate], *, batch_size: int
) -> list[float]:
    """Change of nll (nats per token) by zeroing each weight of an expert while every token is sent to that expert.

    In both arms. Unlike the change under natural routing it does not depend on how often the router chooses the expert.
    """
    due = []
    for place in places:
        expert = replace(place, row=None, col=None)
        due.append(Intervention("forced", Forced(expert)))
        due.append(Intervention("forced_zero", Forced(expert, zeroed([place]).edits)))
    measured = measure(live, windows, due, batch_size=batch_size, windows_at_once=batch_size)
    return [paired_difference(measured.of(number), measured.of(number + 1))[0] for number in range(0, len(due), 2)]


def with_causal_scores(
    live: Anatomy, windows: Windows, experts: pd.DataFrame, *, batch_size: int, most: int = 10
) -> pd.DataFrame:
    """Add impact_natural and impact_interventional, nats per token, for the `most` weights that contribute most.

    natural: zeroing the weight with tokens routed as they are. interventional: the same with every token sent to the
    expert in both arms, for stacked experts only. NaN for the others.
    """
    scored = experts.assign(impact_natural=math.nan, impact_interventional=math.nan)
    largest = experts[experts.tokens > 0].nlargest(most, "contribution_ratio", keep="first")
    places = {
        row.Index: Coordinate(row.layer, int(row.row), int(row.column), row.expert, component=row.component)
        for row in largest.itertuples()
    }
    stacked = {index: place for index, place in places.items() if live.projection(place).stacked}
    for column, own, impacts in (
        ("impact_natural", places, natural_impacts),
        ("impact_interventional", stacked, interventional_impacts),
    ):
        scored.loc[list(own), column] = impacts(live, windows, list(own.values()), batch_size=batch_size)
    return scored
