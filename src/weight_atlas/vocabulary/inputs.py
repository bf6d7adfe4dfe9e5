"""What reaches a neuron on average: the activations that a weight multiplies."""

from collections.abc import Sequence

import torch

from weight_atlas.lm.anatomy import Anatomy, Coordinate
from weight_atlas.lm.experts import expert_activations, routing_of
from weight_atlas.lm.load import out_of_memory_explained
from weight_atlas.lm.metrics import input_device
from weight_atlas.lm.windows import Windows


@torch.no_grad()
def mean_inputs(live: Anatomy, windows: Windows, targets: Sequence[Coordinate], batch_size: int = 8) -> list[float]:
    """Mean activation of each target's neuron over all tokens of the windows that reach it, in the model as it is.

    For experts, over the tokens routed to them; 0 where none is. Linear modules and stacked experts alike.
    """
    totals, counts = [0.0] * len(targets), [0] * len(targets)
    hooks = [
        live.projection(target).container.register_forward_pre_hook(
            _counter(live, target, number, totals, counts), with_kwargs=True
        )
        for number, target in enumerate(targets)
    ]
    try:
        for ids in windows.ids.split(batch_size) if targets else ():
            with out_of_memory_explained(f"a forward pass of {tuple(ids.shape)} tokens"):
                live.model(input_ids=ids.to(input_device(live.model)), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [total / count if count else 0.0 for total, count in zip(totals, counts, strict=True)]


def _counter(live: Anatomy, target: Coordinate, number: int, totals: list[float], counts: list[int]):
    projection = live.projection(target)

    def look(module, inputs, keywords):
        if projection.stacked:
            routing = routing_of(projection, inputs, keywords)
            activations = [one.x for one in expert_activations(projection, routing, only=target.expert)]
        else:
            activations = [inputs[0]]
        for x in activations:
            own = x[..., target.col]
            totals[number] += float(own.sum(dtype=torch.float64))
            counts[number] += own.numel()

    return look
