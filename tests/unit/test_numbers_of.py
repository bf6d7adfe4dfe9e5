"""Numbers in sentences have the word for one, or for several."""

import numpy as np
import pytest

from weight_atlas.numbers_of import number_of
from weight_atlas.settings.token_weights import Frequency, Vector
from weight_atlas.token_weights.beside_counts import beside_counts
from weight_atlas.token_weights.reading import TokenWeights
from weight_atlas.token_weights.recommendations import as_text
from weight_atlas.token_weights.study import study


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 tokens"), (1, "1 token"), (np.int64(1), "1 token"), (2000, "2,000 tokens")]
)
def test_words_follow_numbers(count, said):
    assert number_of(count, "token") == said
    assert number_of(count, "entry", "entries").endswith("entry" if count == 1 else "entries")


def test_sentences_of_one_token_have_it_in_the_singular():
    weights = np.append(np.random.default_rng(0).normal(size=99), np.nan)
    kept = np.arange(100) != 50
    found = study(TokenWeights(weights, kept, "w"), Vector(source="w.npy"), None)
    counts = np.where(np.arange(100) == np.nanargmax(weights), 0, 7)
    beside = beside_counts(found.tokens, counts, Frequency(threshold=1))
    texts = [*found.diagnoses["evidence"], beside.summary["reading"], as_text(beside.summary, beside.recommendations)]
    texts += [finding["text"] for finding in beside.summary["findings"]]
    said = "\n".join(texts)
    assert "1 token (1.0%) occurs less than 1 time, and makes 0.00% of the corpus" in said
    assert "1 of 100 weights is NaN" in said and "with the 1 token that is masked" in said
    assert "1 token of high weight occurs less than 1 time" in said and "threshold: 1 occurrence\n" in said
