"""The vocabulary of one model, and a corpus counted by it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.coverage import count_summary
from weight_atlas.tokens.tokenizer import embedding_rows, token_texts, tokenizer_and_source, vocabulary_size


@dataclass(frozen=True)
class ModelVocabulary:
    """A model's tokenizer, where its ids come from, and the text of each id's token ("" for ids without one)."""

    tokenizer: Any
    ids_from: dict[str, Any]
    texts: list[str]


@dataclass(frozen=True)
class CorpusCounts:
    """Counts of a corpus by token id (table: see TokenCounts.table), and their summary (see count_summary)."""

    table: pd.DataFrame
    summary: dict[str, Any]


def read_vocabulary(folder: Path, config: dict, inventory: pd.DataFrame, *, trust_remote_code: bool) -> ModelVocabulary:
    """Read the vocabulary of the checkpoint in a folder: all ids of its tokenizer and of its embedding."""
    tokenizer, ids_from = tokenizer_and_source(folder, trust_remote_code=trust_remote_code)
    size = vocabulary_size(tokenizer, config, embedding_rows(inventory))
    return ModelVocabulary(tokenizer, ids_from, token_texts(tokenizer, size))


def count_corpus(vocabulary: ModelVocabulary, batches: Iterable[list[str]]) -> CorpusCounts:
    """Count the tokens of a corpus, whose documents come in batches, by a model's vocabulary."""
    counted = count_tokens(vocabulary.tokenizer, batches, len(vocabulary.texts))
    summary = {**count_summary(counted.counts, counted.documents), "tokenizer": vocabulary.ids_from}
    return CorpusCounts(counted.table(vocabulary.texts), summary)
