"""Neurons of a model: what each writes into the residual stream, layer by layer, expert by expert."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.pieces import load_piece
from weight_atlas.vocabulary.down_projections import down_projections
from weight_atlas.vocabulary.readout import Readout, post_gains


@dataclass(frozen=True)
class NeuronBlock:
    """The neurons of one MLP, or of one expert.

    vectors: (d_model, n) float32, column `col` is what neuron `col` adds to the residual stream at activation 1, the
    gain of a norm after the MLP folded in. expert: None for a dense MLP and for shared experts, whose component says
    "shared_expert".
    """

    layer: int
    expert: int | None
    component: str
    tensor: str
    vectors: torch.Tensor


def vectors_of(W_down: torch.Tensor, gain: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
    """Neuron vectors (d_model, n) float32 from a logical W_down (d_model, n), its rows times gain and scale.

    gain: (d_model,) of a norm between the MLP and the residual stream, whose division is left out as the final norm's
    is. scale: what the model multiplies the MLP's output by.
    """
    vectors = W_down.float()
    if gain is not None:
        vectors = vectors * gain.float()[:, None]
    return vectors if scale == 1.0 else vectors * scale


def neuron_blocks(
    checkpoint: Any, inventory: pd.DataFrame, readout: Readout, *, rows: pd.DataFrame | None = None
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


def _gains(checkpoint: Any, inventory: pd.DataFrame) -> Callable[[Any], torch.Tensor | None]:
    """For the row of an output projection, the gains of all norms between it and the residual stream."""
    places = ("post_mlp", "post_dense", "post_experts")
    whole, dense, experts = (post_gains(checkpoint, inventory, place) for place in places)

    def gain(row: Any) -> torch.Tensor | None:
        branch = dense if pd.isna(row.expert) and row.component == "" else experts
        found = [gains[int(row.layer)] for gains in (branch, whole) if int(row.layer) in gains]
        return math.prod(found[1:], start=found[0]) if found else None

    return gain
