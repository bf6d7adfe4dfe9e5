"""What a tensor's card draws: its values, its spectrum and its picture, each small enough to send."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from weight_atlas.artifacts import CHECKED, reading

BINS, SIGMAS, POINTS = 64, 8, 96
# Tensors up to which single experts are drawn too, and the longest side of a picture by their number.
MOST_TENSORS = 4000
SIDES = ((600, 64), (2000, 32), (MOST_TENSORS, 16))
ROWS = 32  # read at a time


def side_of(tensors: int) -> int:
    """The longest side of a picture, in cells, for a model of so many matrices."""
    return next((side for most, side in SIDES if tensors <= most), SIDES[-1][1])


def distributions(path: Path, wanted: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The histogram of each tensor in a value_histogram table.

    {low, width, counts, below, above, n, mean, std, min, max}: equal bins over the values, at most SIGMAS standard
    deviations from the mean; what lies beyond is counted.
    """
    columns = ["id", "n", "mean", "std", "min", "max", "values", "counts"]
    for row in _rows(path, columns, wanted):
        values, counts = np.asarray(row["values"], dtype=np.float64), np.asarray(row["counts"], dtype=np.float64)
        if not len(values):
            continue
        mean, std = row["mean"], row["std"]
        low, high = max(row["min"], mean - SIGMAS * std), min(row["max"], mean + SIGMAS * std)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        found, edges = np.histogram(values, BINS, (low, high), weights=counts)
        yield (
            row["id"],
            {
                "low": edges[0],
                "width": edges[1] - edges[0],
                "counts": found.astype(int).tolist(),
                "below": int(counts[values < low].sum()),
                "above": int(counts[values > high].sum()),
                **{key: row[key] for key in ("n", "mean", "std", "min", "max")},
            },
        )


def spectra(path: Path, wanted: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The singular values of each matrix in a singular_values table: {place, sigma, rows, cols, frobenius, count}.

    Of more than POINTS the first ones, and then ever fewer; place: of each, counted from 1.
    """
    for row in _rows(path, ["id", "rows", "cols", "frobenius", "sigma"], wanted):
        sigma = np.asarray(row["sigma"] if row["sigma"] is not None else [], dtype=np.float64)
        if not len(sigma):
            continue
        place = np.unique(np.geomspace(1, len(sigma), POINTS).round().astype(int))
        yield (
            row["id"],
            {
                "place": place.tolist(),
                "sigma": _short(sigma[place - 1]),
                "count": len(sigma),
                **{key: row[key] for key in ("rows", "cols", "frobenius")},
            },
        )


def pictures(path: Path, wanted: set[str], side: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Two pictures of each matrix in a weight_profile table, one byte a cell: its mean and its largest magnitude.

    {height, width: of the picture, rows, cols: elements of one of its cells, mean, largest: base64, mean_scale,
    largest_range}. The mean runs from -mean_scale (0) over 0 (128) to mean_scale (255), the largest magnitude as its
    logarithm from the least to the largest.
    """
    columns = ["id", "rows", "cols", "height", "width", "cell_mean", "cell_absmax"]
    for row in _rows(path, columns, wanted):
        across, down = -(-row["cols"] // row["width"]), -(-row["rows"] // row["height"])
        mean = np.asarray(row["cell_mean"], dtype=np.float64).reshape(down, across)
        largest = np.asarray(row["cell_absmax"], dtype=np.float64).reshape(down, across)
        y, x = -(-down // side), -(-across // side)
        mean, largest = _blocks(mean, y, x, np.nanmean), _blocks(largest, y, x, np.nanmax)
        scale = float(np.nanmax(np.abs(mean), initial=0)) or 1.0
        positive = largest[largest > 0]
        low, high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 1.0)
        logs = np.log(np.clip(largest, low, high) / low) / (np.log(high / low) or 1.0)
        yield (
            row["id"],
            {
                "height": mean.shape[0],
                "width": mean.shape[1],
                "rows": y * row["height"],
                "cols": x * row["width"],
                "mean": _bytes(128 + 127 * mean / scale),
                "mean_scale": scale,
                "largest": _bytes(255 * logs),
                "largest_range": [low, high],
            },
        )


def _blocks(cells: np.ndarray, y: int, x: int, of: Any) -> np.ndarray:
    """Cells of blocks of y by x cells; those at the ends may be cut."""
    if y == x == 1:
        return cells
    padded = np.pad(cells, [(0, -cells.shape[0] % y), (0, -cells.shape[1] % x)], mode="edge")
    shape = (padded.shape[0] // y, y, padded.shape[1] // x, x)
    return np.asarray(of(padded.reshape(shape), axis=(1, 3)))


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(np.nan_to_num(values).round().clip(0, 255).astype(np.uint8).tobytes()).decode()


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _rows(path: Path, columns: list[str], wanted: set[str]) -> Iterator[dict[str, Any]]:
    """Rows of a parquet table with large lists, few in memory at a time, only those of wanted ids."""
    from pyarrow.parquet import ParquetFile

    with reading(path), ParquetFile(path, **CHECKED) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        if "id" not in there:
            return
        for batch in file.iter_batches(ROWS, columns=there):
            lists = {name: batch.column(name) for name in there}
            for number, name in enumerate(lists["id"].to_pylist()):
                if name in wanted:
                    yield {key: _value(column[number]) for key, column in lists.items()}


def _value(scalar: Any) -> Any:
    """A cell of a table; a list as an array."""
    values = getattr(scalar, "values", None)
    return scalar.as_py() if values is None else values.to_numpy(zero_copy_only=False)
