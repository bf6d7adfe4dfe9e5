"""What single weights of MLP output projections add to the stream: their neurons' activations, and stand-ins for them.

A weight w at [row, col] adds w x to channel `row` for every token that reaches it, x being the activation of neuron
`col`; of stacked experts the tokens that the router sent there, times the routing weight.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.edits import edited, value_at, zero
from weight_atlas.live.experts import expert_activations, routing_of


class Reaching(NamedTuple):
    """Tokens that reach a projection: rows of its container's flattened output (n,), activations of all neurons
    (n, cols) and the factors on what they add (n,), the routing weights of experts.
    """

    rows: torch.Tensor
    x: torch.Tensor
    factor: torch.Tensor


@contextmanager
def watched(
    live: Anatomy, places: Sequence[Coordinate], note: Callable[[Coordinate, torch.Tensor], None]
) -> Iterator[None]:
    """Call note(place, x) at every pass of the model: x, float32 (n,), of the tokens that reach the place's neuron."""

    def look(place: Coordinate):
        projection = live.projection(place)
        return lambda module, inputs, keywords: note(place, _passing(projection, place, inputs, keywords)[1])

    with ExitStack() as hooks:
        for place in places:
            container = live.projection(place).container
            hooks.callback(container.register_forward_pre_hook(look(place), with_kwargs=True).remove)
        yield


@contextmanager
def stood_in(live: Anatomy, place: Coordinate, stand_in: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Zero one weight w while the block lasts, and add w * stand_in(x) to its channel instead of w * x.

    stand_in: of activations float32 (n,), the same shape. Linear modules and stacked experts alike.
    """
    row, _ = place.cell
    projection, weight = live.projection(place), value_at(live, place)

    def add(module: torch.nn.Module, inputs: tuple, keywords: dict, output: torch.Tensor) -> torch.Tensor:
        tokens, x, factor = _passing(projection, place, inputs, keywords)
        rows = output.reshape(-1, output.shape[-1]).clone()
        rows[tokens, row] += (weight * stand_in(x) * factor).to(rows)
        return rows.view_as(output)

    with edited(live, [zero(place)]):
        handle = projection.container.register_forward_hook(add, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def mean_contribution(live: Anatomy, place: Coordinate, mean_input: float):
    """Let one weight w add its mean contribution, w * mean_input, to every token that reaches it.

    mean_input: mean activation of its neuron over the tokens that do. What is left of the difference to the unedited
    model is what the weight says about single tokens. A context manager, as stood_in.
    """
    return stood_in(live, place, lambda x: torch.full_like(x, mean_input))


def reaching(projection: Projection, expert: int | None, inputs: tuple, keywords: dict) -> Reaching:
    """The tokens that reach a projection (of one expert), as its container is called: see Reaching."""
    if not projection.stacked:
        x = inputs[0].detach().reshape(-1, inputs[0].shape[-1])
        return Reaching(torch.arange(len(x), device=x.device), x, torch.ones(len(x), device=x.device))
    routing = routing_of(projection, inputs, keywords)
    for one in expert_activations(projection, routing, only=expert):
        first = one.expert * len(routing.index) if routing.scaled else 0
        return Reaching(first + one.token, one.x, one.weight)
    nothing = torch.empty(0, projection.shape[1], device=routing.hidden.device)
    return Reaching(nothing[:, 0].long(), nothing, nothing[:, 0])


def _passing(
    projection: Projection, place: Coordinate, inputs: tuple, keywords: dict
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, x, factor = reaching(projection, place.expert, inputs, keywords)
    return rows, x[:, place.col].float(), factor
