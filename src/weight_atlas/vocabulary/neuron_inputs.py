"""Mean activations of neurons: the inputs that a weight multiplies."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.contributions import inputs_observed
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.windows import Windows


@dataclass(frozen=True)
class NeuronInput:
    """A neuron's activation: mean over `tokens`, those that reach it; 0 where none does."""

    mean: float
    tokens: int


@torch.no_grad()
def mean_inputs(
    live: Anatomy, windows: Windows, targets: Sequence[Coordinate], batch_size: int = 8
) -> list[NeuronInput]:
    """Mean activation of each target's neuron over all tokens of the windows that reach it, in the model as it is.

    For experts, over the tokens routed to them. Linear modules and stacked experts alike.
    """
    totals, counts = dict.fromkeys(targets, 0.0), dict.fromkeys(targets, 0)

    def note(place: Coordinate, x: torch.Tensor) -> None:
        totals[place] += float(x.sum(dtype=torch.float64))
        counts[place] += x.numel()

    with inputs_observed(live, list(totals), note):
        for ids in windows.ids.split(batch_size) if targets else ():
            with out_of_memory_explained(f"a forward pass of {tuple(ids.shape)} tokens"):
                live.head.run(ids)
    return [NeuronInput(totals[target] / max(counts[target], 1), counts[target]) for target in targets]
