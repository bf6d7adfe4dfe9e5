"""Rows of a table of singular values: their type, and what the rounding of the stored type leaves of a spectrum."""

from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np
import pandas as pd


class SpectrumRow(Protocol):
    """A matrix in a table of singular values (see Spectrum for the columns that are measured)."""

    id: str
    rows: int
    cols: int
    method: str
    error_bound: float
    frobenius: float
    rounding: float
    zero_rows: int
    zero_cols: int
    sigma: np.ndarray
    shuffled: np.ndarray


def spectrum_rows(spectra: pd.DataFrame) -> Iterator[SpectrumRow]:
    """The rows of a table of singular values, in its order."""
    return cast("Iterator[SpectrumRow]", spectra.itertuples(index=False))


def rounding_floor(rows: int, columns: int, frobenius: float, rounding: float) -> float:
    """Largest singular value of the rounding error of the stored type: (sqrt m + sqrt n) * rms error of an entry.

    Singular values below it are made of rounding; see Edelman and Rao, Random matrix theory, 2005, for the norm of a
    matrix of independent entries.
    """
    if rows * columns == 0:
        return 0.0
    return (rows**0.5 + columns**0.5) * rounding * frobenius / (rows * columns) ** 0.5


def nonzero_shape(row: SpectrumRow) -> tuple[int, int]:
    """Numbers of rows and of columns that have an entry other than zero.

    Zeros are stored exactly and belong to no random matrix: rows and columns of zeros must change nothing.
    """
    return int(row.rows) - int(row.zero_rows), int(row.cols) - int(row.zero_cols)


def floor_of(row: SpectrumRow) -> float:
    """The rounding floor of a matrix."""
    return rounding_floor(*nonzero_shape(row), row.frobenius, row.rounding)


def squared_floor(floor: float, values: np.ndarray) -> float:
    """The square of a rounding floor, and at least what float64 resolves; values: eigenvalues, ascending."""
    return max(floor**2, 1e-24 * values[-1] if values.size else 0.0)
