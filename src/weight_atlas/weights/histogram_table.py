"""The table of value histograms on disk, written and read in parts, since it can be as large as the weights."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import atomic, reading
from weight_atlas.errors import AtlasError
from weight_atlas.weights.histogram import Histogram

# Columns of the inventory; the others are those of Histogram.row().
INVENTORY_COLUMNS = ["id", "tensor", "piece", "role", "stack", "layer", "expert", "rows", "cols", "dtype"]
_INTEGERS = ["layer", "expert", "rows", "cols", "absmax_row", "absmax_col"]
_PART_VALUES = 1 << 20  # distinct values in a part: about 16 MB


def histogram_parts(inventory: pd.DataFrame, histograms: Iterable[tuple[str, Histogram]]) -> Iterator[pd.DataFrame]:
    """The table of histograms, a row each, in parts of bounded size.

    inventory: the table with the same ids; its INVENTORY_COLUMNS come first.
    """
    tensors = inventory.set_index("id", drop=False)[INVENTORY_COLUMNS]
    rows, size = [], 0
    for name, histogram in histograms:
        rows.append({"id": name, **histogram.row()})
        size += len(histogram.values)
        if size >= _PART_VALUES:
            yield _part(tensors, rows)
            rows, size = [], 0
    if rows:
        yield _part(tensors, rows)


def _part(tensors: pd.DataFrame, rows: list[dict]) -> pd.DataFrame:
    histograms = pd.DataFrame(rows)
    described = tensors.loc[histograms.pop("id")].reset_index(drop=True)
    return pd.concat([described, histograms], axis=1).astype(dict.fromkeys(_INTEGERS, "Int64"))


def write_parts(path: Path, parts: Iterable[pd.DataFrame]) -> int:
    """Write the parts of a table of histograms as one parquet file, a row group each; returns the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, rows = None, 0
    with atomic(path) as temporary:
        try:
            for part in parts:
                table = pa.Table.from_pandas(part, preserve_index=False)
                if writer is None:
                    writer = pq.ParquetWriter(
                        temporary,
                        table.schema,
                        compression="zstd",
                        use_dictionary=[name for name in table.column_names if name not in ("values", "counts")],
                        # Neighbours share their leading bytes: a fourth of the size.
                        column_encoding={
                            "values.list.element": "BYTE_STREAM_SPLIT",
                            "counts.list.element": "BYTE_STREAM_SPLIT",
                        },
                    )
                writer.write_table(table)
                rows += len(part)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise AtlasError("the model has no tensor that can be read", where=path)
    return rows


def read_parts(path: Path, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
    """The parts of a table that write_parts wrote."""
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns).to_pandas()
