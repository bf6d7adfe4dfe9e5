"""The vectors that the neurons of a model write into the residual stream, by layer and expert."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.pieces import load_piece
from weight_atlas.inventory_row import InventoryRow
from weight_atlas.vocabulary.down_projections import down_projections
from weight_atlas.vocabulary.readout import Readout, post_gains


@dataclass(frozen=True)
class NeuronBlock:
    """The neurons of one MLP, or of one expert.

    vectors: (d_model, n) float32; column `col` is what neuron `col` adds to the residual stream at activation 1,
    including the gain of a norm after the MLP. expert: None for a dense MLP and for shared experts, whose component
    is "shared_expert".
    """

    layer: int
    expert: int | None
    component: str
    tensor: str
    vectors: torch.Tensor


def vectors_of(W_down: torch.Tensor, gain: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
    """Neuron vectors (d_model, n), float32: a logical W_down (d_model, n) with its rows multiplied by gain and scale.

    gain: (d_model,) of a norm between the MLP and the residual stream; its division by the root mean square is left
    out, as it is for the final norm. scale: the factor that the model applies to the MLP's output.
    """
    vectors = W_down.float()
    if gain is not None:
        vectors = vectors * gain.float()[:, None]
    return vectors if scale == 1.0 else vectors * scale


def neuron_blocks(
    checkpoint: Checkpoint, inventory: pd.DataFrame, readout: Readout, *, rows: pd.DataFrame | None = None
) -> Iterator[NeuronBlock]:
    """Yield the neurons of every MLP output projection, one matrix in memory at a time.

    rows: of `down_projections`, if not all.
    """
    gains, scale = _gains(checkpoint, inventory), Architecture.of(checkpoint, allow_other=True).mlp_scale
    device = readout.unembedding.device
    for row in (down_projections(inventory) if rows is None else rows).itertuples():
        W_down = load_piece(checkpoint, row).to(device)
        gain = gains(row)
        vectors = vectors_of(W_down, None if gain is None else gain.to(device), scale)
        if vectors.shape[0] != readout.unembedding.shape[1]:
            raise AtlasError(
                f"{row.tensor} writes {vectors.shape[0]} channels, the unembedding reads {readout.unembedding.shape[1]}"
            )
        expert = None if pd.isna(row.expert) else int(row.expert)
        yield NeuronBlock(int(row.layer), expert, row.component, row.tensor, vectors)


def _gains(checkpoint: Checkpoint, inventory: pd.DataFrame) -> Callable[[Any], torch.Tensor | None]:
    """A function from the inventory's row of an output projection to the gain of all norms after it, multiplied."""
    places = ("post_mlp", "post_dense", "post_experts")
    whole, dense, experts = (post_gains(checkpoint, inventory, place) for place in places)

    def gain(row: InventoryRow) -> torch.Tensor | None:
        branch = dense if pd.isna(row.expert) and row.component == "" else experts
        found = [gains[int(row.layer)] for gains in (branch, whole) if int(row.layer) in gains]
        return math.prod(found[1:], start=found[0]) if found else None

    return gain
