"""Rows of text files, JSON lines, csv and parquet files, or of shares of them, in bounded memory."""

import csv
import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, AnyStr, NamedTuple

from weight_atlas.errors import MOST_AT_ONCE, AtlasError, first_line, refuse_huge
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.compressed import opened
from weight_atlas.tokens.parts import Share
from weight_atlas.tokens.progress import Progress
from weight_atlas.tokens.sources import kind_of

_ROWS = 256  # of a parquet file in memory at once
_LONGEST_CELL = 2**31 - 1
_LONGEST_LINE, _LONGEST_TEXT = 1 << 30, 1 << 32  # bytes of one document
_PART = 1 << 20  # bytes
_NO_UTF8 = re.compile("[\udc80-\udcff]")  # how bytes that are not UTF-8 are kept in a text


class Row(NamedTuple):
    """The columns of one row and its number from 1 on; None for a text file, which is one document."""

    number: int | None
    values: dict[str, Any]


def columns_of(corpus: Corpus) -> list[str]:
    """The columns of a corpus that are read, each once."""
    return list(dict.fromkeys([corpus.column, *([corpus.group_column] if corpus.group_column else []), *corpus.keep]))


def rows_of(share: Share, corpus: Corpus, progress: Progress) -> Iterator[Row]:
    """Yield the rows of a share of a file, of a whole file at most the first `limit`.

    Rows of a share of JSON lines are numbered from its own beginning. Bytes that are not UTF-8 stay in the texts, as
    lone surrogates, unless `invalid_utf8` is to be an error.
    """
    path = Path(share.path)
    readers = {
        ".txt": _text,
        ".jsonl": _json_lines,
        ".json": _json_file,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    return readers[str(kind_of(path))](path, share, corpus, progress)


def _text(path: Path, share: Share, corpus: Corpus, progress: Progress) -> Iterator[Row]:
    refuse_huge(path, _LONGEST_TEXT)
    with opened(path, progress) as file:
        content = _whole(file, _LONGEST_TEXT)
    if len(content) > _LONGEST_TEXT:
        what = f"a text of more than {_LONGEST_TEXT:,} bytes"
        raise AtlasError(what, where=path, remedy="write documents as lines of a .jsonl file")
    yield Row(None, {corpus.column: _decoded(content, path, 0, corpus), **dict.fromkeys(corpus.keep)})


def _whole(file: IO[bytes], most: int) -> bytearray:
    """The bytes of a file, of one with more than `most` somewhat more than these; read in parts, since a read takes all
    the memory that it may need."""
    content = bytearray()
    while len(content) <= most and (part := file.read(_PART)):
        content += part
    return content


def _json_lines(path: Path, share: Share, corpus: Corpus, progress: Progress) -> Iterator[Row]:
    size = path.stat().st_size
    offset = size * share.number // share.of
    # A whole file may be compressed, and be of any size.
    stop = size * (share.number + 1) // share.of if share.of > 1 else math.inf
    with opened(path, progress) as file:
        if offset:
            # A line belongs to the share in which it begins.
            file.seek(offset - 1)
            offset += len(file.readline()) - 1
        for number, line in enumerate(_lines(file, path), start=1):
            if offset >= stop:
                return
            if line.removeprefix(BOM_UTF8).strip():
                where = f"{path}, line {number}" if share.number == 0 else f"{path}, after byte {offset}"
                yield Row(number, _json_row(_decoded(line, path, offset, corpus), where))
            offset += len(line)


def _json_file(path: Path, share: Share, corpus: Corpus, progress: Progress) -> Iterator[Row]:
    """Rows of JSON lines, or of one JSON value: an array of objects or an object, which is one row."""
    if _begins_with_a_row(path):
        yield from _json_lines(path, share, corpus, progress)
        return
    if share.number:  # it is read as a whole, by the first share
        return
    refuse_huge(path)
    with opened(path, progress) as file:
        content = _whole(file, MOST_AT_ONCE)
    if len(content) > MOST_AT_ONCE:
        what = f"JSON that is one value of more than {MOST_AT_ONCE:,} bytes"
        raise AtlasError(what, where=path, remedy="write one JSON object a line")
    value = _json_value(_decoded(content, path, 0, corpus), str(path))
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        if not isinstance(row, dict):
            raise AtlasError("a document that is not a JSON object", where=f"{path}, row {number}", remedy=_OBJECTS)
        yield Row(number, row)


def _begins_with_a_row(path: Path) -> bool:
    """Whether the first line that is not blank is a JSON object, as in JSON lines."""
    with opened(path, Progress()) as file:
        first = next((line for line in _lines(file, path) if line.removeprefix(BOM_UTF8).strip()), b"")
    try:
        return isinstance(json.loads(first.removeprefix(BOM_UTF8).decode(errors="surrogateescape")), dict)
    except (ValueError, RecursionError):
        return False


def _lines(file: IO[AnyStr], path: Path) -> Iterator[AnyStr]:
    """The lines of a file; AtlasError for one too long to be read into memory."""
    while line := file.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            what = f"a line of more than {_LONGEST_LINE:,} bytes"
            raise AtlasError(what, where=path, remedy="write each document on a line of its own")
        yield line


def _json_row(line: str, where: str) -> dict:
    row = _json_value(line, where)
    if not isinstance(row, dict):
        raise AtlasError("a line that is not a JSON object", where=where, remedy=_OBJECTS)
    return row


def _json_value(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # of the first, numbers of thousands of digits
        raise AtlasError(f"not valid JSON: {error}", where=where, remedy=_OBJECTS) from error


def _csv_rows(path: Path, share: Share, corpus: Corpus, progress: Progress) -> Iterator[Row]:
    """Rows of a csv file whose first row names the columns; line ends in quoted cells stay as they are."""
    csv.field_size_limit(_LONGEST_CELL)
    with (
        opened(path, progress) as content,
        TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="") as file,
    ):
        rows = csv.DictReader(_lines(file, path), restkey="", strict=True)
        try:
            for number, row in enumerate(rows, start=1):
                if "" in row and isinstance(row[""], list):
                    raise AtlasError(
                        f"a row with more cells than the {len(rows.fieldnames or ())} columns",
                        where=f"{path}, row {number}",
                        remedy="put texts with commas into quotes",
                    )
                _require_utf8(row, path, number, corpus)
                yield Row(number, row)
        except csv.Error as error:
            raise AtlasError(
                f"not valid csv: {error}", where=f"{path}, line {rows.reader.line_num}", remedy="mend this line"
            ) from error


def _require_utf8(row: dict, path: Path, number: int, corpus: Corpus) -> None:
    texts = (row.get(column) or "" for column in columns_of(corpus))
    if corpus.invalid_utf8 == "error" and any(map(_NO_UTF8.search, texts)):
        raise AtlasError("not UTF-8", where=f"{path}, row {number}", remedy=_CONVERT)


def _parquet_rows(path: Path, share: Share, corpus: Corpus, progress: Progress) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    columns = columns_of(corpus)
    try:
        with parquet.ParquetFile(path) as file:
            present = file.schema_arrow.names
            for column in columns:
                if column not in present:
                    raise AtlasError(
                        f"there is no column {column!r}",
                        where=path,
                        remedy=f"columns there are: {', '.join(present)}",
                    )
            number = 0
            for group in range(file.num_row_groups):
                rows, size = file.metadata.row_group(group).num_rows, file.metadata.row_group(group).total_byte_size
                if group % share.of == share.number:
                    for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=columns):
                        for place, row in enumerate(batch.to_pylist(), start=number + 1):
                            yield Row(place, row)
                        number += len(batch)
                    progress.read(size)
                else:
                    number += rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # the last for texts that are not UTF-8
        raise AtlasError(
            f"the parquet file cannot be read: {first_line(error)}", where=path, remedy="restore it or leave it out"
        ) from error


_OBJECTS = "write one JSON object a line"
_CONVERT = "convert the file to UTF-8, for example with iconv, or set invalid_utf8 to replace or skip"


def _decoded(content: bytes | bytearray, path: Path, offset: int, corpus: Corpus) -> str:
    """Decode UTF-8, without the mark that some editors put first; offset: where in the file the content begins."""
    errors = "strict" if corpus.invalid_utf8 == "error" else "surrogateescape"
    try:
        return content.decode("utf-8-sig" if offset == 0 else "utf-8", errors)
    except UnicodeDecodeError as error:
        raise AtlasError(
            f"not UTF-8: byte {content[error.start]:#04x} at {offset + error.start}", where=path, remedy=_CONVERT
        ) from error
