"""The spectra of many matrices as one table, a row each."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import InventoryRow, Load
from weight_atlas.spectra import schedule
from weight_atlas.spectra.shuffled import has_spikes, shuffled_sigma
from weight_atlas.spectra.spectrum_rows import rounding_floor

if TYPE_CHECKING:
    import torch

    from weight_atlas.spectra.singular_values import Spectrum

    # With the relative rounding of the stored type, and the largest singular values of the shuffled matrix.
    Measured: TypeAlias = tuple[Spectrum, float, np.ndarray]

# Columns of the inventory, and those that are computed.
INVENTORY_COLUMNS = ["id", "tensor", "role", "stack", "layer", "expert", "rows", "cols", "dtype"]
COMPUTED = ["method", "error_bound", "frobenius", "rounding", "zero_rows", "zero_cols", "sigma", "shuffled"]
# Memory of a batch of equal shapes on a device, in bytes of float64.
BATCH_BYTES = 4 << 30


def share_of(matrices: pd.DataFrame, part: int, count: int) -> pd.DataFrame:
    """The matrices (rows of an inventory) in part `part` (from 1) of `count` parts of about equal cost."""
    costs = [schedule.cost(rows, columns) for rows, columns in _shapes(matrices)]
    return matrices.iloc[schedule.parts(costs, count)[part - 1]]


def singular_value_table(
    matrices: pd.DataFrame,
    load: Load,
    *,
    threads: int = 1,
    memory_bytes: int = 200_000_000,
    device: str = "cpu",
) -> pd.DataFrame:
    """Spectra of matrices (rows of an inventory), each loaded by load(row) as a tensor (rows, cols) in its stored type.

    threads: matrices computed in parallel, each with one BLAS thread. memory_bytes: memory allowed beyond the largest
    matrix in float64 and its Gram matrix. On a device other than "cpu", matrices of equal shapes form batches. Adds
    method, error_bound, frobenius, rounding, zero_rows, zero_cols and sigma (see Spectrum) to the inventory's
    columns, and shuffled (see shuffled_sigma) of the matrices whose spectra have spikes.
    """
    if matrices.empty:
        return _table(matrices, [])
    from weight_atlas.spectra.singular_values import spectrum

    rows = list(matrices.itertuples(index=False))

    def measure(row: InventoryRow) -> "Measured":
        weight = load(row)
        return _with_null(weight, spectrum(weight))

    with schedule.one_thread_each():
        if device != "cpu":
            return _table(matrices, _in_batches(rows, load, device, threads))
        needs = [
            schedule.working_bytes(*shape, shape[0] * shape[1] * _item_size(row.dtype))
            for row, shape in zip(rows, _shapes(matrices), strict=True)
        ]
        allowed = schedule.allowed_bytes(_shapes(matrices), memory_bytes)
        tasks = [partial(measure, row) for row in rows]
        return _table(matrices, schedule.run_within(tasks, needs, allowed, threads))


def in_inventory_order(parts: list[pd.DataFrame], inventory: pd.DataFrame) -> pd.DataFrame:
    """The rows of all parts in the order of the inventory, whatever the number of parts.

    parts: of singular_value_table. What a part of a streamed model has beside its columns is left out.
    """
    position = pd.Series(range(len(inventory)), index=inventory["id"])
    if not any(map(len, parts)):
        raise NotApplicable("the checkpoint has no weight matrix that can be read")
    rows = pd.concat([part for part in parts if len(part)], ignore_index=True)[[*INVENTORY_COLUMNS, *COMPUTED]]
    return rows.loc[rows["id"].map(position).sort_values(kind="stable").index].reset_index(drop=True)


def _in_batches(rows: list, load: Load, device: str, threads: int) -> "list[Measured]":
    import torch

    from weight_atlas.spectra.singular_values import spectra_of_equal_shapes, spectrum

    measured: dict[int, Measured] = {}
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(rows):
            weights = [load(rows[index]) for index in batch]
            try:
                spectra = spectra_of_equal_shapes(weights, device)
            except torch.OutOfMemoryError:
                print(f"{len(batch)} matrices of {tuple(weights[0].shape)}: on the CPU, for lack of memory", flush=True)
                spectra = [spectrum(weight) for weight in weights]
            measured.update(zip(batch, pool.map(_with_null, weights, spectra), strict=True))
    return [measured[index] for index in range(len(rows))]


def _with_null(weight: "torch.Tensor", spectrum: "Spectrum") -> "Measured":
    """A spectrum, and where it has spikes what shuffling the elements leaves of them, while the matrix is at hand."""
    from weight_atlas.spectra.singular_values import relative_rounding

    rounding = relative_rounding(weight.dtype)
    shape = len(weight) - spectrum.zero_rows, weight.shape[1] - spectrum.zero_columns
    if not has_spikes(spectrum.sigma, shape, rounding_floor(*shape, spectrum.frobenius, rounding)):
        return spectrum, rounding, np.empty(0)
    return spectrum, rounding, shuffled_sigma(weight)


def _batches(rows: list) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, row in enumerate(rows):
        by_shape.setdefault((row.rows, row.cols), []).append(index)
    for (height, width), indices in by_shape.items():
        size = max(1, BATCH_BYTES // max(1, 8 * (height * width + 2 * min(height, width) ** 2)))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _table(matrices: pd.DataFrame, measured: "list[Measured]") -> pd.DataFrame:
    spectra = [spectrum for spectrum, *_ in measured]
    table = matrices[INVENTORY_COLUMNS].reset_index(drop=True)
    return table.astype({"rows": "int64", "cols": "int64", "layer": "Int64", "expert": "Int64"}).assign(
        method=pd.Series([spectrum.method for spectrum in spectra], dtype=str),
        error_bound=np.array([spectrum.error_bound for spectrum in spectra], dtype=float),
        frobenius=np.array([spectrum.frobenius for spectrum in spectra], dtype=float),
        rounding=np.array([rounding for _, rounding, _ in measured], dtype=float),
        zero_rows=np.array([spectrum.zero_rows for spectrum in spectra], dtype="int64"),
        zero_cols=np.array([spectrum.zero_columns for spectrum in spectra], dtype="int64"),
        sigma=pd.Series([spectrum.sigma for spectrum in spectra], dtype=object),
        shuffled=pd.Series([shuffled for *_, shuffled in measured], dtype=object),
    )


def _shapes(matrices: pd.DataFrame) -> list[tuple[int, int]]:
    return [(int(rows), int(columns)) for rows, columns in zip(matrices["rows"], matrices["cols"], strict=True)]


def _item_size(dtype: str) -> int:
    digits = "".join(character for character in dtype.split("_")[0] if character.isdigit())
    return max(1, int(digits or 32) // 8)
