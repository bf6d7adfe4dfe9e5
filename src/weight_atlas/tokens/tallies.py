"""Counts of some documents by token id, made in the plain way: every document is encoded whole."""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np

Encode: TypeAlias = Callable[[list[str]], list[list[int]]]


class Tally(NamedTuple):
    """Counts of the documents of one group: ids that occur, sorted, occurrences, and documents with them; int64 all."""

    ids: np.ndarray
    counts: np.ndarray
    documents: np.ndarray


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
    return ordered[np.diff(ordered, prepend=-1 if not len(ordered) else ordered[0] - 1) > 0]
