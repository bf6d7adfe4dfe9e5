"""Corpora as tables of documents, whatever their source."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import reading
from weight_atlas.errors import AtlasError
from weight_atlas.settings.corpora import Corpus
from weight_atlas.settings.messages import checked
from weight_atlas.tokens.counting import Documents
from weight_atlas.tokens.documents import Document, file_documents, hub_documents
from weight_atlas.tokens.installation import versions
from weight_atlas.tokens.python_docs import python_docs
from weight_atlas.tokens.sources import hub_dataset, is_bundled, matching_files


def read_corpus(source: str | list[str], **settings: Any) -> pd.DataFrame:
    """Return a corpus as a table with the columns document (unique name), text and group (or ""), sorted by document.

    source: "bundled:python-docs", "hf:org/name", or paths and globs of .txt, .jsonl and .parquet files. settings: keys
    of settings.corpora.Corpus. Documents without text are left out. AtlasError where there is no text, or the source
    cannot be read.
    """
    return documents_of(checked(Corpus, {"source": source, **settings}, "read_corpus"))


def documents_of(corpus: Corpus) -> pd.DataFrame:
    """The table of read_corpus."""
    source = corpus.source
    if is_bundled(source):
        documents = python_docs(corpus.split or "test")
    elif dataset := hub_dataset(source):
        rows = hub_documents(
            dataset,
            name=corpus.name,
            split=corpus.split or "train",
            column=corpus.column,
            group_column=corpus.group_column,
            revision=corpus.revision,
            limit=corpus.limit,
        )
        documents = _table(rows)
    else:
        documents = _table(file_documents(_files(source), corpus.column, corpus.group_column))
    if documents.empty:
        raise AtlasError("the corpus has no text", where=source, remedy="take files that hold text")
    return documents.sort_values("document", ignore_index=True)


def describe_corpus(corpus: pd.DataFrame, source: str | list[str], split: str | None = None) -> dict:
    """Return what identifies a corpus: source, split, size, SHA-256 of its text, package versions of a bundled one.

    sha256: of the UTF-8 texts in the table's order, each followed by a zero byte. bytes: of the UTF-8 texts.
    """
    digest, size = hashlib.sha256(), 0
    for text in corpus.text:
        encoded = text.encode()
        size += len(encoded)
        digest.update(encoded + b"\0")
    return {
        "source": source,
        "split": (split or "test") if is_bundled(source) else split,
        "documents": len(corpus),
        "groups": corpus.group.nunique(),
        "characters": int(corpus.text.str.len().sum()),
        "bytes": size,
        "sha256": digest.hexdigest(),
        "versions": versions() if is_bundled(source) else None,
    }


def _files(source: str | list[str]) -> list[Path]:
    files: dict[Path, Path] = {}
    for pattern in [source] if isinstance(source, str) else source:
        matches = matching_files(pattern)
        if not matches:
            raise AtlasError(
                "no file of the corpus is there",
                where=pattern,
                remedy="check `source`: paths count from the folder that the workflow runs in",
            )
        files |= {path.resolve(): path for path in matches}
    return [files[resolved] for resolved in sorted(files)]


def _table(documents: Iterable[Document]) -> pd.DataFrame:
    rows = []
    for document in documents:
        try:
            document.text.encode()
        except UnicodeEncodeError as error:
            raise AtlasError(
                f"text that is not valid Unicode: {error.reason}",
                where=document.name,
                remedy="mend or drop this document",
            ) from error
        if document.text.strip():
            rows.append(document)
    return pd.DataFrame(rows, columns=list(Document._fields)).rename(columns={"name": "document"})


def document_batches(table: Path, characters: int = 1 << 24) -> Iterator[Documents]:
    """Yield the documents of a corpus table in batches (see batched).

    table: a .parquet file with the columns text and group, of which a few row groups at most are in memory.
    """
    from pyarrow.parquet import ParquetFile

    with reading(table), ParquetFile(table) as file:
        rows = file.iter_batches(batch_size=1024, columns=["text", "group"])
        yield from batched(
            (
                pair
                for some in rows
                for pair in zip(*(some[name].to_pylist() for name in ("text", "group")), strict=True)
            ),
            characters,
        )


def batched(documents: Iterable[tuple[str, str]], characters: int = 1 << 24) -> Iterator[Documents]:
    """Yield documents, (text, group) each, in lists of at most `characters` characters; a longer one is alone."""
    batch = Documents([], [])
    size = 0
    for text, group in documents:
        if batch.texts and size + len(text) > characters:
            yield batch
            batch, size = Documents([], []), 0
        batch.texts.append(text)
        batch.groups.append(group)
        size += len(text)
    if batch.texts:
        yield batch
