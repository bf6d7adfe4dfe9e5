"""The table of value histograms as it is written: in parts, since it can be as large as the weights."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from weight_atlas.weights.part_file import part_file, regrouped
from weight_atlas.weights.streaming import Reading

# Columns of the inventory; the others are those of Histogram.row().
INVENTORY_COLUMNS = ["id", "tensor", "piece", "role", "stack", "layer", "expert", "rows", "cols", "dtype"]
_INTEGERS = ["layer", "expert", "rows", "cols", "absmax_row", "absmax_col"]
_PART_VALUES = 1 << 20  # distinct values in a part: about 16 MB


def histogram_parts(inventory: pd.DataFrame, readings: Iterable[Reading]) -> Iterator[pd.DataFrame]:
    """The table of histograms, a row each, in parts of bounded size.

    inventory: the table with the same ids; its INVENTORY_COLUMNS come first.
    """
    tensors = inventory.set_index("id", drop=False)[INVENTORY_COLUMNS]
    rows, size = [], 0
    for reading in readings:
        rows.append({"id": reading.id, **reading.histogram.row()})
        size += len(reading.histogram.values)
        if size >= _PART_VALUES:
            yield _part(tensors, rows)
            rows, size = [], 0
    if rows:
        yield _part(tensors, rows)


def _part(tensors: pd.DataFrame, rows: list[dict]) -> pd.DataFrame:
    histograms = pd.DataFrame(rows)
    described = tensors.loc[histograms.pop("id")].reset_index(drop=True)
    return pd.concat([described, histograms], axis=1).astype(dict.fromkeys(_INTEGERS, "Int64"))


def histogram_parts_of(rows: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The same parts, of rows of tables of histograms, a frame each."""
    return regrouped(rows, lambda row: len(row["values"].iloc[0]), _PART_VALUES)


def write_parts(path: Path, parts: Iterable[pd.DataFrame]) -> int:
    """Write the parts of a table of histograms as one parquet file, a row group each; returns the number of rows."""
    with part_file(path, lists=("values", "counts")) as file:
        for part in parts:
            file.write(part)
    return file.rows
