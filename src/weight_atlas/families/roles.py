"""The closed lists of what a tensor can be in a model, in the field's own names, and of what a norm can be."""

from enum import StrEnum


class Role(StrEnum):
    """What a tensor does. Matrices are written (out, in): y = W x."""

    # Embeddings: rows are tokens, positions, segments.
    W_E = "W_E"
    W_POS = "W_pos"
    W_TYPE = "W_type"
    # Attention.
    W_Q = "W_Q"
    W_K = "W_K"
    W_V = "W_V"
    W_O = "W_O"
    W_ATTN_GATE = "W_attn_gate"
    # Attention through a low-rank latent (MLA): W_Q = W_Q_b W_Q_a; keys and values come from W_KV_b W_KV_a.
    W_Q_A = "W_Q_a"
    W_Q_B = "W_Q_b"
    W_KV_A = "W_KV_a"
    W_KV_B = "W_KV_b"
    # Feed-forward.
    W_GATE = "W_gate"
    W_UP = "W_up"
    W_DOWN = "W_down"
    W_ROUTER = "W_router"
    # State-space, convolution and linear-attention mixers.
    SSM_IN = "ssm_in"
    SSM_GATE = "ssm_gate"
    SSM_B = "ssm_B"
    SSM_C = "ssm_C"
    SSM_DT_A = "ssm_dt_a"
    SSM_DT = "ssm_dt"
    SSM_Q = "ssm_Q"
    SSM_K = "ssm_K"
    SSM_V = "ssm_V"
    SSM_BETA = "ssm_beta"
    SSM_OUT = "ssm_out"
    SSM_CONV = "ssm_conv"
    SSM_A = "ssm_A"
    SSM_D = "ssm_D"
    SSM_MIX = "ssm_mix"
    # Output.
    W_U = "W_U"
    W_DENSE = "W_dense"
    # Adapters: the update is scale * lora_B lora_A.
    LORA_A = "lora_A"
    LORA_B = "lora_B"
    LORA_MAGNITUDE = "lora_magnitude"
    # The rest.
    W_AUX = "W_aux"
    AUX = "aux"
    NORM = "norm"
    BIAS = "bias"
    SINKS = "sinks"
    OTHER = "other"


# One line for each role, for the documentation.
MEANING: dict[Role, str] = {
    Role.W_E: "token embedding",
    Role.W_POS: "learned position embedding",
    Role.W_TYPE: "segment (token type) embedding",
    Role.W_Q: "query projection",
    Role.W_K: "key projection",
    Role.W_V: "value projection",
    Role.W_O: "attention output projection",
    Role.W_ATTN_GATE: "gate on the attention output",
    Role.W_Q_A: "query down-projection to the latent (MLA)",
    Role.W_Q_B: "query up-projection from the latent (MLA)",
    Role.W_KV_A: "key and value down-projection to the latent, with the rotary key (MLA)",
    Role.W_KV_B: "key and value up-projection from the latent (MLA)",
    Role.W_GATE: "feed-forward gate",
    Role.W_UP: "feed-forward input projection",
    Role.W_DOWN: "feed-forward output projection",
    Role.W_ROUTER: "router to experts",
    Role.SSM_IN: "input of a state-space or convolution mixer",
    Role.SSM_GATE: "output gate of a mixer",
    Role.SSM_B: "input map B of the state",
    Role.SSM_C: "output map C of the state",
    Role.SSM_DT_A: "step size down-projection to its latent",
    Role.SSM_DT: "step size or decay of the state",
    Role.SSM_Q: "query of linear attention",
    Role.SSM_K: "key of linear attention",
    Role.SSM_V: "value of linear attention",
    Role.SSM_BETA: "write strength of linear attention",
    Role.SSM_OUT: "output of a mixer",
    Role.SSM_CONV: "convolution kernel along the sequence",
    Role.SSM_A: "decay A of the state",
    Role.SSM_D: "skip connection D of the state",
    Role.SSM_MIX: "mixing with the token before",
    Role.W_U: "unembedding (language model head)",
    Role.W_DENSE: "matrix of a head on top: pooler, transform, classifier",
    Role.LORA_A: "low-rank adapter, input side",
    Role.LORA_B: "low-rank adapter, output side",
    Role.LORA_MAGNITUDE: "magnitudes of a weight-decomposed adapter",
    Role.W_AUX: "matrix of a part that only this family has",
    Role.AUX: "scalars or vectors of a part that only this family has",
    Role.NORM: "gain of a norm",
    Role.BIAS: "bias of the role in `of_role`",
    Role.SINKS: "attention sink logits",
    Role.OTHER: "no role; looked at by itself, in no spectrum; `note` says why",
}

# Roles whose tensors are linear maps or tables of vectors, so that a spectrum says something about them.
MATRIX_ROLES = frozenset(
    {
        Role.W_E, Role.W_POS, Role.W_TYPE, Role.W_Q, Role.W_K, Role.W_V, Role.W_O, Role.W_ATTN_GATE,
        Role.W_Q_A, Role.W_Q_B, Role.W_KV_A, Role.W_KV_B, Role.W_GATE, Role.W_UP, Role.W_DOWN, Role.W_ROUTER,
        Role.SSM_IN, Role.SSM_GATE, Role.SSM_B, Role.SSM_C, Role.SSM_DT_A, Role.SSM_DT,
        Role.SSM_Q, Role.SSM_K, Role.SSM_V, Role.SSM_BETA, Role.SSM_OUT,
        Role.W_U, Role.W_DENSE, Role.LORA_A, Role.LORA_B, Role.W_AUX,
    }
)  # fmt: skip

CATEGORY: dict[Role, str] = {
    Role.W_E: "token embedding",
    Role.W_POS: "position embedding",
    Role.W_TYPE: "segment embedding",
    **dict.fromkeys([Role.W_Q, Role.W_K, Role.W_V, Role.W_O, Role.W_ATTN_GATE, Role.SINKS], "attention"),
    **dict.fromkeys([Role.W_Q_A, Role.W_Q_B, Role.W_KV_A, Role.W_KV_B], "attention"),
    **dict.fromkeys([Role.W_GATE, Role.W_UP, Role.W_DOWN], "feed-forward"),
    Role.W_ROUTER: "router",
    **{role: "state space" for role in Role if role.value.startswith("ssm_")},
    Role.W_U: "unembedding",
    Role.W_DENSE: "head",
    **{role: "adapter" for role in Role if role.value.startswith("lora_")},
    **dict.fromkeys([Role.W_AUX, Role.AUX], "auxiliary"),
    Role.NORM: "norm",
    Role.BIAS: "bias",
    Role.OTHER: "other",
}

# Roles whose rows (columns, for W_O) are cut into heads, and the quantity that counts them.
HEADS: dict[Role, str] = {
    Role.W_Q: "n_heads",
    Role.W_O: "n_heads",
    Role.W_ATTN_GATE: "n_heads",
    Role.W_Q_B: "n_heads",
    Role.W_KV_B: "n_heads",
    Role.W_K: "n_kv_heads",
    Role.W_V: "n_kv_heads",
}


# x: the input of the norm. w: the gain that is stored.
NORMS: dict[str, str] = {
    "RMSNorm": "w * x / rms(x)",
    "RMSNorm with gain 1 + w": "(1 + w) * x / rms(x)",
    "RMSNorm without parameters": "x / rms(x)",
    "LayerNorm": "w * (x - mean(x)) / std(x), and a bias where one is stored",
    "LayerNorm with gain 1 + w": "(1 + w) * (x - mean(x)) / std(x), and a bias where one is stored",
    "LayerNorm without shift": "w * (x - mean(x)) / std(x)",
    "LayerNorm without parameters": "(x - mean(x)) / std(x)",
}
NORM_PLACES: dict[str, str] = {
    "final": "of the residual stream, before the unembedding",
    "pre_attention": "of what attention, or the mixer in its place, reads; a feed-forward part may have no other",
    "post_attention": "of what attention, or the mixer in its place, adds to the residual stream",
    "pre_mlp": "of what the feed-forward part reads",
    "post_mlp": "of what the feed-forward part adds to the residual stream",
    "post_dense": "of a dense feed-forward part, before experts beside it are added",
    "post_experts": "of all experts together, shared ones too; a dense feed-forward part does not pass it",
    "transform": "in a head that transforms the residual stream",
    "indexer": "in the part that selects what attention sees",
    "mtp": "in a layer that predicts further tokens",
}
FINAL_NORMS: dict[str, str] = {
    "none": "the unembedding reads the residual stream as it is, as where norms follow each addition to it",
    "without parameters": "there is a norm, but it has nothing to store",
}


def gain_offset(norm: str) -> float:
    """What a model adds to the stored gain of a norm of this kind: 1 where it is stored as 1 + w."""
    return 1.0 if "1 + w" in norm else 0.0


def centres(norm: str) -> bool:
    """Whether a norm of this kind subtracts the mean."""
    return norm.startswith("LayerNorm")
