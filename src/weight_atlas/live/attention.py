"""What attention does in a pass: its weights layer by layer, and what its output projections are given and give."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.parts import Part

# Weights of one query sum to one, or to less where a part of the attention goes nowhere (gpt-oss).
SUM = 1.01


@dataclass(frozen=True)
class AttentionFlow:
    """One W_O at m tokens: z (m, n_heads * head_dim), y (m, d_model), before a norm that follows attention."""

    part: Part
    z: torch.Tensor
    y: torch.Tensor


@contextmanager
def attention_outputs(live: Anatomy, places: torch.Tensor) -> Iterator[dict[int, AttentionFlow]]:
    """Keep, by layer, what the next pass gives each layer's W_O at some tokens, flat places in its batch.

    Layers without attention, or whose W_O is no module of its own, have none.
    """
    kept: dict[int, AttentionFlow] = {}
    handles = []
    for layer in range(len(live.layers)):
        for part in live.parts_of(Role.W_O, layer):
            handles.append(live.model.get_submodule(part.module).register_forward_hook(_keep(kept, part, places)))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _keep(kept: dict[int, AttentionFlow], part: Part, places: torch.Tensor):
    def keep(module: torch.nn.Module, inputs: tuple, output: Any) -> None:
        z, y = (value.detach().reshape(-1, value.shape[-1])[places.to(value.device)] for value in (inputs[0], output))
        kept[int(part.layer or 0)] = AttentionFlow(part, z.float(), y.float())

    return keep


@contextmanager
def attention_observed(live: Anatomy, note: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """Call note(layer, weights) in every pass: weights (n, heads, queries, keys) of each layer's attention.

    live: loaded with eager attention (load_model), whose modules return their weights beside their output. Layers
    without attention, or with one that gives no weights, are silent.
    """
    with ExitStack() as hooks:
        for number, layer in enumerate(live.layers):
            done: list[bool] = []

            def start(module: torch.nn.Module, inputs: tuple, done: list[bool] = done) -> None:
                done.clear()

            def look(
                module: torch.nn.Module, inputs: tuple, output: Any, done: list[bool] = done, number: int = number
            ) -> None:
                # An inner module is called back before the one around it, which may return the same again.
                if not done and (weights := _weights_in(output)) is not None:
                    done.append(True)
                    note(number, weights.detach())

            hooks.callback(layer.register_forward_pre_hook(start).remove)
            for module in layer.modules():
                hooks.callback(module.register_forward_hook(look).remove)
        yield


def _weights_in(output: Any) -> torch.Tensor | None:
    """What in a module's output are attention weights over a whole sequence, if anything is."""
    for value in output if isinstance(output, tuple | list) else ():
        square = isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[2] == value.shape[3]
        if square and value.is_floating_point() and bool((value >= 0).all()) and bool((value.sum(-1) <= SUM).all()):
            return value
    return None
