"""Unigram models: cut at gaps and run here, against the tokenizers library on whole documents."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_tokenizers import UNIGRAM, NotHere, tokenizer_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from weight_atlas.tokens.distinct import DistinctPieces
from weight_atlas.tokens.plan import NotProven
from weight_atlas.tokens.proof import plan_of

TEXTS = [
    "it's  two spaces, three   spaces\tand a tab \t mixed",
    " leading, trailing ",
    "a\nb \n c\r\nd \r\n e\n\n\nf\rg\x0bh\x0ci",
    "a \u0301b \u0301 c e\u0301 f\u0301 g ",
    "a\u00a0b \u00a0 c\u3000d \u2028e \u200b f\u200b \u200bg \ufeff h",
    "▁ a▁b ▁c d▁ e ▁▁ f",
    "日本語 と 中文 a日 本b русский текст αβγ 한국어 各",
    "ｆｕｌｌ ｗｉｄｔｈ ① ½ ﬁne ½ ㎏ Å \u212b",
    "😀 a😀 😀b 👩‍👩‍👧 x",
    "<unk> a<unk>b <s> <0x41> <|end|> a <|end|>b",
    "``quoted'' -- dashes '' `` a`` b",
    "unknown: ☃☃ x☃y \U00050000 \x00 \x01a b\x7f",
    "x" * 60 + " " * 30 + "y" + "=" * 40 + "\n" * 9 + "z",
    "aab abab aa ba bb abba aaaa",
    "",
    " ",
    "\n",
]
PARTS = ["a", "b", "ab", " ", "  ", "\t", "\n", "\r\n", "the", "e", "\u0301", "é", "▁", "☃", "日", "\u00a0", "\u200b"]
PARTS += ["``", "'", ".", "<unk>", "<s>", "ｆ", "½", "\x00", "\x0b", "1", "Z", "<|end|>", "\u3000", "\ufeff", "-"]
TEXT = st.lists(st.sampled_from(PARTS) | st.text(max_size=2), max_size=20).map("".join)
TEXT = TEXT.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))
SCORES = [-0.1, -0.2, -0.3, -1.0, -1.1, -2.2, 0.5, -30.0]
ALWAYS = pre_tokenizers.Metaspace(prepend_scheme="always")


def of_pieces(scores, normalizer=None, pre_tokenizer=ALWAYS, unknown=0, byte_fallback=False) -> Tokenizer:
    """A tokenizer by the scores of its tokens."""
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=unknown, byte_fallback=byte_fallback))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens([AddedToken("<|end|>", normalized=False), AddedToken("<s>", normalized=False)])
    return tokenizer


def small_scores() -> dict[str, float]:
    """Tokens with ▁ at every place, crossing what is cut at, and scores with ties."""
    scores = {"<unk>": 0.0, "<0x41>": -3.0}
    scores |= dict.fromkeys("abcdefghiTt.'`-▁1", -2.0)
    scores |= {"▁a": -2.1, "aab": -4.0, "ab": -3.5, "ba": -3.5, "aa": -3.9, "▁the": -1.5, "e▁": -1.0, "a▁b": -0.1}
    return scores | {"▁▁": -2.2, "▁▁▁": -2.3, "b▁▁a": -0.2, "é": -4.0, "日": -5.0, "-- ": -1.0, '"': -3.0, "``": -1.0}


def charsmap() -> bytes:
    """The compiled rules of SentencePiece's NFKC, out of a model that it trains in a moment."""
    from io import BytesIO

    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words to train on", "and a few more"] * 9), model_writer=model, vocab_size=40,
        hard_vocab_limit=False, minloglevel=3,
    )  # fmt: skip
    return field(field(model.getvalue(), 3), 2)  # normalizer_spec, precompiled_charsmap


def field(message: bytes, wanted: int) -> bytes:
    """The first field of a number in a protobuf message whose fields before it are of bytes as well."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7

    at = 0
    while True:
        key, at = varint(at)
        assert key & 7 == 2, "not of bytes"
        size, at = varint(at)
        if key >> 3 == wanted:
            return message[at : at + size]
        at += size


@pytest.fixture(scope="module")
def small():
    """Tokenizers with the steps of models that people use: T5's and XLM-R's, ALBERT's, and simpler ones."""
    scores, rules = small_scores(), normalizers.Precompiled(charsmap())
    collapse = normalizers.Replace(Regex(" {2,}"), "▁")
    one_space = normalizers.Replace(Regex(" {2,}"), " ")
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    strip = normalizers.Strip(left=False, right=True)
    zero_width = normalizers.Replace(Regex(r"[\u00AD\u200B-\u200D\uFEFF]"), "")
    spaces = normalizers.Replace(Regex(r"\p{Zs}"), " ")
    words = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), ALWAYS])
    return {
        "plain": of_pieces(scores),
        "first": of_pieces(scores, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first")),
        "never": of_pieces(scores, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="never")),
        "t5": of_pieces(scores, normalizers.Sequence([rules, collapse])),
        "xlm-r": of_pieces(scores, normalizers.Sequence([strip, rules, collapse]), words),
        "albert": of_pieces(scores, normalizers.Sequence([*quotes, normalizers.NFKD(), rules, one_space])),
        "zero width": of_pieces(scores, normalizers.Sequence([zero_width, spaces, normalizers.NFC()])),
        "bytes": of_pieces(scores | {f"<0x{byte:02X}>": -20.0 for byte in range(256)}, rules, byte_fallback=True),
    }


KINDS = ("plain", "first", "never", "t5", "xlm-r", "albert", "zero width", "bytes")
each_kind = pytest.mark.parametrize("kind", KINDS)


def counter_of(tokenizer: Tokenizer, asked: list[str] | None = None) -> DistinctPieces:
    def encode(texts):
        if asked is not None:
            asked.extend(texts)
        return [each.ids for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    plan = plan_of(json.loads(tokenizer.to_str()), tokenizer.get_added_tokens_decoder())
    return DistinctPieces(plan, encode, normalizers.NFC(), max(tokenizer.get_vocab().values()) + 1)


def assert_same(counter: DistinctPieces, tokenizer: Tokenizer, texts: list[str]) -> None:
    ids, counts, documents = counter.count({"": texts})[""]
    whole = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    true_ids, true_counts = np.unique(np.array([id for each in whole for id in each], np.int64), return_counts=True)
    assert ids.tolist() == true_ids.tolist(), texts
    assert counts.tolist() == true_counts.tolist(), texts
    assert documents.tolist() == [sum(id in each for each in whole) for id in true_ids], texts


@each_kind
def test_texts_one_by_one_and_together(small, kind):
    counter = counter_of(small[kind])
    for text in TEXTS:
        assert_same(counter, small[kind], [text])
    assert_same(counter, small[kind], TEXTS * 2)


@each_kind
def test_no_text_is_found_that_gets_other_tokens(small, kind):
    counter = counter_of(small[kind])

    @settings(max_examples=80, deadline=None)
    @given(texts=st.lists(TEXT, max_size=3))
    @example(texts=["a\r\n b", "a \u0301b", " a", "a ", "a  b\n"])
    def same(texts):
        assert_same(counter, small[kind], texts)

    same()


@settings(max_examples=80, deadline=None)
@given(
    scores=st.dictionaries(st.text("ab▁", min_size=2, max_size=5), st.sampled_from(SCORES), max_size=9),
    text=st.text("ab c▁", max_size=14),
)
def test_the_best_path_is_the_library_s_where_tokens_cross_gaps_and_scores_tie(scores, text):
    vocabulary = {"<unk>": 0.0, "a": -1.0, "b": -1.1, "▁": -1.2} | scores
    tokenizer = of_pieces(vocabulary)
    assert_same(counter_of(tokenizer), tokenizer, [text])


def test_only_what_is_unknown_or_not_of_ascii_is_left_to_the_library(small):
    asked = []
    counter = counter_of(small["t5"], asked)
    counter.count({"": ["a ab\nthe a é ab  ab x☃ T. a"]})
    assert asked == [" a é ab", " x☃ T."]


def proven(tokenizer: Tokenizer, **parts) -> bool:
    try:
        plan_of(json.loads(tokenizer.to_str()) | parts, tokenizer.get_added_tokens_decoder())
    except NotProven:
        return False
    return True


def test_what_is_not_proven_is_left_to_the_library(small):
    plain, scores = small["plain"], small_scores()
    assert proven(plain)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    # Without pieces of the pre-tokenizer, tokens of the vocabulary cross every border.
    for splits in (None, metaspace | {"split": False}, metaspace | {"replacement": "_"}, {"type": "Whitespace"}):
        assert not proven(plain, pre_tokenizer=splits)
    first = [{"type": "WhitespaceSplit"}, metaspace | {"prepend_scheme": "first"}]
    assert not proven(plain, pre_tokenizer={"type": "Sequence", "pretokenizers": first})
    for step in (
        normalizers.Lowercase(),
        normalizers.Strip(left=True, right=False),
        normalizers.Prepend("▁"),
        normalizers.Replace("a b", "c"),
        normalizers.Replace("a", ""),
        normalizers.Replace("ab", "b "),
        normalizers.Replace("ab", ""),
        normalizers.Replace(" ", "_"),
        normalizers.Replace(Regex("a b"), "c"),
        normalizers.Replace(Regex(r"\s+$"), ""),
        normalizers.Replace(Regex(" {2,}"), "x"),
    ):
        assert not proven(of_pieces(scores, step)), step
    model = json.loads(plain.to_str())["model"]
    assert not proven(plain, model=model | {"alpha": 0.1})
    later = of_pieces(scores, normalizers.NFKC())
    later.add_tokens([AddedToken("<late>", normalized=True)])
    assert not proven(later)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNIGRAM)
def test_unigram_tokenizers_that_people_use(name):
    try:
        file = tokenizer_file(name)
    except NotHere as reason:
        pytest.skip(str(reason))
    tokenizer = Tokenizer.from_file(str(file))
    counter = counter_of(tokenizer)
    sources = [Path(module.__file__).read_text(encoding="utf-8") for module in (json, pytest, np)]
    for text in TEXTS:
        assert_same(counter, tokenizer, [text])
    assert_same(counter, tokenizer, [*TEXTS, *sources, ("word " * 40 + "日本語 မြန်မာ x'll 1234 ") * 800])

    @settings(max_examples=200, deadline=None)
    @given(texts=st.lists(TEXT, max_size=3))
    def same(texts):
        assert_same(counter, tokenizer, texts)

    same()
