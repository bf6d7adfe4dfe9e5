"""Count the tokens of whole documents."""

from collections.abc import Callable
from itertools import chain

import numpy as np

Encode = Callable[[list[str]], list[list[int]]]


def count_whole(texts: list[str], encode: Encode, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return occurrences of each token id, and documents that have it: (vocabulary,) int64 both."""
    ids, lengths = flat_ids(encode(texts))
    # One number per pair of document and token; each pair once.
    pairs = distinct(np.repeat(np.arange(len(texts)), lengths) * vocabulary + ids)
    return np.bincount(ids, minlength=vocabulary), np.bincount(pairs % vocabulary, minlength=vocabulary)


def flat_ids(encoded: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of all texts one after the other, and how many each text has: int64 both."""
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    return np.fromiter(chain.from_iterable(encoded), np.int64, count=lengths.sum()), lengths


def distinct(values: np.ndarray) -> np.ndarray:
    """Return what np.unique does; for many integers, sorting is several times faster than its hash table."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=-1 if not len(ordered) else ordered[0] - 1) > 0]
