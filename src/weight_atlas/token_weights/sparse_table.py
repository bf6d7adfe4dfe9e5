"""A sparse table of weights by its entries: tensors of the row, the column and the value of each entry."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from weight_atlas.checkpoint.named_tensor import CHUNK, NamedTensor, named_tensor
from weight_atlas.errors import AtlasError
from weight_atlas.settings.token_weights import Table

# What tools call them: of each triple, the spellings of one part.
USUAL = (
    ("rows", "row", "row_indices", "row_index", "row_idx", "token_ids", "indices_0"),
    (
        "columns",
        "cols",
        "col",
        "column",
        "col_indices",
        "col_index",
        "col_idx",
        "column_indices",
        "lang_ids",
        "indices_1",
    ),
    ("values", "value", "vals", "data", "weights"),
)
SHAPE = ("shape", "size", "dense_shape")
# More than any vocabulary and its columns: a table of these sizes is read some rows at a time.
MOST_ROWS, MOST_COLUMNS = 1 << 26, 1 << 20


@dataclass(frozen=True)
class SparseTable:
    """A table by its entries, sorted by row; entries of one place add up, as in scipy and torch.

    shape: of the dense table. fill: what the places without an entry hold.
    """

    name: str
    shape: tuple[int, int]
    rows: np.ndarray = field(repr=False)
    columns: np.ndarray = field(repr=False)
    data: np.ndarray = field(repr=False)

    def values(self, rows: slice | None = None) -> np.ndarray:
        """Dense rows, float64."""
        start, stop, _ = (rows or slice(None)).indices(self.shape[0])
        first, last = np.searchsorted(self.rows, [start, stop])
        dense = np.zeros((max(0, stop - start), self.shape[1]))
        np.add.at(dense, (self.rows[first:last] - start, self.columns[first:last]), self.data[first:last])
        return dense

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and values of ranges of dense rows."""
        step = max(1, CHUNK // max(1, self.shape[1]))
        for first in range(0, self.shape[0], step):
            yield first, self.values(slice(first, first + step))


def sparse_table(path: Path, tensors: dict[str, NamedTensor], settings: Table) -> SparseTable | None:
    """The sparse table of a file, where settings name its parts or it has tensors of the usual names; else None."""
    if settings.sparse is not None:
        parts = [named_tensor(path, key, key, tensors) for key in settings.sparse]
    elif settings.key is not None or (found := _usual(tensors)) is None:
        return None
    else:
        parts = found
    row, column, data = (part.values().reshape(-1) for part in parts)
    name = ", ".join(part.name for part in parts)
    if not len(row) == len(column) == len(data):
        raise AtlasError(
            f"the parts of a sparse table have {len(row)}, {len(column)} and {len(data)} entries",
            where=path,
            remedy="name the tensors of rows, columns and values in `sparse`",
        )
    if not all(whole(each) for each in (row, column)):
        raise AtlasError(
            f"rows and columns of the sparse table {name} are no whole numbers from 0",
            where=path,
            remedy="name them in the order rows, columns, values in `sparse`",
        )
    said = next((tensors[name].values().reshape(-1) for name in SHAPE if name in tensors), None)
    return table_of_entries(path, name, said, row, column, data)


def table_of_entries(
    path: Path, name: str, shape: np.ndarray | None, row: np.ndarray, column: np.ndarray, data: np.ndarray
) -> SparseTable:
    """The table of entries (n,) in any order, whose rows and columns are whole numbers from 0; shape: as the file says.

    AtlasError for a shape that the entries contradict, and for one beyond any vocabulary.
    """
    order = np.argsort(row, kind="stable")
    row, column, data = row[order].astype(np.int64), column[order].astype(np.int64), data[order]
    return SparseTable(name, _shape(path, shape, row, column), row, column, data)


def _usual(tensors: dict[str, NamedTensor]) -> list[NamedTensor] | None:
    last = {name.rpartition(".")[2].lower(): tensor for name, tensor in tensors.items()}
    if "indices" in last and "values" in last and len(last["indices"].shape) == 2 and last["indices"].shape[0] == 2:
        return [_Half(last["indices"], 0), _Half(last["indices"], 1), last["values"]]  # type: ignore[list-item]
    found = [next((last[name] for name in names if name in last), None) for names in USUAL]
    return [part for part in found if part is not None] if all(part is not None for part in found) else None


@dataclass(frozen=True)
class _Half:
    """One row of indices (2, n), as torch keeps those of a sparse tensor."""

    tensor: NamedTensor
    number: int

    @property
    def name(self) -> str:
        return f"{self.tensor.name}[{self.number}]"

    def values(self) -> np.ndarray:
        return self.tensor.values()[self.number]


def whole(numbers: np.ndarray) -> bool:
    """Whether all are whole numbers from 0."""
    return bool(np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers == np.floor(numbers)).all())


def _shape(path: Path, said: np.ndarray | None, row: np.ndarray, column: np.ndarray) -> tuple[int, int]:
    """The shape that the file says, or that of the places that have an entry."""
    least = (int(row.max(initial=-1)) + 1, int(column.max(initial=-1)) + 1)
    shape = least if said is None else tuple(int(size) for size in said) if whole(said) else ()
    if len(shape) != 2 or shape[0] < least[0] or shape[1] < least[1]:
        raise AtlasError(
            f"a sparse table of the shape {list(shape)} with an entry at row {least[0] - 1}, column {least[1] - 1}",
            where=path,
            remedy="write the file again: its shape is that of the dense table",
        )
    if shape[0] > MOST_ROWS or shape[1] > MOST_COLUMNS:
        what = f"a sparse table of {shape[0]} rows and {shape[1]} columns is larger than any vocabulary"
        raise AtlasError(what, where=path, remedy="name rows, columns and values in this order in `sparse`")
    return shape[0], shape[1]
