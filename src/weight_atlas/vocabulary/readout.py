"""How a vector in the residual stream becomes logits, to first order: final norm, scale and unembedding as one matrix.

What is left out is the division by the norm's root mean square, which differs from token to token and scales all
logits alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.architecture import architecture
from weight_atlas.families.quantities import flat
from weight_atlas.families.reading import load_piece
from weight_atlas.families.roles import Role
from weight_atlas.families.ties import tied_embeddings

# What families call the norm between the last layer and the unembedding.
FINAL_NORM = re.compile(
    r"(^|\.)(norm|ln_f|norm_f|final_norm|final_layer_?norm|ln_out|transformer\.norm)\.(weight|bias)$"
)
# A norm on what the feed-forward part adds to the residual stream.
POST_NORM = re.compile(r"(^|\.)(post_feedforward_layernorm|post_mlp_layernorm|post_ffw_layernorm)\.weight$")


@dataclass(frozen=True)
class Readout:
    """The map from residual vectors to logits, without the norm's division.

    unembedding: (V, d_model) float32, W_U diag(gain) times the logit scale; its rows are centred over d_model where
    the norm is a LayerNorm, which sees no mean. centred: whether it is. softcap: c of c tanh(logit / c), or None; it is
    monotone with slope 1 at zero, so effects are given before it.
    """

    unembedding: torch.Tensor
    centred: bool
    softcap: float | None = None

    @property
    def vocabulary(self) -> int:
        return self.unembedding.shape[0]

    def seen(self, vectors: torch.Tensor) -> torch.Tensor:
        """What the norm lets through of residual vectors (d_model, ...): without their mean, if it is a LayerNorm."""
        return vectors - vectors.mean(dim=0, keepdim=True) if self.centred else vectors

    def rows(self, ids: torch.Tensor) -> "Readout":
        """The readout of some token ids only (a view of it, where they are the first ones)."""
        first = torch.equal(ids, torch.arange(len(ids)))
        return Readout(self.unembedding[: len(ids)] if first else self.unembedding[ids], self.centred, self.softcap)


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


def read_readout(checkpoint: Any, inventory: pd.DataFrame, device: str = "cpu") -> Readout:
    """The readout of a checkpoint, by its inventory and family.

    NotApplicable for a model without an unembedding of its own decoder.
    """
    norm = norm_kind(checkpoint, inventory)
    W_U = _unembedding(checkpoint, inventory).to(device)
    row = _final_norm(inventory)
    gain = None if row is None else _gain(checkpoint, row, norm).to(device)
    if row is None and norm != "LayerNorm without parameters":
        norm = "none"
    scale, softcap = logit_scale(checkpoint.config), flat(checkpoint.config).get("final_logit_softcapping")
    centred = norm.startswith("LayerNorm")
    return Readout(fold(W_U, gain, centred=centred, scale=scale), centred, softcap or None)


def norm_kind(checkpoint: Any, inventory: pd.DataFrame) -> str:
    """The norm of a model's family: RMSNorm, LayerNorm, either "with gain 1 + w", LayerNorm without parameters."""
    return architecture(checkpoint.config, inventory, checkpoint.family).get("norm", "RMSNorm")


def logit_scale(config: Mapping[str, Any]) -> float:
    """What a model's configuration multiplies logits by (Cohere, Granite, Falcon-H1, MiniCPM, MPT); 1 for most."""
    config = flat(config)
    d_model = config.get("hidden_size") or config.get("d_model") or 1
    given = config.get("logit_scale")
    scale = d_model**-0.5 if given == "inv_sqrt_d_model" else float(given or 1.0)
    scale /= float(config.get("logits_scaling") or 1.0)
    scale *= float(config.get("lm_head_multiplier") or 1.0)
    return scale * float(config.get("dim_model_base") or d_model) / d_model


def post_gains(checkpoint: Any, inventory: pd.DataFrame) -> dict[int, torch.Tensor]:
    """Layer -> (d_model,) gain of the norm on what its feed-forward part adds, for families that have one."""
    norm = norm_kind(checkpoint, inventory)
    norms = inventory[
        (inventory["role"] == Role.NORM.value) & inventory.layer.notna() & (inventory["stack"] == "decoder")
    ]
    return {
        int(row.layer): _gain(checkpoint, row, norm)
        for row in norms[norms.tensor.str.contains(POST_NORM.pattern.replace("(", "(?:"))].itertuples()
    }


def residual_scale(config: Mapping[str, Any]) -> float:
    """What a model's configuration multiplies each layer's addition to the residual stream by (Granite); 1 for most."""
    return float(flat(config).get("residual_multiplier") or 1.0)


def _unembedding(checkpoint: Any, inventory: pd.DataFrame) -> torch.Tensor:
    decoder = inventory[(inventory["stack"] == "decoder") & inventory.layer.isna() & inventory.readable]
    own = decoder[(decoder["role"] == Role.W_U.value) & (decoder.component == "")]
    tied = tied_embeddings(checkpoint.config)
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
    W_U = load_piece(checkpoint, next(own.itertuples()))
    projection = decoder[decoder.tensor.str.endswith("project_out.weight")]
    if len(projection):
        W_U = W_U.float() @ load_piece(checkpoint, next(projection.itertuples())).float()
    return W_U


def _final_norm(inventory: pd.DataFrame) -> Any:
    norms = inventory[
        (inventory["role"] == Role.NORM.value) & inventory.layer.isna() & (inventory["stack"] == "decoder")
    ]
    found = [row for row in norms.itertuples() if FINAL_NORM.search(row.tensor)]
    if len(found) > 1:
        raise AtlasError(f"more than one final norm: {', '.join(row.tensor for row in found)}")
    return found[0] if found else None


def _gain(checkpoint: Any, row: Any, norm: str) -> torch.Tensor:
    weight = load_piece(checkpoint, row).float()
    return weight + 1.0 if "1 + w" in norm else weight
