"""Counts against a plain loop over single documents; the fast way against whole documents, on fuzzed text."""

import collections
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.tokens import counting
from weight_atlas.tokens.counting import count_tokens, encoder
from weight_atlas.tokens.coverage import count_summary, coverage_ranks
from weight_atlas.tokens.distinct_chunks import count_distinct, count_whole
from weight_atlas.tokens.installation import read_source, source_files
from weight_atlas.tokens.prose import paragraphs
from weight_atlas.tokens.python_docs import is_held_out
from weight_atlas.tokens.safe_cuts import GPT2, LLAMA3, QWEN2, cutting_rule
from weight_atlas.tokens.tokenizer import load_tokenizer, token_texts, tokenizer_and_source, vocabulary_size

VOCABULARY = 900
# Texts whose borders are hard: contractions, runs of white space, numbers, line ends, joined and combining characters.
TRICKY = [
    "it's we'LL they'Re x'sy 'tis ''s 's'd",
    "a  b   c\t\td \t e\n\nf \n g\r\nh  \n\n  i",
    "  leading and trailing  ",
    "1234567 12a34 a1b2 1,234.56 x=1;y=22 3'd",
    "(a) ((b)) .c -d --e_f __g__ $h #i @j /k/\n.l\n\n..m\n",
    "cafe\u0301 naïve ﬁ ǆ Å Ω \u212b A\u030a 1\u0301 .\u0301",
    "日本語 text 中文，标点。 русский текст αβγ 한국어",
    "😀😀 a😀b 👩‍👩‍👧 \u200b zero \u00a0 nbsp \u00a0\u00a0x \u3000y \x0b\x0cz \x1f \x85",
    "<|end|> in the middle<|end|>and <bos> <|end| not",
    "def f(x):\n    return x  # comment\n\n\n\tif x:\n\t\tpass\n",
]
PIECES = ["'", "s", "S", "ll", "a", "b", "1", "22", " ", "  ", "\t", "\n", "\r\n", ".", "(", "_", "é", "\u0301", "日"]
PIECES += ["😀", "\u00a0", "\u2028", "\x00", "\x0b", "\x85", "ſ", "²", "<|end|>", "<|", "\u212a", "word", " the"]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=24).map("".join)


def splitting_by(expression: str):
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def trained(pre_tokenizer, texts: list[str], normalizer=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("<|end|>", normalized=False)])
    return tokenizer


@pytest.fixture(scope="module")
def texts():
    """Real documents: a part of the bundled corpus, whose whole takes longer to extract."""
    files = [file for name, file in source_files().items() if is_held_out(name)]
    return ["\n\n".join(found) for file in files[:70] if (found := paragraphs(read_source(file)))]


@pytest.fixture(scope="module")
def tokenizers(texts):
    some = texts[:20] + TRICKY * 20
    return {
        "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False), some),
        "llama3": trained(splitting_by(LLAMA3), some),
        "qwen2": trained(splitting_by(QWEN2), some, normalizers.NFC()),
    }


def loop(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Count one document after the other."""
    counts, documents = collections.Counter(), collections.Counter()
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        counts.update(ids)
        documents.update(set(ids))
    return tuple(np.array([counter[id] for id in range(VOCABULARY)]) for counter in (counts, documents))


def fast(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    state = json.loads(tokenizer.to_str())
    rule, added = cutting_rule(state), [token["content"] for token in state["added_tokens"]]
    assert rule is not None
    return count_distinct(texts, rule, added, encoder(SimpleNamespace(backend_tokenizer=tokenizer)), VOCABULARY)


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


NAMES = pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen2"])


@NAMES
def test_real_text(tokenizers, texts, name):
    expected = loop(tokenizers[name], texts[:60])
    assert expected[0].sum() > 20_000
    assert_same(fast(tokenizers[name], texts[:60]), expected)
    assert_same(
        count_whole(texts[:60], encoder(SimpleNamespace(backend_tokenizer=tokenizers[name])), VOCABULARY), expected
    )


@NAMES
def test_tricky_text_one_by_one_and_together(tokenizers, name):
    for text in TRICKY:
        assert_same(fast(tokenizers[name], [text]), loop(tokenizers[name], [text]))
    assert_same(fast(tokenizers[name], TRICKY * 2), loop(tokenizers[name], TRICKY * 2))


@NAMES
@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXT, max_size=5))
@example(texts=[])
@example(texts=["", " ", "", "a  ", "b", "  "])
def test_fuzzed_text(tokenizers, name, texts):
    assert_same(fast(tokenizers[name], texts), loop(tokenizers[name], texts))


@NAMES
def test_chunks_are_few(tokenizers, texts, name):
    seen = []
    plain = encoder(SimpleNamespace(backend_tokenizer=tokenizers[name]))
    rule = cutting_rule(json.loads(tokenizers[name].to_str()))
    count_distinct(texts, rule, [], lambda chunks: seen.append(chunks) or plain(chunks), VOCABULARY)
    chunks = seen[-1]
    assert len(set(chunks)) == len(chunks)
    assert sum(map(len, chunks)) < 0.4 * sum(map(len, texts))


def test_the_expressions_are_those_of_the_libraries(tokenizers):
    # What the byte-level pre-tokenizer does by itself is what the expression says.
    itself, spelled = pre_tokenizers.ByteLevel(add_prefix_space=False), splitting_by(GPT2)
    for text in TRICKY:
        assert itself.pre_tokenize_str(text) == spelled.pre_tokenize_str(text)


def changed(tokenizer: Tokenizer, **parts) -> dict:
    return json.loads(tokenizer.to_str()) | parts


def test_other_tokenizers_are_not_cut(tokenizers):
    gpt2 = tokenizers["gpt2"]
    assert cutting_rule(changed(gpt2)) is not None
    assert cutting_rule(changed(gpt2, normalizer={"type": "NFKC"})) is None
    assert cutting_rule(changed(gpt2, normalizer={"type": "Lowercase"})) is None
    assert cutting_rule(changed(gpt2, pre_tokenizer=None)) is None
    assert cutting_rule(changed(gpt2, pre_tokenizer={"type": "Whitespace"})) is None
    spaced = json.loads(gpt2.to_str())["pre_tokenizer"] | {"add_prefix_space": True}
    assert cutting_rule(changed(gpt2, pre_tokenizer=spaced)) is None
    model = json.loads(gpt2.to_str())["model"]
    assert cutting_rule(changed(gpt2, model=model | {"dropout": 0.1})) is None
    assert cutting_rule(changed(gpt2, model={"type": "Unigram", "vocab": []})) is None
    unknown = json.loads(splitting_by_tokenizer(GPT2 + "|x").to_str())
    assert cutting_rule(unknown) is None
    normalized = json.loads(tokenizers["qwen2"].to_str())
    normalized["added_tokens"][0]["normalized"] = True
    assert cutting_rule(normalized) is None


def splitting_by_tokenizer(expression: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitting_by(expression)
    return tokenizer


def test_a_rule_that_is_wrong_is_found_out(tokenizers, texts, monkeypatch):
    monkeypatch.setattr(counting, "cutting_rule", lambda settings: lambda text: np.ones(len(text), bool))
    ascii_texts = [text.encode("ascii", "ignore").decode() for text in texts[:10]]
    counted = count_tokens(SimpleNamespace(backend_tokenizer=tokenizers["gpt2"]), [ascii_texts], VOCABULARY)
    assert_same((counted.counts, counted.document_frequency), loop(tokenizers["gpt2"], ascii_texts))


def test_batches_add_up_and_truncation_is_off(tokenizers, texts):
    tokenizer = Tokenizer.from_str(tokenizers["gpt2"].to_str())
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=512)
    batches = [texts[:7], texts[7:9], [], texts[9:30]]
    counted = count_tokens(SimpleNamespace(backend_tokenizer=tokenizer), batches, VOCABULARY)
    assert counted.documents == 30
    assert_same((counted.counts, counted.document_frequency), loop(tokenizers["gpt2"], texts[:30]))


def test_a_tokenizer_without_the_rust_library(texts):
    class Slow:
        def encode(self, text, add_special_tokens):
            assert not add_special_tokens
            return [ord(character) % 7 for character in text]

    counted = count_tokens(Slow(), [texts[:5]], 8)
    assert counted.counts.sum() == sum(map(len, texts[:5]))
    assert counted.counts[7] == 0
    assert counted.document_frequency.tolist() == [5] * 7 + [0]


def test_coverage_against_a_plain_loop():
    counts = np.random.default_rng(0).zipf(1.3, 500).clip(max=10**6) - 1
    ordered = sorted(counts.tolist(), reverse=True)
    for share, rank in coverage_ranks(counts).items():
        assert sum(ordered[:rank]) >= share * counts.sum() - 1e-6
        assert sum(ordered[: rank - 1]) < share * counts.sum()


def test_coverage_at_the_very_border():
    assert coverage_ranks(np.array([1, 9, 90])) == {0.5: 1, 0.9: 1, 0.95: 2, 0.99: 2}
    assert coverage_ranks(np.zeros(4, np.int64)) == {0.5: 0, 0.9: 0, 0.95: 0, 0.99: 0}


def test_summary():
    summary = count_summary(np.array([0, 5, 50, 500, 0]), documents=3)
    assert summary == {
        "documents": 3,
        "tokens": 555,
        "vocabulary": 5,
        "types": 3,
        "unseen": 2,
        "below": {10: 3, 100: 4},
        "coverage_rank": {"50%": 1, "90%": 1, "95%": 2, "99%": 2},
    }


@pytest.fixture
def folder(tmp_path, tokenizers):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizers["gpt2"], eos_token="<|end|>").save_pretrained(tmp_path)
    return tmp_path


def test_the_tokenizer_beside_the_weights(folder, tokenizers):
    loaded = load_tokenizer(folder, trust_remote_code=False)
    assert loaded.encode("some text", add_special_tokens=False) == tokenizers["gpt2"].encode("some text").ids
    assert isinstance(loaded, type(AutoTokenizer.from_pretrained(folder)))


SPECIAL = ("<unk>", "<s>", "</s>")
WHITE_SPACE = ["  lead", " x", "a  b", "hi <s> there", "a</s>b", "\n\nq", "  ", "é 日", "</s> </s>", "end  "]


@pytest.fixture
def llama_folder(tmp_path):
    """A tokenizer as Llama's converters write it: spaces become ▁ by the normalizer, also after special tokens."""
    words = [
        "▁",
        "▁▁",
        "a",
        "b",
        "e",
        "l",
        "d",
        "▁a",
        "▁b",
        "▁l",
        "ea",
        "lea",
        "▁lea",
        "lead",
        "▁lead",
        "h",
        "i",
        "▁h",
        "▁hi",
    ]
    vocabulary = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    merges = ["▁ ▁", "▁ a", "▁ b", "▁ l", "e a", "l ea", "▁l ea", "lea d", "▁lea d", "▁ h", "▁h i"]
    model = models.BPE(
        vocab={word: index for index, word in enumerate(vocabulary)}, merges=[tuple(merge.split()) for merge in merges],
        unk_token="<unk>", fuse_unk=True, byte_fallback=True,
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_ids_are_those_of_tokenizer_json_where_transformers_builds_another(llama_folder, capsys):
    stored = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    tokenizer, source = tokenizer_and_source(llama_folder, trust_remote_code=False)
    size = stored.get_vocab_size()
    counted = count_tokens(tokenizer, [WHITE_SPACE], size)
    flat = [id for text in WHITE_SPACE for id in stored.encode(text, add_special_tokens=False).ids]
    np.testing.assert_array_equal(counted.counts, np.bincount(flat, minlength=size))
    for text in WHITE_SPACE:
        assert (
            tokenizer(text, add_special_tokens=False)["input_ids"] == stored.encode(text, add_special_tokens=False).ids
        )
        assert tokenizer(text)["input_ids"] == [1, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert source["source"] == "tokenizer.json" and {"normalizer", "pre_tokenizer"} <= set(source["rebuilt"])
    assert "LlamaTokenizer of transformers differs from tokenizer.json" in capsys.readouterr().out
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    shown = token_texts(tokenizer, size)
    vocabulary = tokenizer.get_vocab()
    assert [shown[vocabulary[token]] for token in ("▁", "▁▁", "▁lead", "lead", "<s>")] == [
        " ",
        "  ",
        " lead",
        "lead",
        "<s>",
    ]


def test_tokens_that_only_the_configuration_knows_are_kept(llama_folder):
    path = llama_folder / "tokenizer_config.json"
    stored = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    size = stored.get_vocab_size()
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "[PAD]"}))
    tokenizer = load_tokenizer(llama_folder, trust_remote_code=False)
    assert (tokenizer.pad_token_id, len(tokenizer)) == (size, size + 1)
    assert tokenizer("  lead[PAD]", add_special_tokens=False)["input_ids"][-1] == size
    assert (
        tokenizer("  lead", add_special_tokens=False)["input_ids"]
        == stored.encode("  lead", add_special_tokens=False).ids
    )


def test_nothing_is_rebuilt_where_both_agree(folder, capsys):
    assert tokenizer_and_source(folder, trust_remote_code=False)[1] == {"source": "tokenizer.json", "rebuilt": []}
    assert capsys.readouterr().out == "" and load_tokenizer(folder, trust_remote_code=False).decode(
        [0, VOCABULARY - 1], skip_special_tokens=True
    )


def test_the_vocabulary_reaches_to_the_last_row_of_the_embedding(folder):
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    assert vocabulary_size(tokenizer, {}) == VOCABULARY
    assert vocabulary_size(tokenizer, {"vocab_size": 1024}) == 1024
    assert vocabulary_size(tokenizer, {"text_config": {"vocab_size": 1024}}) == 1024
    assert vocabulary_size(tokenizer, {"vocab_size": 10}) == VOCABULARY
    assert vocabulary_size(tokenizer, {"text_config": None}) == VOCABULARY
    assert vocabulary_size(tokenizer, {"vocab_size": 10**12}, embedding=1040) == 1040  # what is stored counts


def test_texts_of_tokens(folder):
    tokenizer = load_tokenizer(folder, trust_remote_code=False)
    shown = token_texts(tokenizer, VOCABULARY + 5)
    assert len(shown) == VOCABULARY + 5
    assert shown[VOCABULARY:] == [""] * 5
    vocabulary = tokenizer.get_vocab()
    assert shown[vocabulary["Ġthe"]] == " the"
    assert shown[vocabulary["<|end|>"]] == "<|end|>"
    assert shown[vocabulary["Ã"]] == "Ã"  # one byte of a character of two


def test_a_model_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AtlasError, match="without a tokenizer"):
        load_tokenizer(tmp_path, trust_remote_code=False)


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(AtlasError, match="cannot be loaded"):
        load_tokenizer(folder, trust_remote_code=False)
