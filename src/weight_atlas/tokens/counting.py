"""Exact counts of the tokens of a corpus."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass
class TokenCounts:
    """Counts by token id, of a corpus of so many documents.

    counts: (vocabulary,) int64, occurrences. document_frequency: (vocabulary,) int64, documents with the token.
    """

    counts: np.ndarray
    document_frequency: np.ndarray
    documents: int = 0

    @classmethod
    def none(cls, vocabulary: int) -> "TokenCounts":
        """No documents yet."""
        return cls(np.zeros(vocabulary, np.int64), np.zeros(vocabulary, np.int64))

    def table(self, tokens: list[str]) -> pd.DataFrame:
        """Return one row per id: id, token (its text), count, document_frequency."""
        columns = {"token": tokens, "count": self.counts, "document_frequency": self.document_frequency}
        return pd.DataFrame({"id": np.arange(len(self.counts)), **columns})


def count_tokens(tokenizer: Any, batches: Iterable[list[str]], vocabulary: int) -> TokenCounts:
    """Count the tokens of all documents: whole documents, no truncation, no special tokens added.

    tokenizer: one of transformers. batches: lists of documents; memory is bounded by the largest list. vocabulary:
    above the largest id that the tokenizer gives.
    """
    encode = encoder(tokenizer)
    total = TokenCounts.none(vocabulary)
    for texts in batches:
        add_documents(total, encode(texts))
    return total


def encoder(tokenizer: Any) -> Callable[[list[str]], list[list[int]]]:
    """Return the function that turns documents into ids: the Rust library's batch call where the tokenizer has one."""
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        return lambda texts: [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    rust.no_truncation()
    rust.no_padding()
    return lambda texts: [encoding.ids for encoding in rust.encode_batch_fast(texts, add_special_tokens=False)]


def add_documents(total: TokenCounts, documents: list[list[int]]) -> None:
    """Add documents, given as lists of ids, to counts."""
    vocabulary = len(total.counts)
    lengths = [len(ids) for ids in documents]
    ids = np.concatenate([np.asarray(ids, np.int64) for ids in documents]) if documents else np.zeros(0, np.int64)
    total.counts += np.bincount(ids, minlength=vocabulary)
    # One number per pair of document and token; each pair once.
    pairs = np.unique(np.repeat(np.arange(len(documents)), lengths) * vocabulary + ids)
    total.document_frequency += np.bincount(pairs % vocabulary, minlength=vocabulary)
    total.documents += len(documents)
