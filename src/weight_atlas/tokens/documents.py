"""Documents from text files, JSON lines, parquet files and data sets of the hub: (name, text, group) each."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from weight_atlas.data_sets import data_sets_library
from weight_atlas.errors import AtlasError
from weight_atlas.tokens.sources import SUFFIXES


class Document(NamedTuple):
    """One document: its name within the corpus, its text, and the group (such as a language) that it belongs to."""

    name: str
    text: str
    group: str


def file_documents(paths: list[Path], column: str, group_column: str | None) -> Iterator[Document]:
    """Yield the documents of files; a text file is one, any other has one in each row.

    Names are paths below the files' common folder, followed by the row, so that they do not depend on where the corpus
    is. AtlasError for an unknown kind of file, invalid content, and a column that is missing or not text.
    """
    readers = {".jsonl": _json_lines, ".parquet": _parquet_rows}
    root = os.path.commonpath([path.resolve().parent for path in paths])
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise AtlasError("unknown kind of corpus file", where=path, remedy=f"use one of {', '.join(SUFFIXES)}")
        name = path.resolve().relative_to(root).as_posix()
        if path.suffix == ".txt":
            yield Document(name, _text_file(path), "")
            continue
        for number, row in readers[path.suffix](path, [column, *([group_column] if group_column else [])]):
            yield _document(f"{name}:{number:09d}", row, column, group_column, f"{path}, row {number}")


def hub_documents(
    dataset: str, *, name: str | None, split: str, column: str, group_column: str | None, revision: str | None,
    limit: int | None,
) -> Iterator[Document]:  # fmt: skip
    """Yield the documents of a data set on the hub, or of its copy in the local cache.

    name: the data set's configuration. limit: number of rows from the start, streamed instead of downloaded whole.
    AtlasError where it cannot be loaded.
    """
    datasets = data_sets_library()
    where = f"{dataset}, split {split}"
    try:
        rows = datasets.load_dataset(dataset, name, split=split, revision=revision, streaming=limit is not None)
        rows = rows.select_columns([column, group_column] if group_column else [column])
        for number, row in enumerate(islice(rows, limit), start=1):
            yield _document(f"{number:09d}", row, column, group_column, f"{where}, row {number}")
    except AtlasError:
        raise
    except Exception as error:
        # The library raises dozens of types, from connection errors to a missing loading script.
        raise AtlasError(
            f"the data set cannot be loaded: {_first_line(error)}",
            where=where,
            remedy="check its name, `name`, `split`, `column` and `revision`; without a network, take local files as "
            "source or fill the cache first (HF_HOME)",
        ) from error


def _document(name: str, row: dict, column: str, group_column: str | None, where: str) -> Document:
    for wanted in (column, group_column):
        if wanted and wanted not in row:
            raise _no_column(wanted, list(row), where)
    text, group = row[column], row[group_column] if group_column else ""
    if text is not None and not isinstance(text, str):
        raise AtlasError(
            f"column {column!r} holds {type(text).__name__}, not text",
            where=where,
            remedy="set `column` to a text column",
        )
    return Document(name, text or "", "" if group is None else str(group))


def _no_column(column: str, columns: list[str], where: object) -> AtlasError:
    return AtlasError(f"there is no column {column!r}", where=where, remedy=f"columns there are: {', '.join(columns)}")


def _text_file(path: Path) -> str:
    return _decoded(path.read_bytes(), path, 0)


def _json_lines(path: Path, columns: list[str]) -> Iterator[tuple[int, dict]]:
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _json_row(_decoded(line, path, offset), f"{path}, line {number}")
            offset += len(line)


def _json_row(line: str, where: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise AtlasError(f"not valid JSON: {error}", where=where, remedy="write one JSON object a line") from error
    if not isinstance(row, dict):
        raise AtlasError("a line that is not a JSON object", where=where, remedy="write one JSON object a line")
    return row


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[tuple[int, dict]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            present = file.schema_arrow.names
            for column in columns:
                if column not in present:
                    raise _no_column(column, present, path)
            number = 0
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise AtlasError(
            f"the parquet file cannot be read: {_first_line(error)}", where=path, remedy="restore it or leave it out"
        ) from error


def _decoded(content: bytes, path: Path, offset: int) -> str:
    """Decode UTF-8, without the mark that some editors put first; offset: where in the file the content begins."""
    try:
        return content.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        raise AtlasError(
            f"not UTF-8: byte {content[error.start]:#04x} at {offset + error.start}",
            where=path,
            remedy="convert the file to UTF-8, for example with iconv",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
