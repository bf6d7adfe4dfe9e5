"""Weights of tokens out of a file: a vector, or a table of them that is reduced to one number a token."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.named_tensor import CHUNK, NamedTensor, named_tensor, tensors_of
from weight_atlas.errors import CONTROL, AtlasError, NotApplicable, first_line, refuse_huge, unknown_name
from weight_atlas.families.pieces import load_piece
from weight_atlas.numbers_of import number_of
from weight_atlas.paths import user_path
from weight_atlas.settings.token_weights import Table
from weight_atlas.token_weights.best_tokens import BestTokens
from weight_atlas.token_weights.byte_floats import ByteFloats, byte_floats
from weight_atlas.token_weights.sparse_layout import sparse_layout
from weight_atlas.token_weights.sparse_table import MOST_ROWS, SparseTable, sparse_table

USUAL = "token_weights"
Stored: TypeAlias = NamedTensor | ByteFloats | SparseTable
Reduction: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TokenWeights:
    """weights: (V,) float64 by token id. kept: (V,) bool, false for masked tokens; None where there is no mask.

    made_of: what the weights are, in words. best: of a table, the tokens of highest weight in each column.
    """

    weights: np.ndarray
    kept: np.ndarray | None
    made_of: str
    best: pd.DataFrame = field(default_factory=BestTokens.nothing)


def read_token_weights(path: Path, settings: Table, top: int) -> TokenWeights:
    """Read the weights that settings name from a file: the named tensors, and nothing else of it.

    top: tokens to list for each column of a table. AtlasError for what cannot be weights of tokens.
    """
    tensors = tensors_of(path)
    sparse = sparse_table(path, tensors, settings)
    read = _of_table(_named(path, settings, tensors) if sparse is None else sparse, settings, top, path)
    _refuse_overflow(read, path)
    if settings.mask_key is None:
        return read
    marked = _mask(named_tensor(path, settings.mask_key, "token_mask", tensors), len(read.weights))
    kept = marked if settings.mask_marks == "kept" else ~marked
    return TokenWeights(read.weights, kept, read.made_of, read.best)


def _refuse_overflow(read: TokenWeights, path: Path) -> None:
    """AtlasError for finite weights whose sums are not: a fourth of the range leaves room for their differences."""
    size = np.abs(read.weights[np.isfinite(read.weights)])
    with np.errstate(over="ignore"):
        total = size.sum()
    if total > np.finfo(np.float64).max / 4:
        raise AtlasError(
            f"weights of up to {size.max():.3g}, whose sums leave the range of 64-bit floats",
            where=path,
            remedy="check that the file holds weights and is whole; if they are, divide them by a constant",
        )


def _named(path: Path, settings: Table, tensors: dict[str, NamedTensor]) -> Stored:
    tensor = named_tensor(path, settings.key, USUAL, tensors)
    return sparse_layout(tensor) or byte_floats(tensor, path, tensors, settings) or tensor


def _mask(tensor: NamedTensor, size: int) -> np.ndarray:
    values = (sparse_layout(tensor) or tensor).values().reshape(-1)
    if len(values) != size:
        raise AtlasError(
            f"the mask {tensor.name} has {number_of(len(values), 'entry', 'entries')} for {number_of(size, 'weight')}",
            where=tensor.path,
            remedy="name the mask that belongs to these weights in `mask_key`",
        )
    return values != 0


def _of_table(table: Stored, settings: Table, top: int, path: Path) -> TokenWeights:
    shape = table.shape
    long = [size for size in shape if size != 1]
    if not shape or len(long) > 2 or (len(shape) > 2 and shape[0] == 1):
        raise AtlasError(
            f"{table.name} has the shape {list(shape)}",
            where=path,
            remedy="weights of tokens have one number a token, (V,) or (V, 1), or are a table with one row a token",
        )
    if 0 in shape and max(shape) > MOST_ROWS:  # no file would be too small for it
        what = f"{table.name} of shape {list(shape)} holds no numbers"
        raise AtlasError(what, where=path, remedy="name another tensor in `key`, or write the file again")
    flat = len(long) < 2 and (shape[0] != 1 or len(shape) == 1 or max(shape) == 1)
    if flat or (len(shape) == 2 and shape[0] == 1 and settings.reduce is None and settings.column is None):
        # (1, V) as well: a table of one token says nothing, a row of weights is how some tools store a vector.
        return TokenWeights(table.values().reshape(-1), None, _described(table, "as stored"))
    names = column_names(settings, shape[1])
    return _reduced(table, settings, names, top, path)


def _described(table: Stored, how: str) -> str:
    return f"{table.name} {list(table.shape)}, {how}"


def _reduced(table: Stored, settings: Table, names: list[str] | None, top: int, path: Path) -> TokenWeights:
    reduce = _reduction(table, settings, names, path)
    how = f"{settings.reduce} of each row" if settings.column is None else f"column {settings.column}"
    weights = np.empty(table.shape[0])
    best = BestTokens(top)
    for first, rows in table.chunks():
        rows = rows.reshape(len(rows), -1)
        weights[first : first + len(rows)] = reduce(rows)
        if names is not None:
            best.see(first, rows)
    return TokenWeights(weights, None, _described(table, how), best.table(names or []))


def _reduction(table: Stored, settings: Table, names: list[str] | None, path: Path) -> Reduction:
    if settings.column is not None:
        number = _column_number(settings.column, names, table.shape[1], path)
        return lambda rows: rows[:, number]
    if settings.reduce is None:
        raise AtlasError(
            f"{table.name} is a table of {table.shape[0]} x {table.shape[1]}",
            where=path,
            remedy="say what its weights are: `reduce: norm`, max, min, mean, absmax or sum, or a `column`",
        )
    return REDUCTIONS[settings.reduce]


def _column_number(column: int | str, names: list[str] | None, count: int, path: Path) -> int:
    if isinstance(column, str):
        if names is None or column not in names:
            raise unknown_name("column", column, names or [], path)
        return names.index(column)
    if column >= count:
        raise AtlasError(f"there is no column {column}", where=path, remedy=f"the table has {count}, numbered from 0")
    return column


def row_norms(rows: np.ndarray) -> np.ndarray:
    """L2 norm of each row of (n, d) in float64, whatever the size of the numbers."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    # Squares of what is very large or very small leave the range of float64.
    scale = np.where(np.isfinite(largest) & (largest > 0), np.exp2(np.frexp(largest)[1].clip(-1000, 1000)), 1.0)
    scaled = rows / scale[:, None]
    return np.sqrt(np.einsum("ij,ij->i", scaled, scaled)) * scale


REDUCTIONS = {
    "norm": row_norms,
    "max": lambda rows: rows.max(axis=1),
    "min": lambda rows: rows.min(axis=1),
    "mean": lambda rows: rows.mean(axis=1),
    "absmax": lambda rows: np.abs(rows).max(axis=1),
    "sum": lambda rows: rows.sum(axis=1),
}


def column_names(settings: Table, count: int) -> list[str] | None:
    """The names of a table's columns that settings give, None for none; AtlasError where they are not as many."""
    if settings.columns is None:
        return None
    if isinstance(settings.columns, str):
        path = user_path(settings.columns)
        names, where = list(_names_in(path)), path
    else:
        names, where = list(settings.columns), None
    if len(names) != count:
        raise AtlasError(
            f"{number_of(len(names), 'name')} for {number_of(count, 'column')}",
            where=where or "columns",
            remedy="give one name for each column",
        )
    return names


def _names_in(path: Path) -> Iterator[str]:
    """Names in a file: one a line; or of JSON, a list, or an object from name to number."""
    refuse_huge(path)
    try:
        content = read_json(path) if path.suffix == ".json" else path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        what = f"the names of columns cannot be read: {first_line(error)}"
        raise AtlasError(what, where=path, remedy="check the path, and that it is UTF-8") from error
    if isinstance(content, dict) and all(isinstance(number, int | float) for number in content.values()):
        content = sorted(content, key=content.__getitem__)
    if not isinstance(content, list) or not all(isinstance(name, str) and not CONTROL.search(name) for name in content):
        raise AtlasError(
            "not the names of columns", where=path, remedy="give one a line, or as JSON a list, or an object of numbers"
        )
    yield from (name.strip() for name in content if name.strip())


def matrix_row_norms(checkpoint: Checkpoint, inventory: pd.DataFrame, matrix: str) -> TokenWeights:
    """L2 norm of each row of a model's W_E or W_U, (V, d_model), as its weights of tokens.

    inventory: of the checkpoint's tensors. NotApplicable for a model without such a matrix.
    """
    rows = inventory[(inventory["role"] == matrix) & (inventory["component"] == "")]
    if rows.empty or not rows["readable"].iloc[0]:
        raise NotApplicable(f"the model has no {matrix} that can be read", where=checkpoint.folder)
    row = next(rows.itertuples())
    parts = [row_norms(part) for part in _row_ranges(checkpoint, row)]
    weights = np.concatenate(parts) if parts else np.empty(0)
    return TokenWeights(weights, None, f"L2 norm of each row of {matrix}, {row.tensor} [{row.rows}, {row.cols}]")


def _row_ranges(checkpoint: Checkpoint, row: Any) -> Iterator[np.ndarray]:
    """The rows of a matrix of the inventory, float64, some at a time where it is stored as it is used."""
    if row.selection:  # a piece of a tensor, or a transposed one
        yield load_piece(checkpoint, row).double().numpy()
        return
    step = max(1, CHUNK // max(1, int(row.cols)))
    for first in range(0, int(row.rows), step):
        yield checkpoint.read(row.tensor, slice(first, min(first + step, int(row.rows)))).double().numpy()
