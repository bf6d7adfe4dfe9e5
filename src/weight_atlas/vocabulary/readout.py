"""How a vector in the residual stream becomes logits, to first order: final norm, scale and unembedding as one matrix.

What is left out is the division by the norm's root mean square, which differs from token to token and scales all
logits alike.
"""

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pandas as pd
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.pieces import load_gain, load_piece
from weight_atlas.families.roles import Role, centres


@dataclass(frozen=True)
class Readout:
    """The map from residual vectors to logits, without the norm's division.

    unembedding: (V, d_model) float32, W_U diag(gain) times the logit scale; its rows are centred over d_model where
    the norm is a LayerNorm, which sees no mean. centred: whether it is. softcap: c of c tanh(logit / c), or None; it is
    monotone with slope 1 at zero, so effects are given before it. offset: (V,) what the biases of norm and head add to
    every token's logits, or None; effects are differences, which it leaves alone. eps: the constant in the norm's
    division; None where the unembedding reads the residual stream as it is.
    """

    unembedding: torch.Tensor
    centred: bool
    softcap: float | None = None
    offset: torch.Tensor | None = None
    eps: float | None = None

    @property
    def vocabulary(self) -> int:
        return self.unembedding.shape[0]

    def seen(self, vectors: torch.Tensor) -> torch.Tensor:
        """What the norm lets through of residual vectors (d_model, ...): without their mean, if it is a LayerNorm."""
        return vectors - vectors.mean(dim=0, keepdim=True) if self.centred else vectors

    def rows(self, ids: torch.Tensor) -> "Readout":
        """The readout of some token ids only (a view of it, where they are the first ones)."""
        chosen = slice(len(ids)) if torch.equal(ids, torch.arange(len(ids))) else ids
        offset = None if self.offset is None else self.offset[chosen]
        return replace(self, unembedding=self.unembedding[chosen], offset=offset)

    def logits(self, residual: torch.Tensor) -> torch.Tensor:
        """The model's logits (n, V) of residual vectors (n, d_model) after the last layer, norm, biases and all."""
        hidden = self.seen(residual.T).T.to(self.unembedding.dtype)
        if self.eps is not None:
            hidden = hidden / (hidden.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        logits = hidden @ self.unembedding.T
        if self.offset is not None:
            logits = logits + self.offset
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def fold(W_U: torch.Tensor, gain: torch.Tensor | None, *, centred: bool, scale: float = 1.0) -> torch.Tensor:
    """W_U' = scale W_U diag(gain), float32 (V, d_model); centred: with the mean over d_model taken from each row.

    gain: (d_model,) what the norm multiplies by (1 + w where the family stores w), None for a norm without gain. The
    mean is taken after the gain: LayerNorm's output is gain * (h - mean(h)) / std(h) + bias, so that
    W_U (gain * (h - mean(h))) = W_U' (h - mean(h)) = (W_U' - mean(W_U')) h.
    """
    folded = W_U.float() if W_U.dtype != torch.float32 else W_U.clone()
    if gain is not None:
        folded *= gain.float() * scale
    elif scale != 1.0:
        folded *= scale
    if centred:
        folded -= folded.mean(dim=1, keepdim=True)
    return folded


def read_readout(checkpoint: Checkpoint, inventory: pd.DataFrame, device: str = "cpu") -> Readout:
    """The readout of a checkpoint, by its inventory and family.

    NotApplicable for a model without an unembedding of its own decoder, or whose head is no linear map; AtlasError for
    a checkpoint that lacks the norm which its family has before the unembedding.
    """
    architecture, decoder = Architecture.of(checkpoint, allow_other=True), _outside_layers(inventory)
    W_U = _unembedding(checkpoint, architecture, decoder).to(device)
    norm = final_norm(checkpoint, architecture, inventory)
    kind = norm.norm if norm is not None else architecture.final_norm_without_parameters
    scale, centred = architecture.logit_scale, centres(kind)
    gain = None if norm is None else load_gain(checkpoint, norm).to(device)
    shifts = []
    if (shift := _bias(checkpoint, decoder, Role.W_U)) is not None:
        shifts.append(shift.to(device))
    if norm is not None and (shift := _bias(checkpoint, decoder, Role.NORM, norm.component)) is not None:
        shifts.append(W_U.float() @ shift.to(device))
    return Readout(
        fold(W_U, gain, centred=centred, scale=scale),
        centred,
        architecture.logit_softcap,
        scale * reduce(torch.add, shifts) if shifts else None,
        architecture.norm_eps if kind else None,
    )


def final_norm(checkpoint: Checkpoint, architecture: Architecture, inventory: pd.DataFrame) -> Any:
    """The row of the norm between a decoder's last layer and its unembedding; None for a model that stores none.

    A norm that its family has and the checkpoint lacks is an AtlasError, and so is a second one.
    """
    if not architecture.stores_final_norm:
        return None
    outside = _outside_layers(inventory)
    found = list(outside[(outside["role"] == Role.NORM.value) & (outside.component == "final")].itertuples())
    if len(found) == 1:
        return found[0]
    names = ", ".join(row.tensor for row in found)
    raise AtlasError(
        f"more than one final norm: {names}"
        if found
        else "the norm between the last layer and the unembedding is missing",
        where=checkpoint.folder,
        remedy="take the model's whole checkpoint; a model of another make needs its own `family`: docs/families.md",
    )


def post_gains(checkpoint: Checkpoint, inventory: pd.DataFrame, place: str = "post_mlp") -> dict[int, torch.Tensor]:
    """Layer -> (d_model,) gain of the norm on what its feed-forward part adds, for families that have one.

    place: where that norm stands (of NORM_PLACES): "post_dense" and "post_experts" are of one branch only, before
    "post_mlp" of the whole.
    """
    rows = inventory[
        (inventory["role"] == Role.NORM.value) & (inventory.component == place) & (inventory["stack"] == "decoder")
    ]
    return {int(row.layer): load_gain(checkpoint, row) for row in rows.itertuples()}


def _outside_layers(inventory: pd.DataFrame) -> pd.DataFrame:
    return inventory[(inventory["stack"] == "decoder") & inventory.layer.isna() & inventory.readable]


def _unembedding(checkpoint: Checkpoint, architecture: Architecture, decoder: pd.DataFrame) -> torch.Tensor:
    own = decoder[(decoder["role"] == Role.W_U.value) & (decoder.component == "")]
    tied = architecture.tied_embeddings
    if own.empty and tied is not False:
        own = decoder[(decoder["role"] == Role.W_E.value) & (decoder.component == "")]
    if own.empty:
        missing = tied is False and not decoder[decoder["role"] == Role.W_E.value].empty
        # One that was lost is a fault of the checkpoint.
        raise (AtlasError if missing else NotApplicable)(
            "the model has no unembedding: its neurons have no effect on words"
            + (" (config.json says that it is not the token embedding, and none is stored)" if missing else ""),
            where=checkpoint.folder,
            remedy="switch off the vocabulary analyses of this model",
        )
    transforms = decoder[(decoder["role"] == Role.W_DENSE.value) & (decoder.component == "transform")]
    if len(transforms):
        raise NotApplicable(
            f"the head is no linear map of the residual stream: {transforms.tensor.iloc[0]} and an activation stand "
            "before the unembedding, so that a neuron has no effect on words of its own",
            where=checkpoint.folder,
            remedy="switch off the vocabulary analyses of this model",
        )
    W_U = load_piece(checkpoint, next(own.itertuples()))
    projection = decoder[decoder.component == "unembedding projection"]
    if len(projection):
        W_U = W_U.float() @ load_piece(checkpoint, next(projection.itertuples())).float()
    return W_U


def _bias(checkpoint: Checkpoint, decoder: pd.DataFrame, role: Role, component: str = "") -> torch.Tensor | None:
    """The bias of the head or of the final norm, float32, or None where none is stored."""
    biases = decoder[(decoder["role"] == Role.BIAS.value) & (decoder.of_role == role.value)]
    row = next(biases[biases.component == component].itertuples(), None)
    return None if row is None else load_piece(checkpoint, row).float().flatten()
