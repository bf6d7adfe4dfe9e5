"""What a tokenizer.json proves about cutting, what it does not, and that a wrong proof is found out."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from counted_tokenizers import (
    TRICKY,
    counted,
    counter_of,
    loop,
    one_of_every_kind,
    size_of,
    splitting_by,
    trained,
)
from tokenizers import AddedToken, Tokenizer

from weight_atlas.tokens import counting
from weight_atlas.tokens.batches import Documents
from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.distinct import DistinctPieces
from weight_atlas.tokens.expressions import GPT2_EXPRESSION, KNOWN, llama3_expression
from weight_atlas.tokens.plan import NotProven
from weight_atlas.tokens.proof import plan_of


@pytest.fixture(scope="module")
def small():
    return one_of_every_kind()


def changed(tokenizer: Tokenizer, **parts) -> dict:
    return json.loads(tokenizer.to_str()) | parts


def proven(state: dict, added=None, **more) -> bool:
    try:
        plan_of(state, added or {}, **more)
    except NotProven:
        return False
    return True


def test_what_is_not_proven_is_left_to_the_library(small):
    gpt2, llama2, gemma, bert = (small[name] for name in ("gpt2", "llama2", "gemma", "bert"))
    for tokenizer in (gpt2, llama2, gemma, bert):
        assert proven(changed(tokenizer))
        assert not proven(changed(tokenizer), special_as_text=True)
        assert not proven(changed(tokenizer, normalizer={"type": "NFKC"}))
        assert not proven(changed(tokenizer, normalizer={"type": "Lowercase"}))
        assert not proven(changed(tokenizer, model={"type": "Unigram", "vocab": []}))
    model = changed(gpt2)["model"]
    assert not proven(changed(gpt2, model=model | {"dropout": 0.1}))
    assert not proven(changed(gpt2, model=model | {"end_of_word_suffix": "</w>"}))
    without = {token: id for token, id in model["vocab"].items() if token != "Ġ"}
    assert not proven(changed(gpt2, model=model | {"vocab": without}))
    assert not proven(changed(gpt2, pre_tokenizer=None))  # no bytes to fall back on
    assert not proven(changed(gpt2, pre_tokenizer={"type": "Whitespace"}))
    assert not proven(changed(gpt2, pre_tokenizer=changed(gpt2)["pre_tokenizer"] | {"add_prefix_space": True}))
    other = trained(splitting_by(GPT2_EXPRESSION + "|x"), ["x"])
    assert not proven(changed(other))
    model = changed(llama2)["model"]
    assert not proven(changed(llama2, model=model | {"byte_fallback": False}))
    assert not proven(changed(llama2, model=model | {"ignore_merges": True}))
    bytes_joined = {**model["vocab"], "<0xE2><0x96>": 5000}
    merged = model | {"vocab": bytes_joined, "merges": [*model["merges"], ["<0xE2>", "<0x96>"]]}
    assert not proven(changed(llama2, model=merged))
    assert not proven(changed(gemma, normalizer=None))  # then spaces are cut at, and lie within what merges join
    assert not proven(changed(bert, pre_tokenizer={"type": "Whitespace"}))
    normalized = {7: AddedToken("<x>", normalized=True)}
    assert proven(changed(gpt2), normalized) and not proven(changed(bert), normalized)
    assert not proven(changed(llama2), {7: AddedToken("a b", normalized=False)})
    assert not proven(changed(gemma), {7: AddedToken("▁b", normalized=True)})


def test_added_tokens_in_normalized_text(small):
    """Documents that have one are left to the library: what it looks for there is not the text as it stands."""
    for kind in ("llama2", "qwen", "deepseek"):
        tokenizer = Tokenizer.from_str(small[kind].to_str())
        tokenizer.add_tokens(
            [AddedToken("<late>", normalized=True), AddedToken("whole", single_word=True, normalized=False)]
        )
        texts = [
            "a<late>b",
            "<late>",
            " <late> c",
            "no <la\u0020te>",
            "unwhole whole wholes",
            "K<late\u0338>",
            "<late>\u0338",
        ]
        # The Kelvin sign becomes a K in NFC: too late for the one, in time for the other.
        tokenizer.add_tokens([AddedToken("Kq", normalized=False), AddedToken("Kz", normalized=True)])
        texts += ["\u212aq", "\u212az", "Kq \u212a"]
        counter = counter_of(tokenizer)
        for text in texts:
            assert counted(counter, [text]) == loop(tokenizer, [text]), (kind, text)


def count_by(tokenizer: Tokenizer, *batches: list[str]):
    documents = [Documents(batch, [""] * len(batch)) for batch in batches]
    return count_tokens(SimpleNamespace(backend_tokenizer=tokenizer), documents, size_of(tokenizer))


def test_large_corpora_are_counted_by_pieces_and_give_the_same(small, monkeypatch):
    batches = (TRICKY, [], TRICKY[2:8])
    plain = count_by(small["gpt2"], *batches)
    monkeypatch.setattr(counting, "LEAST", 1000)
    used = []
    monkeypatch.setattr(DistinctPieces, "count", spied(DistinctPieces.count, used))
    by_pieces = count_by(small["gpt2"], *batches)
    assert len(used) == 1 + len(batches)  # the sample, and each batch
    np.testing.assert_array_equal(plain.counts, by_pieces.counts)
    np.testing.assert_array_equal(plain.document_frequency, by_pieces.document_frequency)
    assert plain.groups.equals(by_pieces.groups)


def spied(method, calls):
    def call(self, texts):
        calls.append(texts)
        return method(self, texts)

    return call


def test_a_plan_that_is_wrong_is_found_out(small, monkeypatch, capsys):
    monkeypatch.setattr(counting, "LEAST", 1000)
    monkeypatch.setitem(KNOWN, (GPT2_EXPRESSION,), KNOWN[(llama3_expression(r"\p{N}"),)])
    counts = count_by(small["gpt2"], TRICKY)
    assert "would give other tokens" in capsys.readouterr().out
    assert {id: int(counts.counts[id]) for id in np.flatnonzero(counts.counts)} == {
        id: count for id, (count, _) in loop(small["gpt2"], TRICKY).items()
    }
