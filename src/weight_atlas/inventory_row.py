"""A row of a tensor inventory, as mathematics on single matrices sees it, and the function that loads its values."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch


class InventoryRow(Protocol):
    """A row of families.inventory, which explains the columns, by DataFrame.itertuples(); numbers may be missing."""

    tensor: str
    id: str
    role: str
    component: str
    stack: str
    layer: Any
    expert: Any
    rows: Any
    cols: Any
    dtype: str
    selection: str
    n_heads: Any
    head_dim: Any
    parameters: int
    norm: str


# The tensor of a row, (rows, cols) or (rows,), in its stored type.
Load: TypeAlias = "Callable[[InventoryRow], torch.Tensor]"
