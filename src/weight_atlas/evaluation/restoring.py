"""Remove super weights but keep the massive activations that they make."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from weight_atlas.lm.anatomy import Anatomy, Coordinate
from weight_atlas.lm.contributions import stood_in, watched
from weight_atlas.lm.metrics import input_device

# A token is a sink of a super weight where |x|, and so |w * x|, is over this share of its largest on the prompt.
SINK_SHARE = 0.5


@contextmanager
def super_activations_restored(
    live: Anatomy, coordinates: Sequence[Coordinate], prompt: torch.Tensor
) -> Iterator[None]:
    """Zero weights w while the block lasts, but add w * x back to the output of every token that is a sink.

    What the model loses are the weights' contributions to all other tokens. prompt: token ids (1, length) that set
    off the massive activations; sinks of any text are where |w * x| exceeds half of its maximum there. Source: Yu et
    al., arXiv 2411.07191, table 1.
    """
    largest = _largest_inputs(live, coordinates, prompt)
    with ExitStack() as stack:
        for place in coordinates:
            stack.enter_context(stood_in(live, place, _of_sinks(SINK_SHARE * largest[place])))
        yield


def _of_sinks(bound: float):
    return lambda x: torch.where(x.abs() > bound, x, 0)


@torch.no_grad()
def _largest_inputs(live: Anatomy, coordinates: Sequence[Coordinate], prompt: torch.Tensor) -> dict[Coordinate, float]:
    """max |x[col]| over the tokens of the prompt, for each coordinate; infinite where none of them reaches it."""
    largest = dict.fromkeys(coordinates, float("inf"))

    def note(place: Coordinate, x: torch.Tensor) -> None:
        if len(x):
            largest[place] = float(x.abs().max())

    with watched(live, coordinates, note):
        live.model(input_ids=prompt.to(input_device(live.model)), use_cache=False)
    return largest
