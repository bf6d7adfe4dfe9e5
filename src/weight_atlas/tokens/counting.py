"""Exact counts of the tokens of a corpus."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from weight_atlas.tokens.distinct_chunks import Encode, count_distinct, count_whole
from weight_atlas.tokens.safe_cuts import cutting_rule

SELF_TEST = 1 << 21  # characters of the corpus that are counted both ways

Counter: TypeAlias = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]


@dataclass
class TokenCounts:
    """Counts of a corpus by token id.

    counts: (vocabulary,) int64, occurrences. document_frequency: (vocabulary,) int64, documents with the token.
    documents: in the corpus.
    """

    counts: np.ndarray
    document_frequency: np.ndarray
    documents: int

    def table(self, tokens: list[str]) -> pd.DataFrame:
        """Return one row per id: id, token (its text), count, document_frequency."""
        columns = {"token": tokens, "count": self.counts, "document_frequency": self.document_frequency}
        return pd.DataFrame({"id": np.arange(len(self.counts)), **columns})


def count_tokens(tokenizer: Any, batches: Iterable[list[str]], vocabulary: int) -> TokenCounts:
    """Count the tokens of all documents: whole documents, no truncation, no special tokens added.

    tokenizer: one of transformers. batches: lists of documents; memory is bounded by the largest list. vocabulary:
    number of ids, above the largest that the tokenizer gives. Where the tokenizer allows it, each distinct chunk of
    text is encoded once, after the beginning of the corpus gave the same counts both ways.
    """
    encode = encoder(tokenizer)
    count: Counter = partial(count_whole, encode=encode, vocabulary=vocabulary)
    fast = _fast_counter(tokenizer, encode, vocabulary)
    total = TokenCounts(np.zeros(vocabulary, np.int64), np.zeros(vocabulary, np.int64), 0)
    for texts in batches:
        if fast is not None:
            sample = _beginning(texts)
            if all(map(np.array_equal, fast(sample), count(sample))):
                count = fast
            fast = None
        counts, documents = count(texts)
        total.counts += counts
        total.document_frequency += documents
        total.documents += len(texts)
    return total


def encoder(tokenizer: Any) -> Encode:
    """Return the function from texts to ids: the Rust library's batch call where the tokenizer has one."""
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        return lambda texts: [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    rust.no_truncation()
    rust.no_padding()
    return lambda texts: [encoding.ids for encoding in rust.encode_batch_fast(texts, add_special_tokens=False)]


def _fast_counter(tokenizer: Any, encode: Encode, vocabulary: int) -> Counter | None:
    rust = getattr(tokenizer, "backend_tokenizer", None)
    settings = json.loads(rust.to_str()) if rust is not None else {}
    rule = cutting_rule(settings) if settings else None
    if rule is None:
        return None
    added = [token["content"] for token in settings["added_tokens"]]
    return partial(count_distinct, rule=rule, added=added, encode=encode, vocabulary=vocabulary)


def _beginning(texts: list[str]) -> list[str]:
    sample, left = [], SELF_TEST
    for text in texts:
        if left <= 0:
            break
        sample.append(text[:left])
        left -= len(text)
    return sample
