"""Tensors that torch keeps in a sparse layout, as tables of weights by their entries."""

from typing import TypeAlias

import numpy as np

from weight_atlas.checkpoint.named_tensor import NamedTensor
from weight_atlas.checkpoint.pytorch_file import PickleStore
from weight_atlas.errors import AtlasError
from weight_atlas.token_weights.sparse_table import SparseTable, table_of_entries, whole

Parts: TypeAlias = dict[str, np.ndarray]
_BY_ROW, _BY_COLUMN = ("crow_indices", "col_indices"), ("ccol_indices", "row_indices")
# Row, column and value of each entry, each (n,).
Entries: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def sparse_layout(tensor: NamedTensor) -> SparseTable | None:
    """A vector (V,), as (V, 1), or a table (V, L) that a PyTorch file holds in a sparse layout; None for another one.

    The layouts are those of torch's documentation (torch.sparse): COO, also with dense rows, CSR, CSC, BSR and BSC.
    AtlasError for parts that contradict each other.
    """
    store = tensor.store.sparse.get(tensor.entry.name) if isinstance(tensor.store, PickleStore) else None
    if store is None or len(tensor.shape) not in (1, 2):
        return None
    parts = {name: NamedTensor(f"{tensor.name}.{name}", entry, store).values() for name, entry in store.entries.items()}
    entries = (_coordinates if "indices" in parts else _compressed)(parts, tensor.shape)
    if entries is None or not all(whole(each) for each in entries[:2]):
        raise AtlasError(
            f"the parts of the sparse tensor {tensor.name} contradict each other",
            where=tensor.path,
            remedy="write the file again, or save the tensor dense: tensor.to_dense()",
        )
    return table_of_entries(tensor.path, tensor.name, np.array((*tensor.shape, 1)[:2]), *entries)


def _coordinates(parts: Parts, shape: tuple[int, ...]) -> Entries | None:
    """The entries by indices (1 or 2, n) and values (n,), or (n, L) where rows are dense."""
    indices, values = parts["indices"], parts["values"]
    dense = values.shape[1:]
    if indices.ndim != 2 or values.shape[:1] != indices.shape[1:] or dense != shape[len(indices) :]:
        return None
    if len(indices) == 2:
        return indices[0], indices[1], values
    if len(indices) != 1:
        return None
    width = dense[0] if dense else 1
    return np.repeat(indices[0], width), np.tile(np.arange(width), len(values)), values.reshape(-1)


def _compressed(parts: Parts, shape: tuple[int, ...]) -> Entries | None:
    """The entries by where each row (or column) of blocks begins, the place of each block in it, and its values."""
    by_row = _BY_ROW[0] in parts
    begins, places = (parts[name] for name in (_BY_ROW if by_row else _BY_COLUMN))
    values = parts["values"]
    blocks = values.reshape(-1, 1, 1) if values.ndim == 1 else values
    if (
        len(shape) != 2
        or blocks.ndim != 3
        or 0 in blocks.shape[1:]
        or begins.ndim != 1
        or places.shape != blocks.shape[:1]
    ):
        return None
    height, width = blocks.shape[1:]
    count = shape[0] // height if by_row else shape[1] // width
    if shape[0] % height or shape[1] % width or len(begins) != count + 1 or not whole(begins):
        return None
    sizes = np.diff(begins).astype(np.int64)
    if begins[0] != 0 or begins[-1] != len(places) or (sizes < 0).any():
        return None
    major = np.repeat(np.arange(count), sizes)
    row, column = (major, places) if by_row else (places, major)
    rows = row[:, None, None] * height + np.arange(height)[:, None]
    columns = column[:, None, None] * width + np.arange(width)
    return (
        np.broadcast_to(rows, blocks.shape).reshape(-1),
        np.broadcast_to(columns, blocks.shape).reshape(-1),
        blocks.reshape(-1),
    )
