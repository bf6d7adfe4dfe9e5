"""Profile of a small matrix, by numpy: the same numbers, bit for bit, as profile_kernels gives."""

import numpy as np

_LANES = 32  # as in profile_kernels.py


def profile_few(
    x: np.ndarray, height: int, width: int, tile: int, by_row: np.ndarray, by_column: np.ndarray, cells: np.ndarray
) -> None:
    """Fill the profile of a whole matrix; the arrays are those of profile_kernels.profile_rows, all zeros."""
    lost = ~np.isfinite(x)
    x = np.where(lost, 0.0, x)
    zeros = (x == 0) & ~lost
    for table, axis in ((by_row, 1), (by_column, 0)):
        table[2], table[3], table[4] = np.abs(x).max(axis), zeros.sum(axis), lost.sum(axis)
    cells[2] = _blocks(lost.astype(float), height, width).sum(axis=(1, 3))
    cells[1] = _blocks(np.abs(x), height, width).max(axis=(1, 3))
    with np.errstate(over="ignore"):  # squares of float64 alone
        for k, terms in enumerate((x, x * x)):
            bands = _in_turn(_blocks(terms, height, 1)[:, :, :, 0], axis=1)
            by_column[k] = _in_turn(bands, axis=0)
            by_row[k] = _row_sums(terms, tile)
            if k == 0:
                cells[0] = _in_turn(_blocks(bands, 1, width)[:, 0], axis=2)


def _blocks(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """A matrix in cells, (bands, height, cells of a band, width), filled up with zeros."""
    rows, columns = x.shape
    padded = np.pad(x, ((0, -rows % height), (0, -columns % width)))
    return padded.reshape(padded.shape[0] // height, height, padded.shape[1] // width, width)


def _in_turn(x: np.ndarray, axis: int) -> np.ndarray:
    """Sum along an axis, one element after the other; numpy's own order is not promised."""
    total = np.zeros(x.shape[:axis] + x.shape[axis + 1 :])
    for part in np.moveaxis(x, axis, 0):
        total += part
    return total


def _row_sums(x: np.ndarray, tile: int) -> np.ndarray:
    total = np.zeros(len(x))
    for start in range(0, x.shape[1], tile):
        part = x[:, start : start + tile]
        lanes = _in_turn(_blocks(part, 1, _LANES)[:, 0], axis=1)
        while lanes.shape[1] > 1:
            half = lanes.shape[1] // 2
            lanes = lanes[:, :half] + lanes[:, half:]
        total += lanes[:, 0]
    return total
