"""Matrices and inventories that recipes are made for."""

import numpy as np
import pandas as pd


def normal(rows, cols, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32) * np.float32(0.02)


def inventory_of(rows):
    """A table of an inventory with what recipes read of it."""
    keys = {
        "tensor": "", "id": "", "role": "W_up", "component": "", "stack": "decoder", "layer": 0, "expert": pd.NA,
        "rows": 4, "cols": 256, "layout": "", "tied_to": "", "parameters": 1024, "norm": "",
    }  # fmt: skip
    table = pd.DataFrame([{**keys, **row, "id": row.get("id", row["tensor"])} for row in rows])
    return table.astype(dict.fromkeys(("layer", "expert", "rows", "cols"), "Int64"))


LLAMA = [
    {"tensor": "model.embed_tokens.weight", "role": "W_E", "layer": pd.NA},
    {"tensor": "lm_head.weight", "role": "W_U", "layer": pd.NA},
    *(
        {"tensor": f"model.layers.0.self_attn.{name}_proj.weight", "role": f"W_{name.upper()}"}
        for name in ("q", "k", "v", "o")
    ),
    {"tensor": "model.layers.0.mlp.gate_proj.weight", "role": "W_gate"},
    {"tensor": "model.layers.0.mlp.up_proj.weight", "role": "W_up"},
    {"tensor": "model.layers.0.mlp.down_proj.weight", "role": "W_down"},
]


MIXTRAL = [
    *LLAMA[:6],
    {"tensor": "model.layers.0.block_sparse_moe.gate.weight", "role": "W_router"},
    *(
        {"tensor": f"model.layers.0.block_sparse_moe.experts.{expert}.{name}.weight", "role": role, "expert": expert}
        for expert in range(2)
        for name, role in (("w1", "W_gate"), ("w2", "W_down"), ("w3", "W_up"))
    ),
]
GPT2 = [
    {"tensor": "wte.weight", "role": "W_E", "layer": pd.NA},
    {"tensor": "wpe.weight", "role": "W_pos", "layer": pd.NA},
    *(
        {"tensor": "h.0.attn.c_attn.weight", "id": f"h.0.attn.c_attn.weight#{role}", "role": role}
        for role in ("W_Q", "W_K", "W_V")
    ),
    {"tensor": "h.0.mlp.c_proj.weight", "role": "W_down"},
]
