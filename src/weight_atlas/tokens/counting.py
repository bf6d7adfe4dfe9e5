"""Exact counts of the tokens of a corpus."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from weight_atlas.tokens.counts import TokenCounts, added_up

Encode: TypeAlias = Callable[[list[str]], list[list[int]]]
# Rows of sparse counts that are kept before they are added up.
_ROWS = 1 << 22


class Documents(NamedTuple):
    """Some documents of a corpus: their texts, and the group of each ("" where there are none)."""

    texts: list[str]
    groups: list[str]


class Tally(NamedTuple):
    """Counts of the documents of one group: ids that occur, occurrences, and documents with them, int64 all."""

    ids: np.ndarray
    counts: np.ndarray
    documents: np.ndarray


def count_tokens(tokenizer: Any, batches: Iterable[Documents], vocabulary: int) -> TokenCounts:
    """Count the tokens of all documents: whole documents, no truncation, no special tokens added.

    tokenizer: one of transformers. batches: memory is bounded by the largest. vocabulary: number of ids, above the
    largest that the tokenizer gives.
    """
    encode = encoder(tokenizer)
    sums = _Sums()
    for batch in batches:
        for group, texts in by_group(batch).items():
            sums.add(group, texts, count_whole(texts, encode, vocabulary))
    return sums.counts(vocabulary)


def by_group(batch: Documents) -> dict[str, list[str]]:
    """The texts of each group, in the order of the documents."""
    texts: dict[str, list[str]] = {}
    for text, group in zip(*batch, strict=True):
        texts.setdefault(group, []).append(text)
    return texts


def count_whole(texts: list[str], encode: Encode, vocabulary: int) -> Tally:
    """Count by encoding whole documents."""
    encoded = encode(texts)
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(encoded), np.int64, count=lengths.sum())
    # One number per pair of document and token; each pair once.
    pairs = distinct(np.repeat(np.arange(len(texts)), lengths) * vocabulary + flat)
    counts = np.bincount(flat, minlength=vocabulary)
    documents = np.bincount(pairs % vocabulary, minlength=vocabulary)
    ids = np.flatnonzero(counts)
    return Tally(ids, counts[ids], documents[ids])


def encoder(tokenizer: Any) -> Encode:
    """Return the function from texts to ids: the Rust library's batch call where the tokenizer has one."""
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        print("this tokenizer runs text by text, many times slower than one with a tokenizer.json", flush=True)
        return lambda texts: [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    rust.no_truncation()
    rust.no_padding()
    return lambda texts: [encoding.ids for encoding in rust.encode_batch_fast(texts, add_special_tokens=False)]


def distinct(values: np.ndarray) -> np.ndarray:
    """Return what np.unique does; for many integers, sorting is several times faster than its hash table."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=-1 if not len(ordered) else ordered[0] - 1) > 0]


class _Sums:
    """Sums over batches: of each group, and of each token in it."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._sizes: list[list[int]] = []
        self._tallies: list[pd.DataFrame] = []
        self._held = 0

    def add(self, group: str, texts: list[str], tally: Tally) -> None:
        row = self._rows.setdefault(group, len(self._rows))
        if row == len(self._sizes):
            self._sizes.append([0, 0, 0])
        size = self._sizes[row]
        size[0] += len(texts)
        size[1] += sum(len(text.encode()) for text in texts)
        size[2] += sum(len(text.split()) for text in texts)
        ids, counts, documents = tally
        self._tallies.append(
            pd.DataFrame({"group": np.full(len(ids), row), "id": ids, "count": counts, "document_frequency": documents})
        )
        self._held += len(ids)
        if self._held > _ROWS:
            self._tallies = [added_up(self._tallies)]
            self._held = len(self._tallies[0]) // 2  # so that adding up stays rare where groups hold many tokens

    def counts(self, vocabulary: int) -> TokenCounts:
        names = sorted(self._rows)
        order = np.array([self._rows[name] for name in names], np.int64)
        sizes = np.array(self._sizes, np.int64).reshape(-1, 3)[order]
        columns = dict(zip(("documents", "bytes", "words"), sizes.T, strict=True))
        long = added_up(self._tallies)
        row_of = np.empty(len(order), np.int64)
        row_of[order] = np.arange(len(order))
        long = added_up([long.assign(group=row_of[long["group"].to_numpy()])] if len(long) else [])
        groups = pd.DataFrame({"group": pd.Series(names, dtype=object), **columns})
        return TokenCounts(groups, long, vocabulary)
