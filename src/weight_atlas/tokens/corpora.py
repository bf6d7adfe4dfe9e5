"""Corpora as tables of documents, whatever their source."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import CHECKED, reading, write_frames
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path
from weight_atlas.settings.corpora import Corpus
from weight_atlas.settings.messages import checked
from weight_atlas.tokens.batches import Documents, batched
from weight_atlas.tokens.documents import Document, file_documents, hub_documents, with_text
from weight_atlas.tokens.installation import versions
from weight_atlas.tokens.parts import MEGABYTE, Share
from weight_atlas.tokens.progress import Progress
from weight_atlas.tokens.python_docs import python_docs
from weight_atlas.tokens.sources import KINDS, hub_dataset, is_bundled, matching_files

_FRAME = 1 << 24  # bytes of text in memory at once


def read_corpus(source: str | list[str], **settings: Any) -> pd.DataFrame:
    """Return a corpus as a table with the columns document (unique name), text and group (or ""), sorted by document.

    source: "bundled:python-docs", "hf:org/name", or paths and globs of .txt, .jsonl, .json, .csv (also as .gz, .zst and
    .bz2) and .parquet files. settings: keys of settings.corpora.Corpus. Documents without text are left out. AtlasError
    where there is no text, or the source cannot be read.
    """
    table = _table(list(documents_of(checked(Corpus, {"source": source, **settings}, "read_corpus"))))
    if table.empty:
        raise no_text(source)
    return table.sort_values("document", ignore_index=True)


def documents_of(corpus: Corpus) -> Iterator[Document]:
    """The documents of read_corpus, one after the other."""
    source = corpus.source
    if is_bundled(source):
        bundled = python_docs(corpus.split or "test").sort_values("document").itertuples(index=False)
        return with_text((Document(*row) for row in bundled), corpus)
    if dataset := hub_dataset(source):
        return with_text(hub_documents(dataset, corpus), corpus)
    return with_text(file_documents(map(Share, map(str, _files(source))), corpus), corpus)


def write_corpus(path: Path, corpus: Corpus, *, beginning: bool) -> dict[str, Any]:
    """Write the table of read_corpus, a few documents in memory at a time, and return what identifies it.

    beginning: whether no more documents are written than make `part_megabytes`. The description has source, split,
    size, SHA-256 of the text (of the UTF-8 texts in the table's order, each followed by a zero byte), package versions
    of a bundled corpus, and whether it is complete.
    """
    digest, groups, sizes = hashlib.sha256(), set(), {"documents": 0, "characters": 0, "bytes": 0}
    most = corpus.part_megabytes * MEGABYTE if beginning else math.inf
    complete = True

    def frames() -> Iterator[pd.DataFrame]:
        nonlocal complete
        rows: list[Document] = []
        held = 0
        for document in documents_of(corpus):
            encoded = document.text.encode()
            if sizes["bytes"] + len(encoded) > most and sizes["documents"]:
                complete = False
                break
            digest.update(encoded + b"\0")
            groups.add(document.group)
            for name, size in (("documents", 1), ("characters", len(document.text)), ("bytes", len(encoded))):
                sizes[name] += size
            rows.append(document)
            held += len(encoded)
            if held > _FRAME:
                yield _table(rows)
                rows, held = [], 0
        if not sizes["documents"]:
            raise no_text(corpus.source)
        if rows:
            yield _table(rows)

    write_frames(path, frames())
    return {
        "source": corpus.source,
        "split": (corpus.split or "test") if is_bundled(corpus.source) else corpus.split,
        **sizes,
        "groups": len(groups),
        "sha256": digest.hexdigest(),
        "versions": versions() if is_bundled(corpus.source) else None,
        "complete": complete,
    }


def part_documents(shares: list[Share], corpus: Corpus, progress: Progress) -> Iterator[Documents]:
    """The documents of a part of a corpus of local files, in batches."""
    documents = with_text(file_documents(shares, corpus, progress), corpus)
    return progress.over(batched((document.text, document.group) for document in documents))


def no_text(source: object) -> AtlasError:
    """The error for a corpus without a document that has text."""
    return AtlasError("the corpus has no text", where=source, remedy="take files that hold text")


def _files(source: str | list[str]) -> list[Path]:
    files: dict[Path, Path] = {}
    for pattern in [source] if isinstance(source, str) else source:
        matches = matching_files(pattern)
        if not matches:
            raise AtlasError(
                "no file of the corpus is there",
                where=pattern,
                remedy=_missing(user_path(pattern)),
            )
        files |= {path.resolve(): path for path in matches}
    return [files[resolved] for resolved in sorted(files)]


def _missing(path: Path) -> str:
    """What to do about a path or pattern that no file of texts has."""
    if path.is_dir():
        listed = ", ".join(kind for kind in KINDS if kind != ".json")
        return f"put {listed} files into the folder; name those that end with .json by a pattern, such as *.json"
    return "check the path: one that does not begin with / counts from the folder that the command or workflow runs in"


def _table(documents: list[Document]) -> pd.DataFrame:
    return pd.DataFrame(documents, columns=["document", "text", "group"]).astype("str")


def document_batches(table: Path, characters: int = 1 << 22) -> Iterator[Documents]:
    """Yield the documents of a corpus table in batches (see batched).

    table: a .parquet file with the columns text and group, of which a few row groups at most are in memory.
    """
    from pyarrow.parquet import ParquetFile

    with reading(table), ParquetFile(table, **CHECKED) as file:
        rows = file.iter_batches(batch_size=1024, columns=["text", "group"])
        yield from batched(
            (
                pair
                for some in rows
                for pair in zip(*(some[name].to_pylist() for name in ("text", "group")), strict=True)
            ),
            characters,
        )
