"""Counting by distinct pieces, against the tokenizers library on whole documents: fuzzed, tricky, and real."""

import collections
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_tokenizers import NAMES, NotHere, tokenizer_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from weight_atlas.tokens import counting, distinct
from weight_atlas.tokens.batches import Documents
from weight_atlas.tokens.bpe import byte_alphabet
from weight_atlas.tokens.characters import LETTER, NUMBER, SPACE, UNKNOWN, character_classes, plainly_composed
from weight_atlas.tokens.counting import count_tokens, words_in
from weight_atlas.tokens.cutting import piece_end
from weight_atlas.tokens.distinct import DistinctPieces
from weight_atlas.tokens.expressions import DEEPSEEK_EXPRESSIONS, GPT2_EXPRESSION, KNOWN, llama3_expression
from weight_atlas.tokens.plan import NotProven
from weight_atlas.tokens.proof import _cutting, plan_of

# Texts whose borders are hard: contractions, runs of white space, numbers, line ends, joined and combining characters,
# names of special tokens, letters of every case.
TRICKY = [
    "it's we'LL they'Re x'sy 'tis ''s 's'd I'M x'ſ 'ſ 'KE",
    "a  b   c\t\td \t e\n\nf \n g\r\nh  \n\n  i\r\n\r\n \r\n",
    "  leading and trailing  ",
    "1234567 12a34 a1b2 1,234.56 x=1;y=22 3'd ٣٤٥٦ ²³½ 1e٣",
    "(a) ((b)) .c -d --e_f __g__ $h #i @j /k/\n.l\n\n..m\n//n /\n/ \n",
    "cafe\u0301 naïve ﬁ ǆ Å Ω \u212b A\u030a 1\u0301 .\u0301 \u0301 e\u0323\u0301 \u0958 \u1100\u1161\u11a8 각 \u037e",
    "日本語 text 中文，标点。カタカナー゠・x ゛゜ 漢字123字 русский текст αβγ ΑΒΓ 한국어",
    "😀😀 a😀b 👩‍👩‍👧 \u200b zero \u00a0 nbsp \u00a0\u00a0x \u3000y \x0b\x0cz \x1f \x85 \x00a \x01\x02b",
    "<|end|> in the middle<|end|>and <bos> <|end| not [CLS] a[SEP]b<s></s>\n\n\n<s> <mask>x",
    "def f(x):\n    return x  # comment\n\n\n\tif x:\n\t\tpass\n",
    "ǅabc ABCdef XMLHttpRequest ʰʰA aʰB ÀÉ éÀ iPhone McDONALD's HTTP's a\u0301B A\u0301b",
    "▁▁ a▁b ▁ ▁x <0x0A>\ufeff\ufffd",
    "\U0001f1e9\U0001f1ea 🏴\U000e0067\U000e0062\U000e007f \U00050000 \U0010ffff \ue000",
    "x" * 300 + " " * 200 + "\n" * 40 + "=" * 90 + "ab" * 200,
    "",
    "\n",
    " ",
]
PIECES = [
    "'",
    "s",
    "S",
    "ll",
    "D",
    "a",
    "b",
    "1",
    "22",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    ".",
    "(",
    "/",
    "_",
    "é",
    "\u0301",
]
PIECES += [
    "日",
    "カ",
    "😀",
    "\u00a0",
    "\u2028",
    "\x00",
    "\x0b",
    "\x85",
    "ſ",
    "²",
    "<|end|>",
    "<|",
    "<s>",
    "\u212a",
    "word",
]
PIECES += [" the", "A", "ABc", "ǅ", "ʰ", "\u0323", "▁", "ア", "゛", "\ue000", "\U00050000", "[SEP]", "<mask>", "é\n"]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=24).map("".join)
TEXT = TEXT.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))

EXPRESSIONS = pytest.mark.parametrize("expressions", KNOWN, ids=lambda each: each[-1][:24])


def splitting_by(*expressions: str):
    splits = [pre_tokenizers.Split(Regex(each), "isolated") for each in expressions]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def library_pieces(expressions, text):
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(each), "isolated") for each in expressions])
    return [piece for piece, _ in cut.pre_tokenize_str(text)]


def own_pieces(expressions, text):
    cutting, content = _cutting(KNOWN[expressions]), np.frombuffer(text.encode(), np.uint8)
    at, pieces = 0, []
    while at < len(content):
        stop = piece_end(content, at, len(content), *cutting)
        pieces.append(content[at:stop].tobytes().decode())
        at = stop
    return pieces


def known(text):
    """Whether all characters have a class; documents with others are left to the library."""
    return not any(character_classes()[ord(character)] & UNKNOWN for character in text)


@EXPRESSIONS
def test_tricky_texts_are_cut_as_the_expression_cuts(expressions):
    for text in filter(known, TRICKY):
        assert own_pieces(expressions, text) == library_pieces(expressions, text)


@EXPRESSIONS
@settings(max_examples=150, deadline=None)
@given(text=TEXT.filter(known))
def test_fuzzed_texts_are_cut_as_the_expression_cuts(expressions, text):
    assert own_pieces(expressions, text) == library_pieces(expressions, text)


def test_the_expression_of_the_byte_level_pre_tokenizer_is_the_known_one():
    for text in TRICKY:
        itself, spelled = pre_tokenizers.ByteLevel(add_prefix_space=False), splitting_by(GPT2_EXPRESSION)
        assert itself.pre_tokenize_str(text) == spelled.pre_tokenize_str(text)


def test_the_alphabet_is_that_of_the_library():
    assert sorted(byte_alphabet()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for byte in range(128):
        ((shown, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
        assert shown == byte_alphabet()[byte]


def test_classes_of_characters_against_another_library():
    classes = character_classes()
    for point in (*range(0x250), *range(0x400, 0x460), *range(0x4E00, 0x4E40), 0x2028, 0x3000, 0x0663, 0x2160, 0x1F600):
        for bit, expression in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")):
            assert bool(classes[point] & bit) == bool(regex.match(expression, chr(point))), hex(point)
    assert classes[0x50000] == UNKNOWN and classes[0xD800] == UNKNOWN


def test_plain_characters_stay_as_they_are_in_nfc():
    """Each alone, and all of them side by side, in both orders."""
    points = np.flatnonzero(plainly_composed())
    assert len(points) > 100_000 and not plainly_composed()[[0x301, 0x958, 0x1161, 0x9BE, 0x212B]].any()
    text = "".join(map(chr, points.tolist()))
    for each in (text, text[::-1]):
        assert normalizers.NFC().normalize_str(each) == each


def trained(pre_tokenizer, texts, normalizer=None, ignore_merges=False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("<|end|>", normalized=False), AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def of_characters(texts, *, prepend: bool) -> Tokenizer:
    """Like Llama 2's (prepend) or Gemma's: BPE on whole texts, spaces as ▁, bytes for what is not known."""
    replace = normalizers.Replace(" ", "▁")
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prepend else replace
    if not prepend:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=names, max_token_length=12, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(state))
    runs = [] if prepend else ["\n" * length for length in range(1, 6)] + ["▁" * length for length in range(2, 5)]
    tokenizer.add_tokens([AddedToken(each, normalized=False) for each in ("<s>", "</s>", "<|end|>", *runs)])
    return tokenizer


def word_pieces(texts) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "<|end|>"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=500, show_progress=False, special_tokens=special)
    )
    return tokenizer


@pytest.fixture(scope="module")
def small():
    """Tokenizers of every kind that is proven, trained on the tricky texts."""
    texts = [text for text in TRICKY if text] * 3 + [" ".join(PIECES)] * 2
    return {
        "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False), texts),
        "llama3": trained(splitting_by(llama3_expression(r"\p{N}{1,3}")), texts, ignore_merges=True),
        "qwen": trained(splitting_by(llama3_expression(r"\p{N}")), texts, normalizers.NFC()),
        "o200k": trained(splitting_by(*list(KNOWN)[3]), texts, ignore_merges=True),
        "deepseek": trained(splitting_by(*DEEPSEEK_EXPRESSIONS), texts, normalizers.Sequence([])),
        "llama2": of_characters(texts, prepend=True),
        "gemma": of_characters(texts, prepend=False),
        "bert": word_pieces(texts),
    }


KINDS = pytest.mark.parametrize("kind", ["gpt2", "llama3", "qwen", "o200k", "deepseek", "llama2", "gemma", "bert"])


def encode_with(tokenizer):
    return lambda texts: [each.ids for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def counter_of(tokenizer: Tokenizer) -> DistinctPieces:
    plan = plan_of(json.loads(tokenizer.to_str()), tokenizer.get_added_tokens_decoder())
    return DistinctPieces(plan, encode_with(tokenizer), normalizers.NFC(), size_of(tokenizer))


def size_of(tokenizer: Tokenizer) -> int:
    return max(tokenizer.get_vocab().values()) + 1


def loop(tokenizer: Tokenizer, texts: list[str]) -> dict[int, tuple[int, int]]:
    """Count one document after the other."""
    counts, documents = collections.Counter(), collections.Counter()
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        counts.update(ids)
        documents.update(set(ids))
    return {id: (counts[id], documents[id]) for id in counts}


def counted(counter: DistinctPieces, texts: list[str]) -> dict[int, tuple[int, int]]:
    tally = counter.count({"": texts})[""]
    return dict(zip(tally.ids.tolist(), zip(tally.counts.tolist(), tally.documents.tolist(), strict=True), strict=True))


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
def test_tables_grow_and_are_begun_anew(small, kind, monkeypatch):
    empty = distinct.empty_pieces
    monkeypatch.setattr(distinct, "empty_pieces", lambda most, size: empty(max(4, most >> 12), max(64, size >> 14)))
    monkeypatch.setattr(distinct, "MOST_PIECES", 150)
    if kind in ("llama3", "o200k"):
        monkeypatch.setattr(distinct, "empty_pieces", lambda most, size: empty(1024, 1 << 13))
    counter = counter_of(small[kind])
    for texts in (TRICKY, TRICKY[::-1], TRICKY[4:]):
        assert counted(counter, texts) == loop(small[kind], texts)


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
    plan = plan_of(json.loads(tokenizer.to_str()), tokenizer.get_added_tokens_decoder())
    plain = encode_with(tokenizer)
    counter = DistinctPieces(
        plan, lambda texts: asked.extend(texts) or plain(texts), normalizers.NFC(), size_of(tokenizer)
    )
    counter.count({"": ["sömé words, sömé words", "wörds words"]})
    counter.count({"": ["mörë wörds"]})
    assert asked == ["sömé", "wörds", "mörë"]  # those of ASCII are encoded here


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


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab \t\n\x0b\x1c\x1f\x85\u00a0é"), max_size=12))
def test_words_are_those_of_split(text):
    assert words_in(text, text.encode()) == len(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tokenizers_that_people_use(name):
    """On adversarial texts, a line of a megabyte, and the sources of the standard library."""
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
    texts = [*TRICKY, *sources, ("word " * 40 + "日本語 x'll 1234 ") * 4000]
    for some in ([text] for text in TRICKY):
        assert counted(counter, some) == loop(tokenizer, some), some
    assert counted(counter, texts) == loop(tokenizer, texts)
