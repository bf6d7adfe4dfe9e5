"""What is left of a massive activation without its super weights, and what an expert's weight does when forced."""

from collections.abc import Sequence

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.forcing import forced_routing
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.scoring import score_windows
from weight_atlas.live.windows import Windows
from weight_atlas.statistics.paired import paired_difference
from weight_atlas.super_weights.prompts import Prompts
from weight_atlas.super_weights.recording import residual_output


def residual_after(live: Anatomy, prompts: Prompts, candidates: Sequence[Coordinate]) -> list[dict[str, float]]:
    """Largest |h| in each candidate's channel after its layer: as it is, without it, and without all candidates.

    Over the tokens of the prompts as the tokenizer begins them. Keys residual_before, residual_after,
    residual_after_all.
    """
    before = _channel_peaks(live, prompts, candidates)
    with edited(live, map(zero, candidates)):
        without_all = _channel_peaks(live, prompts, candidates)
    peaks = []
    for number, place in enumerate(candidates):
        with edited(live, [zero(place)]):
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

    def look(number: int, row: int):
        def keep(module, inputs, output):
            h = residual_output(output)
            peaks[number] = torch.where(valid.to(h.device), h[..., row].abs(), 0).max().float()

        return keep

    hooks = [
        live.layers[place.layer].register_forward_hook(look(number, place.row))
        for number, place in enumerate(candidates)
    ]
    try:
        with out_of_memory_explained(f"a forward pass of {tuple(ids.shape)} tokens"):
            live.head.run(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return [float(peaks[number]) for number in range(len(candidates))]


def interventional_impact(live: Anatomy, windows: Windows, candidate: Coordinate, *, batch_size: int) -> float:
    """Change of nll (nats per token) by zeroing an expert's weight while every token passes that expert, in both arms.

    Unlike the change under natural routing it does not depend on how often the router chooses the expert.
    """
    with forced_routing(live.projection(candidate), candidate.expert):
        intact = score_windows(live, windows, batch_size=batch_size)
        with edited(live, [zero(candidate)]):
            zeroed = score_windows(live, windows, batch_size=batch_size)
    return paired_difference(intact, zeroed)[0]
