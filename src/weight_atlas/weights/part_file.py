"""Tables with long lists in their rows, written and read in parts, since they can be as large as the weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import CHECKED, PARQUET, atomic, reading
from weight_atlas.errors import AtlasError


class PartFile:
    """A parquet file that is being written, a row group a part. rows: written so far; begun: whether it has a part."""

    def __init__(self, path: Path, lists: tuple[str, ...]):
        self.rows, self.begun = 0, False
        self._path, self._lists = path, lists
        self._writer: Any = None

    def write(self, part: pd.DataFrame) -> None:
        """Add the next rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(part, preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                table.schema,
                **PARQUET,
                use_dictionary=[name for name in table.column_names if name not in self._lists],
                # Neighbours share their leading bytes: a fourth of the size.
                column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in self._lists},
            )
            self.begun = True
        self._writer.write_table(table)
        self.rows += len(part)

    def close(self) -> None:
        """End the file; without a part there is none."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def part_file(path: Path, lists: tuple[str, ...]) -> Iterator[PartFile]:
    """A file to write parts to; lists: its columns with numbers in lists. Without a part it is an AtlasError."""
    with atomic(path) as temporary:
        file = PartFile(temporary, lists)
        try:
            yield file
        finally:
            file.close()
        if not file.begun:
            raise AtlasError("the model has no tensor that can be read", where=path)


def read_part_file(path: Path, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
    """The parts of a table, one after the other; columns: None for all."""
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path, **CHECKED) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns).to_pandas()


def read_part_rows(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """The rows of a table, a namedtuple each, a part at a time in memory; columns: None for all."""
    for part in read_part_file(path, columns):
        yield from part.itertuples(index=False)


def regrouped(
    rows: Iterable[pd.DataFrame], numbers: Callable[[pd.DataFrame], int], most: int
) -> Iterator[pd.DataFrame]:
    """Rows that come one by one, in frames, as parts of a table: each ends where it holds at least `most` numbers.

    numbers(row): in its lists.
    """
    part, size = [], 0
    for row in rows:
        part.append(row)
        size += numbers(row)
        if size >= most:
            yield pd.concat(part, ignore_index=True)
            part, size = [], 0
    if part:
        yield pd.concat(part, ignore_index=True)
