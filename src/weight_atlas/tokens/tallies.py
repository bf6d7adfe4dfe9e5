"""Counts of some documents by token id, made in the plain way: every document is encoded whole."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

# From texts to the ids of each; it may give them one after the other, so that lists of few of them are held.
Encode: TypeAlias = Callable[[list[str]], Iterable[list[int]]]
# Characters that are encoded at once: what becomes of them stays in the processor's cache, and in memory that is there.
_AT_ONCE = 1 << 18


class Tally(NamedTuple):
    """Counts of the documents of one group: ids that occur, sorted, occurrences, and documents with them; int64 all."""

    ids: np.ndarray
    counts: np.ndarray
    documents: np.ndarray


def count_whole(texts: list[str], encode: Encode, vocabulary: int) -> Tally:
    """Count by encoding whole documents."""
    counts, documents = np.zeros((2, vocabulary), np.int64)
    for some in _slices(texts):
        encoded = [np.fromiter(ids, np.int64, len(ids)) for ids in encode(some)]
        flat = np.concatenate(encoded)
        # One number per pair of document and token; each pair once.
        pairs = distinct(np.repeat(np.arange(len(some)) * vocabulary, list(map(len, encoded))) + flat)
        counts += np.bincount(flat, minlength=vocabulary)
        documents += np.bincount(pairs % vocabulary, minlength=vocabulary)
    ids = np.flatnonzero(counts)
    return Tally(ids, counts[ids], documents[ids])


def _slices(texts: list[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for text in texts:
        if some and size + len(text) > _AT_ONCE:
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text)
    if some:
        yield some


def joined_tallies(first: Tally, second: Tally) -> Tally:
    """The sum of two tallies of different documents."""
    ids, places = np.unique(np.concatenate([first.ids, second.ids]), return_inverse=True)
    counts, documents = np.zeros((2, len(ids)), np.int64)
    np.add.at(counts, places, np.concatenate([first.counts, second.counts]))
    np.add.at(documents, places, np.concatenate([first.documents, second.documents]))
    return Tally(ids, counts, documents)


def distinct(values: np.ndarray) -> np.ndarray:
    """Return what np.unique does; for many integers, sorting is several times faster than its hash table."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]
