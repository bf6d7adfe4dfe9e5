"""Where rounding of the stored type begins in a spectrum, and the part of a matrix that is not zero."""

from typing import Any


def rounding_floor(rows: int, columns: int, frobenius: float, rounding: float) -> float:
    """Largest singular value of the rounding error of the stored type: (sqrt m + sqrt n) * rms error of an entry.

    Singular values below it are made of rounding; see Edelman and Rao, Random matrix theory, 2005, for the norm of a
    matrix of independent entries.
    """
    if rows * columns == 0:
        return 0.0
    return (rows**0.5 + columns**0.5) * rounding * frobenius / (rows * columns) ** 0.5


def live_shape(row: Any) -> tuple[int, int]:
    """(rows, columns) with an entry other than zero, of a row of a table of singular values.

    Zeros are stored exactly and belong to no random matrix: rows and columns of zeros must change nothing.
    """
    return int(row.rows) - int(getattr(row, "zero_rows", 0)), int(row.cols) - int(getattr(row, "zero_cols", 0))


def floor_of(row: Any) -> float:
    """The rounding floor of a row of a table of singular values."""
    return rounding_floor(*live_shape(row), row.frobenius, row.rounding)
