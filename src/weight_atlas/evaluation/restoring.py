"""Remove super weights but keep the massive activations that they make."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.lm.anatomy import Anatomy, Coordinate
from weight_atlas.lm.edits import edited, value_at, zero
from weight_atlas.lm.metrics import input_device

# A token is a sink of a super weight where |w * x| is over this share of its largest on the prompt.
SINK_SHARE = 0.5


@contextmanager
def super_activations_restored(
    live: Anatomy, coordinates: Sequence[Coordinate], prompt: torch.Tensor
) -> Iterator[None]:
    """Zero weights w while the block lasts, but add w * x back to the output of every token that is a sink.

    What the model loses are the weights' contributions to all other tokens. prompt: token ids (1, length) that set
    off the massive activations; sinks of any text are where |w * x| exceeds half of its maximum there. Linear modules
    only: the output of stacked experts is not apart. Source: Yu et al., arXiv 2411.07191, table 1.
    """
    for place in coordinates:
        if live.projection(place).stacked:
            raise AtlasError(
                f"the super activation of {place} cannot be restored: its expert has no output of its own",
                remedy="leave `restore` ablations out for this model",
            )
    values = {place: value_at(live, place) for place in coordinates}
    largest = _largest_inputs(live, coordinates, prompt)
    with ExitStack() as stack:
        stack.enter_context(edited(live, map(zero, coordinates)))
        for place in coordinates:
            bound = SINK_SHARE * abs(values[place]) * largest[place]
            hook = _adding_back(place, values[place], bound)
            stack.callback(live.projection(place).container.register_forward_hook(hook).remove)
        yield


def _adding_back(place: Coordinate, value: float, bound: float):
    def add(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        contribution = value * inputs[0][..., place.col]
        restored = output.clone()
        restored[..., place.row] += torch.where(contribution.abs() > bound, contribution, 0)
        return restored

    return add


def _largest_inputs(live: Anatomy, coordinates: Sequence[Coordinate], prompt: torch.Tensor) -> dict[Coordinate, float]:
    """max |x[col]| over the tokens of the prompt, for each coordinate."""
    largest: dict[Coordinate, float] = {}

    def look(place: Coordinate):
        return lambda module, inputs: largest.update({place: inputs[0][..., place.col].abs().max().item()})

    with ExitStack() as stack, torch.no_grad():
        for place in coordinates:
            stack.callback(live.projection(place).container.register_forward_pre_hook(look(place)).remove)
        live.model(input_ids=prompt.to(input_device(live.model)), use_cache=False)
    return largest
