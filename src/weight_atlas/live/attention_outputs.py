"""What the output projections of attention are given and give at a few tokens of a pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.parts import Part


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
