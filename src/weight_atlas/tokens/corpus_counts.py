"""A corpus counted by the vocabulary of a model or of a tokenizer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weight_atlas.numbers_of import number_of
from weight_atlas.tokens.batches import Documents
from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.counts import TokenCounts
from weight_atlas.tokens.coverage import count_summary, group_summary, text_summary
from weight_atlas.tokens.model_vocabulary import ModelVocabulary


@dataclass(frozen=True)
class CorpusCounts:
    """Counts of a corpus, by token id (table: see TokenCounts.table), by group, and what they amount to.

    groups: see group_summary. counts: all there is, by group and token. summary: see count_summary.
    """

    table: pd.DataFrame
    groups: pd.DataFrame
    counts: TokenCounts
    summary: dict[str, Any]


def count_corpus(vocabulary: ModelVocabulary, batches: Iterable[Documents]) -> CorpusCounts:
    """Count the tokens of a corpus, whose documents come in batches, by a vocabulary."""
    return described(
        vocabulary, count_tokens(vocabulary.tokenizer, batches, len(vocabulary.texts), file=vocabulary.file)
    )


def described(vocabulary: ModelVocabulary, counts: TokenCounts) -> CorpusCounts:
    """Counts with their summaries; prints a note where the vocabulary and the embedding differ in size."""
    groups = group_summary(counts)
    summary = {
        **count_summary(counts.counts, counts.documents),
        **text_summary(groups),
        "tokenizer": vocabulary.ids_from,
        "tokenizer_ids": vocabulary.tokenizer_ids,
        "embedding_rows": vocabulary.embedding_rows,
    }
    rows, ids = vocabulary.embedding_rows, vocabulary.tokenizer_ids
    if rows is not None and rows != ids:
        more = number_of(rows - ids, "row stands for no token", "rows stand for no token")
        if rows < ids:
            more = number_of(ids - rows, "id has no row", "ids have no row")
        print(f"the embedding has {number_of(rows, 'row')}, the tokenizer {number_of(ids, 'id')}: {more}", flush=True)
    return CorpusCounts(counts.table(vocabulary.texts), groups, counts, summary)
