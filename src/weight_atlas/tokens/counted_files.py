"""Counts of the tokens of some files, without a configuration."""

import numpy as np

from weight_atlas.settings.corpora import Corpus
from weight_atlas.settings.messages import checked
from weight_atlas.tokens.batches import batched
from weight_atlas.tokens.corpora import documents_of, no_text
from weight_atlas.tokens.corpus_counts import count_corpus
from weight_atlas.tokens.model_vocabulary import tokenizer_vocabulary
from weight_atlas.tokens.tokenizer_fetch import place_of


def count_files(texts: list[str], tokenizer: str, column: str) -> np.ndarray:
    """Counts (V,) int64 by token id of all documents of some files, paths or patterns.

    tokenizer: a folder, a file, or hf://organisation/name. column: that holds the text of tables. AtlasError where
    there is no text.
    """
    vocabulary = tokenizer_vocabulary(place_of(tokenizer), trust_remote_code=False)
    documents = documents_of(checked(Corpus, {"source": texts, "column": column}, "command line"))
    batches = batched((document.text, document.group) for document in documents)
    counted = count_corpus(vocabulary, batches).counts
    if not counted.documents:
        raise no_text(", ".join(texts))
    return counted.counts
