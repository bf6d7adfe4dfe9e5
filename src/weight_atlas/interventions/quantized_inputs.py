"""Quantize what the matrices of a live model's layers are multiplied with, while a block lasts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from weight_atlas.families.roles import Role
from weight_atlas.interventions.quantized_layers import linear_modules
from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.experts import expert_activations, routing_of
from weight_atlas.live.matrices import part_at
from weight_atlas.live.parts import Part
from weight_atlas.quantization.inputs import InputScheme, quantized_inputs_of

# Matrices that do not read the residual stream.
WRITERS = (Role.W_O, Role.W_DOWN)


@contextmanager
def quantized_inputs(
    live: Anatomy, scheme: InputScheme, kept: Sequence[Coordinate] = (), which: str = "all"
) -> Iterator[None]:
    """Round the inputs of the layers' matrices for the length of the block, as a model in 8 bits would.

    which: "all" matrices of the layers (see quantized_layers.layer_matrices), or "W_down". kept: super weights; their
    activations keep their value, on the input of their own matrix (the neuron) and, in the layers above, on that of all
    matrices that read the residual stream (the channel): see quantization.inputs. The experts that run as one kernel
    are computed again, one after another, in float32. Of the model no copy is made.
    """
    rounding = _Rounding(scheme)
    with ExitStack() as hooks:
        for layer in range(len(live.layers)):
            for _, module, part in linear_modules(live, layer):
                if which == "all" or (part is not None and part.role is Role.W_DOWN):
                    hook = rounding.hook(_channels(live, kept, layer, module, part))
                    hooks.callback(module.register_forward_pre_hook(hook).remove)
        for projection in live.projections:
            if projection.stacked:
                hook = _experts_rounding(live, projection, scheme, kept, which)
                hooks.callback(projection.container.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def _channels(
    live: Anatomy, kept: Sequence[Coordinate], layer: int, module: torch.nn.Module, part: Part | None
) -> list[int]:
    """Input channels of a module in which super activations of some weights arrive."""
    own = {place.col for place in kept if part_at(live, place).parameter is module.weight}
    if part is not None and part.role not in WRITERS and part.shape[1] == live.d_model:
        own |= _written_below(kept, layer)
    return sorted(channel for channel in own if channel is not None)


def _written_below(kept: Sequence[Coordinate], layer: int) -> set[int | None]:
    """Channels of the residual stream that some weights write in the layers below one."""
    return {place.row for place in kept if place.role in WRITERS and place.layer < layer}


class _Rounding:
    """Rounds inputs of modules; of several modules in turn that read one tensor only for the first."""

    def __init__(self, scheme: InputScheme) -> None:
        self._scheme = scheme
        self._last: tuple[torch.Tensor, list[int], torch.Tensor] | None = None

    def hook(self, channels: list[int]) -> Callable[..., Any]:
        def rounded(module: torch.nn.Module, inputs: tuple) -> tuple:
            if self._last is None or self._last[0] is not inputs[0] or self._last[1] != channels:
                self._last = (inputs[0], channels, quantized_inputs_of(inputs[0], self._scheme, channels))
            return (self._last[2], *inputs[1:])

        return rounded


def _experts_rounding(
    live: Anatomy, projection: Projection, scheme: InputScheme, kept: Sequence[Coordinate], which: str
) -> Callable[..., Any]:
    """A hook that gives a container of stacked experts the output that it has with rounded inputs."""
    above = sorted(channel for channel in _written_below(kept, projection.layer) if channel is not None)
    places = [place for place in kept if place.role == Role.W_DOWN and live.projection(place) is projection]

    def rounded(module: torch.nn.Module, inputs: tuple, keywords: dict, output: torch.Tensor) -> torch.Tensor:
        routing = routing_of(projection, inputs, keywords)
        if which == "all":
            rows = quantized_inputs_of(routing.hidden.flatten(0, -2), scheme, above)
            routing = replace(routing, hidden=rows.view_as(routing.hidden))
        summed = torch.zeros_like(output.reshape(-1, output.shape[-1]), dtype=torch.float32)
        for one in expert_activations(projection, routing):
            own = [place.col for place in places if place.expert == one.expert and place.col is not None]
            x = quantized_inputs_of(one.x, scheme, own)
            # The bias is what is left of y beside the product.
            y = one.y + (x - one.x) @ projection.matrix(one.expert).float().T
            first = one.expert * len(routing.index) if routing.scaled else 0
            summed.index_add_(0, first + one.token, y * one.weight[:, None])
        return summed.view_as(output).to(output.dtype)

    return rounded
