"""The units of a model that a tool can name: the matrices that must have one type together."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

# What HF's tools quantize: linear modules of the layers, and the head. Routers decide by small differences.
_LINEAR = frozenset(
    ["W_Q", "W_K", "W_V", "W_O", "W_attn_gate", "W_Q_a", "W_Q_b", "W_KV_a", "W_KV_b", "W_gate", "W_up", "W_down",
     "ssm_in", "ssm_gate", "ssm_Q", "ssm_K", "ssm_V", "ssm_out", "W_U"]
)  # fmt: skip
# vLLM stores these as one matrix each, with one scheme.
_TOGETHER = {"W_Q": "qkv", "W_K": "qkv", "W_V": "qkv", "W_gate": "gate_up", "W_up": "gate_up"}


@dataclass(frozen=True)
class Unit:
    """Matrices that share a type.

    name: of the first, for tables. names: what the tool calls them. ids: rows of the inventory. head: whether it is the
    unembedding.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[str, ...]
    head: bool = False


def units_of(matrices: pd.DataFrame, tool: str, gguf_name: Callable[[str], str | None] | None = None) -> list[Unit]:
    """The units of a tool, in the order of the matrices; what is in none stays in 16 bits.

    matrices: of families.pieces.matrices. gguf_name: for llama.cpp, see gguf_names.
    """
    groups: dict[object, list[tuple[str, str, str]]] = {}
    for row in matrices.itertuples(index=False):
        if (key := _key(row, tool, gguf_name)) is not None:
            groups.setdefault(key[0], []).append((key[1], row.id, row.role))
    return [
        Unit(
            members[0][0],
            tuple(dict.fromkeys(name for name, _, _ in members)),
            tuple(number for _, number, _ in members),
            any(role == "W_U" for _, _, role in members),
        )
        for members in groups.values()
    ]


def _key(row, tool: str, gguf_name: Callable[[str], str | None] | None) -> tuple[object, str] | None:
    """What a matrix shares with others of its unit, and the tool's name of it."""
    if tool == "llama.cpp":
        name = gguf_name(row.tensor) if gguf_name else row.tensor
        # Routers, position and segment embeddings are not quantized by llama-quantize.
        if name is None or row.role in ("W_router", "W_pos", "W_type"):
            return None
        return name, name
    stacked = "stacked" in row.layout
    if row.role not in _LINEAR or (stacked and tool != "torchao") or (tool == "gptqmodel" and row.role == "W_U"):
        return None
    # transformers holds experts in one parameter a layer, which bitsandbytes leaves alone and torchao knows by its name
    # where it is stored so; llm-compressor and GPTQModel take it apart into modules.
    if pd.notna(row.expert) and (tool == "bitsandbytes" or (tool == "torchao" and not stacked)):
        return None
    module = row.tensor if stacked and not row.tensor.endswith(".weight") else row.tensor.removesuffix(".weight")
    if tool == "llm-compressor":
        if pd.notna(row.expert):
            return (row.stack, row.layer, row.component, "experts"), module
        if row.role in _TOGETHER and pd.notna(row.layer):
            return (row.stack, row.layer, row.component, _TOGETHER[row.role]), module
    return row.tensor, module


def head_name(inventory: pd.DataFrame) -> str:
    """The module of the unembedding, also where it is tied to the embedding and not stored."""
    embeddings = inventory.loc[inventory["role"] == "W_E", "tensor"]
    heads = inventory.loc[(inventory["role"] == "W_U") & ~inventory["tensor"].isin(embeddings), "tensor"]
    return str(heads.iloc[0]).removesuffix(".weight") if len(heads) else "lm_head"
