"""Documents of local files and of data sets of the hub, one after the other."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from weight_atlas.data_sets import data_sets_library
from weight_atlas.errors import AtlasError, first_line
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.files import Row, columns_of, rows_of
from weight_atlas.tokens.parts import Share
from weight_atlas.tokens.progress import Progress
from weight_atlas.tokens.sources import SUFFIXES, kind_of


class Document(NamedTuple):
    """One document: its name within the corpus, its text, and the group (such as a language) that it belongs to."""

    name: str
    text: str
    group: str


def file_documents(shares: Iterable[Share], corpus: Corpus, progress: Progress | None = None) -> Iterator[Document]:
    """Yield the documents of files, or of shares of them; a text file is one, any other has one in each row.

    Names are paths below the files' common folder, followed by the row, so that they do not depend on where the corpus
    is; files come in the order of these names. AtlasError for an unknown kind of file, invalid content, and a column
    that is missing or not text. progress: is told what was read.
    """
    shares = list(shares)
    root = os.path.commonpath([Path(share.path).resolve().parent for share in shares])
    named = [(Path(share.path).resolve().relative_to(root).as_posix(), share) for share in shares]
    ordered = sorted(named, key=lambda pair: (_order(pair[0]), pair[1].number))
    rows = ((name, path, row) for name, share in ordered for path, row in _rows(share, corpus, progress or Progress()))
    for name, path, row in islice(rows, corpus.limit):
        document = name if row.number is None else f"{name}:{row.number:09d}"
        yield from _document(document, row, corpus, path if row.number is None else f"{path}, row {row.number}")


def _rows(share: Share, corpus: Corpus, progress: Progress) -> Iterator[tuple[Path, Row]]:
    path = Path(share.path)
    if kind_of(path) is None:
        raise AtlasError("unknown kind of corpus file", where=path, remedy=f"use one of {', '.join(SUFFIXES)}")
    for row in rows_of(share, corpus, progress):
        yield path, row


def _order(name: str) -> str:
    """A key that sorts files as the names of their documents are sorted."""
    return name if kind_of(Path(name)) == ".txt" else f"{name}:"


def hub_documents(dataset: str, corpus: Corpus) -> Iterator[Document]:
    """Yield the documents of a data set on the hub, or of its copy in the local cache.

    With a limit rows are streamed instead of downloaded whole. AtlasError where it cannot be loaded.
    """
    datasets = data_sets_library()
    split = corpus.split or "train"
    where = f"{dataset}, split {split}"
    streaming = corpus.limit is not None or corpus.max_documents is not None
    try:
        rows = datasets.load_dataset(dataset, corpus.name, split=split, revision=corpus.revision, streaming=streaming)
        rows = rows.select_columns(columns_of(corpus))
        for number, row in enumerate(islice(rows, corpus.limit), start=1):
            yield from _document(f"{number:09d}", Row(number, row), corpus, f"{where}, row {number}")
    except AtlasError:
        raise
    except Exception as error:
        # The library raises dozens of types, from connection errors to a missing loading script.
        raise AtlasError(
            f"the data set cannot be loaded: {first_line(error)}",
            where=where,
            remedy="check its name, `name`, `split`, `column` and `revision`; without a network, take local files as "
            "source or fill the cache first (HF_HOME)",
        ) from error


def with_text(documents: Iterable[Document], corpus: Corpus) -> Iterator[Document]:
    """The documents that have text, of which `max_documents` are taken, as valid Unicode (see `invalid_utf8`)."""
    return islice(_valid(documents, corpus.invalid_utf8), corpus.max_documents)


def _valid(documents: Iterable[Document], policy: str) -> Iterator[Document]:
    for document in documents:
        try:
            document.text.encode()
            document.group.encode()
        except UnicodeEncodeError as error:
            if policy == "skip":
                continue
            if policy == "error":
                raise AtlasError(
                    f"text that is not valid Unicode: {error.reason}",
                    where=document.name,
                    remedy="mend or drop this document, or set invalid_utf8 to replace or skip",
                ) from error
            document = document._replace(text=_replaced(document.text), group=_replaced(document.group))
        if document.text.strip():
            yield document


def _replaced(text: str) -> str:
    """A text with U+FFFD for bytes that are not UTF-8, and for halves of characters."""
    return text.encode("utf-8", "surrogateescape" if _escaped(text) else "replace").decode("utf-8", "replace")


def _escaped(text: str) -> bool:
    """Whether the surrogates of a text all stand for bytes."""
    return all("\udc80" <= character <= "\udcff" for character in text if "\ud800" <= character <= "\udfff")


def _document(name: str, row: Row, corpus: Corpus, where: object) -> Iterator[Document]:
    """The document of a row, if it is kept."""
    values: dict[str, Any] = row.values
    for wanted in columns_of(corpus):
        if wanted not in values and not (row.number is None and wanted == corpus.group_column):
            raise no_column(wanted, list(values), where)
    if all(str(values[column]) in kept for column, kept in corpus.keep.items()):
        text, group = values[corpus.column], values.get(corpus.group_column) if corpus.group_column else ""
        if text is not None and not isinstance(text, str):
            raise AtlasError(
                f"column {corpus.column!r} holds {type(text).__name__}, not text",
                where=where,
                remedy="set `column` to a text column",
            )
        yield Document(name, text or "", "" if group is None else str(group))


def no_column(column: str, columns: list[str], where: object) -> AtlasError:
    """The error for a column that a corpus lacks."""
    return AtlasError(f"there is no column {column!r}", where=where, remedy=f"columns there are: {', '.join(columns)}")
