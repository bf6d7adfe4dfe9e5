"""What single weights of MLP output projections add to the residual stream: observe their inputs, and replace them.

A weight w at [row, col] adds w x to channel `row` for every token that reaches it, where x is the activation of neuron
`col`. Only the tokens that the router sends there reach a stacked expert, and w x is multiplied by the routing weight.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.edits import edited, value_at, zero
from weight_atlas.live.experts import expert_activations, routing_of


class Reaching(NamedTuple):
    """The n tokens that reach a projection.

    rows: (n,) of its container's flattened output. x: (n, cols), activations of all neurons. factor: (n,) on what they
    add: the routing weights of experts, else 1.
    """

    rows: torch.Tensor
    x: torch.Tensor
    factor: torch.Tensor


@contextmanager
def inputs_observed(
    live: Anatomy, places: Sequence[Coordinate], note: Callable[[Coordinate, torch.Tensor], None]
) -> Iterator[None]:
    """Call note(place, x) at every pass of the model: x, float32 (n,), of the tokens that reach its neuron."""

    def hook(place: Coordinate, projection: Projection) -> Callable[..., None]:
        return lambda module, inputs, keywords: note(place, _passing(projection, place, inputs, keywords)[1])

    with ExitStack() as hooks:
        for place in places:
            projection = live.projection(place)
            handle = projection.container.register_forward_pre_hook(hook(place, projection), with_kwargs=True)
            hooks.callback(handle.remove)
        yield


@contextmanager
def input_replaced(
    live: Anatomy, place: Coordinate, function: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Let one weight w add w * function(x) to its channel instead of w * x, for as long as the block lasts.

    function: of activations, float32 (n,), to the same shape. Linear modules and stacked experts alike.
    """
    row, _ = place.cell
    projection, weight = live.projection(place), value_at(live, place)

    def add(module: torch.nn.Module, inputs: tuple, keywords: dict, output: torch.Tensor) -> torch.Tensor:
        tokens, x, factor = _passing(projection, place, inputs, keywords)
        rows = output.reshape(-1, output.shape[-1]).clone()
        rows[tokens, row] += (weight * function(x) * factor).to(rows)
        return rows.view_as(output)

    with edited(live, [zero(place)]):
        handle = projection.container.register_forward_hook(add, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def mean_contribution(live: Anatomy, place: Coordinate, mean_input: float) -> AbstractContextManager[None]:
    """Let one weight w add its mean contribution, w * mean_input, to every token that reaches it.

    mean_input: mean activation of its neuron over these tokens. What remains of the effect of the weight is then what
    does not depend on the single token. A context manager, like input_replaced.
    """
    return input_replaced(live, place, lambda x: torch.full_like(x, mean_input))


def reaching(projection: Projection, expert: int | None, inputs: tuple, keywords: dict) -> Reaching:
    """The tokens that reach a projection (of one expert), from the arguments of its container."""
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
