"""Counting by distinct pieces, against the tokenizers library on whole documents: fuzzed, tricky, and real."""

import collections
import json
from pathlib import Path

import numpy as np
import pytest
from counted_tokenizers import (
    TEXT,
    TRICKY,
    counted,
    counter_of,
    encode_with,
    loop,
    one_of_every_kind,
    plan_for,
    size_of,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_tokenizers import NAMES, NotHere, tokenizer_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from weight_atlas.tokens import distinct
from weight_atlas.tokens.bpe import byte_alphabet
from weight_atlas.tokens.counting import words_in
from weight_atlas.tokens.distinct import DistinctPieces
from weight_atlas.tokens.proof import plan_of


@pytest.fixture(scope="module")
def small():
    return one_of_every_kind()


KINDS = pytest.mark.parametrize("kind", ["gpt2", "llama3", "qwen", "o200k", "deepseek", "llama2", "gemma", "bert"])


@KINDS
def test_tricky_texts_one_by_one_and_together(small, kind):
    counter = counter_of(small[kind])
    for text in TRICKY:
        assert counted(counter, [text]) == loop(small[kind], [text]), text
    assert counted(counter, TRICKY * 2) == loop(small[kind], TRICKY * 2)


@KINDS
def test_fuzzed_documents(small, kind):
    counter = counter_of(small[kind])

    @settings(max_examples=150, deadline=None)
    @given(texts=st.lists(TEXT, max_size=4))
    @example(texts=[])
    @example(texts=["", " ", "", "a  ", "b", "  "])
    def same(texts):
        assert counted(counter, texts) == loop(small[kind], texts)

    same()


def test_groups_are_counted_apart(small):
    texts = {"b": TRICKY[:3], "a": TRICKY[2:9], "c": [TRICKY[8], "plain"]}
    counts = counter_of(small["gpt2"]).count(texts)
    for group, some in texts.items():
        assert dict(zip(counts[group].ids.tolist(), counts[group].counts.tolist(), strict=True)) == {
            id: count for id, (count, _) in loop(small["gpt2"], some).items()
        }


@KINDS
def test_tables_grow_and_forget(small, kind, monkeypatch):
    """With little room at first, and with fewer pieces than the texts have."""
    own = len(plan_for(small[kind]).model.whole.ends)
    empty, keep_only, kept = distinct.empty_pieces, distinct.keep_only, []
    little = (1 << max(2, own.bit_length()), 64 if own == 0 else 1 << 13)
    monkeypatch.setattr(distinct, "empty_pieces", lambda most, size: empty(*little))
    monkeypatch.setattr(distinct, "keep_only", lambda pieces, some: kept.append(len(some)) or keep_only(pieces, some))
    monkeypatch.setattr(distinct, "MOST_PIECES", 20)
    counter, words = counter_of(small[kind]), [" ".join(a + b + "q" for a in "qxzjkw" for b in "wvbqz")]
    for texts in (TRICKY + words, TRICKY[::-1] + words, words + TRICKY[4:], TRICKY):
        assert counted(counter, texts) == loop(small[kind], texts)
    assert len(kept) == 3
    assert all(own <= some <= own + 10 for some in kept)


def test_long_pieces_are_forgotten(small, monkeypatch):
    monkeypatch.setattr(distinct, "MOST_BYTES", 1000)
    counter = counter_of(small["gpt2"])
    texts = ["a few words", "x" * 1500, "x" * 1500, "a word and more" * 3]
    for _ in range(3):
        assert counted(counter, texts) == loop(small["gpt2"], texts)
    counter.count({"": []})
    # Of those that occur again, as the longest do, too, the short ones.
    assert counter._texts(np.arange(counter._known)) == ["a", " word", " and", " morea"]


def test_pieces_that_occur_once_are_forgotten_and_frequent_ones_encoded_once(small, monkeypatch):
    monkeypatch.setattr(distinct, "MOST_PIECES", 100)
    asked = []
    tokenizer = small["bert"]
    plain = encode_with(tokenizer)
    counter = DistinctPieces(
        plan_for(tokenizer), lambda texts: asked.extend(texts) or plain(texts), normalizers.NFC(), size_of(tokenizer)
    )
    for batch in range(8):
        rare = [f"é{number:03d}" for number in range(90 * batch, 90 * batch + 90)]
        texts = [" ".join(rare), "süß " * 9, "où " * 9]
        assert counted(counter, texts) == loop(tokenizer, texts)
    assert len(counter._pieces.starts) == 1 << 16  # no room was needed beside that at first
    assert [asked.count(word) for word in ("süß", "où")] == [1, 1]


@settings(max_examples=300, deadline=None)
@given(
    merges=st.lists(
        st.tuples(*[st.sampled_from(["a", "b", "ab", "ba", "aa", "aab", "abab", "bab", "abb"])] * 2), max_size=14
    ),
    text=st.text("ab", max_size=14),
)
def test_merges_of_any_order_are_those_of_the_library(merges, text):
    """Also where one token has several merges, and a merge builds on a later one."""
    vocabulary = {character: id for id, character in enumerate(byte_alphabet())}
    for pair in merges:
        for token in (*pair, "".join(pair)):
            vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert counted(counter_of(tokenizer), [text]) == loop(tokenizer, [text])


def test_each_distinct_piece_is_encoded_once(small):
    asked = []
    tokenizer = small["bert"]
    plan, plain = plan_for(tokenizer), encode_with(tokenizer)
    counter = DistinctPieces(
        plan, lambda texts: asked.extend(texts) or plain(texts), normalizers.NFC(), size_of(tokenizer)
    )
    counter.count({"": ["sömé words, sömé words", "wörds words"]})
    counter.count({"": ["mörë wörds"]})
    assert asked == ["sömé", "wörds", "mörë"]  # those of ASCII are encoded here


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab \t\n\x0b\x1c\x1f\x85\u00a0é"), max_size=12))
def test_words_are_those_of_split(text):
    assert words_in([text]) == len(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tokenizers_that_people_use(name):
    """On adversarial texts, all added tokens within text, a line of 10 MB (of one tokenizer), and sources."""
    try:
        file = tokenizer_file(name)
    except NotHere as reason:
        pytest.skip(str(reason))
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counter = DistinctPieces(
        plan_of(json.loads(file.read_bytes()), tokenizer.get_added_tokens_decoder()),
        encode_with(tokenizer), normalizers.NFC(), size_of(tokenizer),
    )  # fmt: skip
    sources = [Path(module.__file__).read_text(encoding="utf-8") for module in (collections, json, st, pytest)]
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    within = ["x".join(added), " ".join(added), "".join(f"a{token}{token[:-1]}\r\n {token}{token}." for token in added)]
    line = ("word " * 40 + "日本語 x'll 1234 ") * (45_000 if name == "llama3" else 500)
    texts = [*TRICKY, *sources, *within, line]
    for some in ([text] for text in TRICKY):
        assert counted(counter, some) == loop(tokenizer, some), some
    assert counted(counter, texts) == loop(tokenizer, texts)
