"""The factors of every attention head, as slices of the weight matrices of its layer: MHA, GQA, MQA and MLA."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.inventory_row import InventoryRow, Load

ROLES = ("W_Q", "W_K", "W_V", "W_O", "W_Q_a", "W_Q_b", "W_KV_a", "W_KV_b")
# Roles that each circuit needs; the last alternatives are for attention through a low-rank latent (MLA).
CIRCUITS = {"QK": (("W_Q", "W_K"), ("W_Q", "W_KV_a", "W_KV_b")), "OV": (("W_V", "W_O"), ("W_KV_a", "W_KV_b", "W_O"))}


@dataclass(frozen=True)
class Block:
    """One attention module: its stack, layer and component, and its weight matrices by role (rows of an inventory)."""

    stack: str
    layer: int
    component: str
    rows: dict[str, Any]

    def missing(self, circuit: str) -> str:
        """Why a circuit cannot be formed, or ""."""
        roles = {"W_Q" if role == "W_Q_b" else role for role in self.rows}
        if not any(roles.issuperset(needed) for needed in CIRCUITS[circuit]):
            return f"no {' and '.join(role for role in CIRCUITS[circuit][0] if role not in roles)}"
        unknown = [role for role, row in self.rows.items() if role[-2:] != "_a" and pd.isna(row.n_heads)]
        return f"heads of {unknown[0]} are not known" if unknown else ""


def attention_blocks(matrices: pd.DataFrame) -> list[Block]:
    """The attention modules among the matrices of an inventory, in its order.

    A module is identified by stack, layer and component (such as cross-attention beside self-attention).
    """
    inside = matrices[matrices["role"].isin(ROLES) & matrices["layer"].notna() & matrices["expert"].isna()]
    component = inside["component"] if "component" in inside else pd.Series("", index=inside.index)
    return [
        Block(stack, int(layer), name, {row.role: row for row in rows.itertuples(index=False)})
        for (stack, layer, name), rows in inside.groupby([inside["stack"], inside["layer"], component], sort=False)
    ]


def norm_rows(inventory: pd.DataFrame, place: str = "pre_attention") -> pd.DataFrame:
    """The rows of the norms at a place (of NORM_PLACES), of layers that have one there.

    There is none for layers with separate norms for queries, keys and values.
    """
    norms = inventory[(inventory["role"] == "norm") & (inventory["component"] == place) & inventory["layer"].notna()]
    return norms[~norms.duplicated(["stack", "layer"], keep=False)]


def norm_gains(inventory: pd.DataFrame, load: Load, place: str = "pre_attention") -> dict[tuple[str, int], np.ndarray]:
    """Gain of the norm whose output the attention reads, by (stack, layer), where the inventory has one.

    load(row) gives the gain that the norm multiplies by. There is none for models that normalise after the attention or
    without a gain. place: "post_attention" for the norm of what the attention adds to the residual stream.
    """
    norms = norm_rows(inventory, place)
    return {(row.stack, int(row.layer)): load(row).double().numpy() for row in norms.itertuples(index=False)}


def head_factors(
    block: Block, circuit: str, load: Load, gain: np.ndarray | None = None
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield (head, kv_head, left, right) for every head of a block, with A = left^T right its kernel.

    QK: left W_Q,h, right W_K,h; OV: left W_O,h^T, right W_V,h; all (head_dim, d) in float64. Query head h reads the
    key-value head h // (n_heads / n_kv_heads). With a latent (MLA) the products W_Q_b,h W_Q_a and W_KV_b,h W_KV_a take
    the place of W_Q,h, W_K,h and W_V,h, and every W_K,h ends with the rotary rows that all heads share.
    load(row) gives a tensor (out, in). gain: (d,) gain of the norm before the attention, folded into the matrices that
    read its output.
    """
    left, right = _QUERIES_AND_KEYS if circuit == "QK" else _OUTPUTS_AND_VALUES
    (left_heads, lefts), (right_heads, rights) = left(block, load, gain), right(block, load, gain)
    for head in range(left_heads):
        kv_head = head * right_heads // left_heads
        yield head, kv_head, lefts(head), rights(kv_head)


def _queries(block: Block, load: Callable, gain: np.ndarray | None) -> tuple[int, Callable]:
    if "W_Q_b" not in block.rows:
        return _plain(block.rows["W_Q"], load, gain)
    count, up = _plain(block.rows["W_Q_b"], load, None)
    down = _array(load(block.rows["W_Q_a"]), gain)
    return count, lambda head: up(head) @ down


def _keys(block: Block, load: Callable, gain: np.ndarray | None) -> tuple[int, Callable]:
    if "W_KV_b" not in block.rows:
        return _plain(block.rows["W_K"], load, gain)
    (count, up), (head_rows, rank) = _plain(block.rows["W_KV_b"], load, None), _latent(block)
    down = _array(load(block.rows["W_KV_a"]), gain)
    return count, lambda head: np.concatenate([up(head)[:head_rows] @ down[:rank], down[rank:]])


def _values(block: Block, load: Callable, gain: np.ndarray | None) -> tuple[int, Callable]:
    if "W_KV_b" not in block.rows:
        return _plain(block.rows["W_V"], load, gain)
    (count, up), (head_rows, rank) = _plain(block.rows["W_KV_b"], load, None), _latent(block)
    down = _array(load(block.rows["W_KV_a"]), gain)
    return count, lambda head: up(head)[head_rows:] @ down[:rank]


def _outputs(block: Block, load: Callable, gain: np.ndarray | None) -> tuple[int, Callable]:
    row = block.rows["W_O"]
    weight, size = load(row), int(row.head_dim)
    return int(row.n_heads), lambda head: _array(weight[:, head * size : (head + 1) * size].T, None)


_QUERIES_AND_KEYS, _OUTPUTS_AND_VALUES = (_queries, _keys), (_outputs, _values)


def _latent(block: Block) -> tuple[int, int]:
    """Rows of each head's non-rotary keys in W_KV_b, and the rank of the latent: W_KV_a is (rank + rotary rows, d)."""
    rank = int(block.rows["W_KV_b"].cols)
    query = block.rows.get("W_Q_b", block.rows.get("W_Q"))
    if query is None:
        return int(block.rows["W_KV_b"].head_dim) - int(block.rows["W_O"].head_dim), rank
    return int(query.head_dim) - (int(block.rows["W_KV_a"].rows) - rank), rank


def _plain(row: InventoryRow, load: Callable, gain: np.ndarray | None) -> tuple[int, Callable]:
    """Number of heads of a matrix whose rows are heads, and a function that gives the rows of one in float64."""
    weight, size = load(row), int(row.head_dim)
    return int(row.n_heads), lambda head: _array(weight[head * size : (head + 1) * size], gain)


def _array(weight: Any, gain: np.ndarray | None) -> np.ndarray:
    matrix = weight.double().contiguous().numpy()
    return matrix if gain is None else matrix * gain
