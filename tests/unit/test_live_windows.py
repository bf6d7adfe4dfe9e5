"""Windows: every token scored once, the tokenizer's own prefix, and clear refusals."""

import numpy as np
import pandas as pd
import pytest
import torch
from live_models import tiny, word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.scoring import score_windows, window_sums
from weight_atlas.live.windows import Windows, corpus_windows, drawn_windows, fixed_windows, prefix_ids, token_stream

TEXTS = pd.DataFrame({"text": ["one two three four", "five six seven", "eight nine ten one two"]})


def test_prefix_is_the_tokenizers_own():
    assert prefix_ids(word_tokenizer(bos=True)) == [1]
    assert prefix_ids(word_tokenizer(bos=False)) == []


def test_stream_joins_documents_and_stops():
    tokenizer = word_tokenizer(bos=True)
    whole = token_stream(TEXTS, tokenizer).ids
    assert whole.tolist() == tokenizer("\n\n".join(TEXTS.text), add_special_tokens=False)["input_ids"]
    assert 1 not in whole
    for tokens in (1, 5, len(whole), 10 * len(whole)):
        assert np.array_equal(token_stream(TEXTS, tokenizer, tokens).ids, whole[:tokens])


class Slow:
    """A tokenizer that does not say where in the text its tokens are."""

    is_fast = False

    def __init__(self, fast):
        self.fast = fast

    def __call__(self, *args, **kwargs):
        assert "return_offsets_mapping" not in kwargs
        return self.fast(*args, **kwargs)


def test_each_token_has_its_document():
    tokenizer = word_tokenizer(bos=True)
    alone = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS.text]
    expected = np.repeat([0, 1, 2], alone)
    for one in (tokenizer, Slow(tokenizer)):
        assert token_stream(TEXTS, one).documents.tolist() == expected.tolist()
        assert token_stream(TEXTS, one, 6).documents.tolist() == expected[:6].tolist()
        shuffled = TEXTS.iloc[[2, 0]].assign(row=[7, 4])
        assert token_stream(shuffled, one).documents.tolist() == [7] * alone[2] + [4] * alone[0]


@pytest.mark.parametrize("tokens", [None, 12])
def test_a_corpus_read_from_files_has_names_of_documents_and_is_cut_all_the_same(tokens):
    """In its order, as a whole or from its beginning: input_second_moments, recipe_perplexity, and `tokens: null`."""
    corpus = pd.concat([TEXTS] * 4, ignore_index=True)
    named = corpus.assign(document=[f"folder/{number}.txt" for number in range(len(corpus))], group="")
    cut = {"window": 4, "tokens": tokens, "limit": None, "where": "docs"}
    windows = [corpus_windows(each, word_tokenizer(bos=True), **cut) for each in (corpus, named)]
    assert torch.equal(windows[0].ids, windows[1].ids)
    assert windows[0].units.tolist() == windows[1].units.tolist()
    if tokens is None:
        drawn = drawn_windows(named, word_tokenizer(bos=True), seed=0, **cut)
        assert torch.equal(drawn.ids, windows[0].ids)
        assert drawn.documents.tolist() == windows[0].documents.tolist()


def test_a_window_counts_to_the_document_of_most_of_its_new_tokens():
    documents = np.repeat(np.arange(20), 7)
    windows = fixed_windows(np.arange(140), documents=documents, window=10, stride=5)
    owners = [np.bincount(documents[at + 5 : at + 10]).argmax() for at in range(0, 131, 5)]
    assert windows.documents.tolist() == owners
    assert windows.part(3, 5).units.tolist() == owners[3:5] == windows.part(2, 9).part(1, 3).units.tolist()
    assert windows.first(2).units.tolist() == owners[:2]
    assert windows.scoring(windows.scored & False).documents.tolist() == owners


def test_text_of_few_documents_is_resampled_by_windows():
    few = fixed_windows(np.arange(140), documents=np.arange(140) // 20, window=10)
    assert few.documents is None and few.units.tolist() == list(range(14)) and few.part(3, 5).units.tolist() == [3, 4]
    assert few.said() == "126 tokens of a text without enough documents, in windows of 10"
    enough = fixed_windows(np.arange(160), documents=np.arange(160) // 20, window=10)
    assert enough.said() == "144 tokens of 8 documents, in windows of 10"


@pytest.mark.parametrize(("prefix", "first"), [([1], 0), ([], 1)])
def test_each_token_is_scored_once(prefix, first):
    stream = np.arange(100, 203)
    windows = fixed_windows(stream, window=10, prefix=prefix)
    scored = windows.ids[windows.scored].tolist()
    assert len(scored) == len(set(scored))
    step = 10 - len(prefix)
    expected = [t for w in range(103 // step) for t in range(100 + w * step + first, 100 + (w + 1) * step)]
    assert scored == expected
    assert (windows.ids[:, 0] == 1).all() == bool(prefix)


def test_without_a_prefix_windows_begin_with_what_is_not_scored():
    whole = fixed_windows(np.arange(100), window=20, stride=20)
    assert sorted(set(range(100)) - set(whole.ids[whole.scored].tolist())) == [0, 20, 40, 60, 80]
    overlapping = fixed_windows(np.arange(100), window=20, stride=19)
    assert sorted(set(range(96)) - set(overlapping.ids[overlapping.scored].tolist())) == [0]
    assert whole.prefix == 0 and fixed_windows(np.arange(100), window=20, prefix=[1, 2]).prefix == 2


def test_strides_score_new_tokens_only():
    stream = np.arange(100, 200)
    windows = fixed_windows(stream, window=11, stride=4, prefix=[1])
    assert windows.ids[windows.scored].tolist() == list(range(100, 100 + 10 + 4 * (len(windows) - 1)))
    assert windows.scored.sum(1).tolist() == [10] + [4] * (len(windows) - 1)
    assert windows.ids[1].tolist() == [1, *range(104, 114)]


def test_refusals_name_the_largest_values_that_work():
    stream = np.arange(50)
    with pytest.raises(AtlasError, match=r"too short: 50 tokens.*\n.*where: docs\n.*window to 51 or less"):
        fixed_windows(stream, window=64, prefix=[1], where="docs")
    assert len(fixed_windows(stream, window=51, prefix=[1])) == 1
    with pytest.raises(AtlasError, match="context of 32"):
        fixed_windows(stream, window=40, limit=32)
    with pytest.raises(AtlasError, match="make no windows"):
        fixed_windows(stream, window=10, stride=10, prefix=[1])
    with pytest.raises(AtlasError, match="give more text"):
        corpus_windows(TEXTS.head(0), word_tokenizer(bos=True), window=None, tokens=None, limit=64, where="docs")


def test_scores_are_exact_sums_per_window():
    """Against a float64 log-softmax of whole windows, for any batch size."""
    model = tiny("llama")
    windows = fixed_windows(np.random.default_rng(0).integers(5, 300, 400), window=20, stride=7, prefix=[1])
    table = score_windows(anatomy(model), windows, batch_size=3)
    logits = model(windows.ids).logits.double().log_softmax(-1)
    loss = torch.zeros(windows.ids.shape, dtype=torch.float64)
    loss[:, 1:] = -logits[:, :-1].gather(2, windows.ids[:, 1:, None])[..., 0]
    expected = (loss * windows.scored).sum(1)
    assert table.tokens.tolist() == windows.scored.sum(1).tolist()
    assert np.allclose(table.nll, expected.numpy(), rtol=1e-6)
    assert table.window.tolist() == list(range(len(windows)))


def test_nan_ends_with_a_message():
    ids = torch.zeros(2, 3, dtype=torch.int64)
    values = {"nll": torch.tensor([0.0, 0.0, 0.0, float("nan")])}
    with pytest.raises(AtlasError, match=r"not a number for 1 tokens\n.*window 1"):
        window_sums(values, Windows(ids, torch.tensor([[False, True, True]] * 2)))
