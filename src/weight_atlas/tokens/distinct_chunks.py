"""Two ways to count the tokens of documents with the same result: whole, and by chunks.

Encoding each distinct chunk of text once is several times faster than encoding whole documents.
"""

from collections.abc import Callable
from itertools import chain

import numpy as np

from weight_atlas.tokens.safe_cuts import CuttingRule

Encode = Callable[[list[str]], list[list[int]]]


def count_whole(texts: list[str], encode: Encode, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Return occurrences of each token id, and documents that have it: (vocabulary,) int64 both."""
    ids, lengths = _flat_ids(encode(texts))
    # One number per pair of document and token; each pair once.
    pairs = _distinct(np.repeat(np.arange(len(texts)), lengths) * vocabulary + ids)
    return np.bincount(ids, minlength=vocabulary), np.bincount(pairs % vocabulary, minlength=vocabulary)


def count_distinct(
    texts: list[str], rule: CuttingRule, added: list[str], encode: Encode, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what count_whole does, by cutting the documents where it is safe and encoding each distinct chunk once.

    added: the tokenizer's added tokens; documents that contain one of them are encoded whole.
    """
    has_added = _containing(texts, added)
    whole = [text for text, uncut in zip(texts, has_added, strict=True) if uncut]
    counts, documents = count_whole(whole, encode, vocabulary)
    chunks, chunk_of, document_of = _chunks(
        [text for text, uncut in zip(texts, has_added, strict=True) if not uncut], rule
    )
    flat, lengths = _flat_ids(encode(chunks))
    occurrences = np.repeat(np.bincount(chunk_of, minlength=len(chunks)), lengths)
    # Sums of integers in float64 are exact below 2**53.
    counts = counts + np.bincount(flat, weights=occurrences, minlength=vocabulary).astype(np.int64)
    return counts, documents + _document_frequency(chunk_of, document_of, flat, lengths, vocabulary)


def _containing(texts: list[str], words: list[str]) -> np.ndarray:
    """Say of each text whether it contains any of the words: (n,) bool."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not words:
        return np.zeros(len(texts), bool)
    # Characters by their numbers, so that none is special in the expression.
    pattern = "|".join("".join(f"\\x{{{ord(character):x}}}" for character in word) for word in words)
    return pc.match_substring_regex(pa.array(texts, pa.large_string()), pattern).to_numpy(zero_copy_only=False)


def _chunks(texts: list[str], rule: CuttingRule) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Cut documents; return the distinct chunks, and for every occurrence its chunk and its document, (n,) int64."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    # A zero byte separates documents, since a cut depends on the byte after it.
    data = np.frombuffer(b"\0".join([*encoded, b""]), np.uint8)
    sizes = np.array([len(text) for text in encoded], dtype=np.int64)
    ends = (sizes + 1).cumsum() - 1
    begins = rule(data)
    begins[ends - sizes] = True
    begins[ends] = True
    starts = np.flatnonzero(begins)
    offsets = pa.array(np.append(starts, len(data)), pa.int64())
    buffers = [None, offsets.buffers()[1], pa.py_buffer(data)]
    pieces = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(starts), buffers)
    kept = np.isin(starts, ends, invert=True)
    values = pieces.filter(pa.array(kept)).dictionary_encode()
    chunks = [chunk.decode() for chunk in values.dictionary.to_pylist()]
    return chunks, values.indices.to_numpy().astype(np.int64), np.searchsorted(ends, starts[kept])


def _document_frequency(
    chunk_of: np.ndarray, document_of: np.ndarray, flat: np.ndarray, lengths: np.ndarray, vocabulary: int
) -> np.ndarray:
    """Count the documents of each token: distinct pairs of document and chunk, then of document and token.

    flat: the ids of all distinct chunks, one chunk after the other; lengths: how many of them each chunk has.
    """
    documents, chunks = np.divmod(_distinct(document_of * len(lengths) + chunk_of), max(len(lengths), 1))
    sizes, starts = lengths[chunks], (lengths.cumsum() - lengths)[chunks]
    # Indices in `flat` of the tokens of every pair, counted from the start of its chunk.
    indices = np.arange(sizes.sum()) + np.repeat(starts - (sizes.cumsum() - sizes), sizes)
    pairs = _distinct(np.repeat(documents, sizes) * vocabulary + flat[indices])
    return np.bincount(pairs % vocabulary, minlength=vocabulary)


def _flat_ids(encoded: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of all texts one after the other, and how many each text has: int64 both."""
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    return np.fromiter(chain.from_iterable(encoded), np.int64, count=lengths.sum()), lengths


def _distinct(values: np.ndarray) -> np.ndarray:
    """Return what np.unique does; for many integers, sorting is several times faster than its hash table."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=-1 if not len(ordered) else ordered[0] - 1) > 0]
