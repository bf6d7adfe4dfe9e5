"""Counts against a plain loop over single documents; the fast way against whole documents, on fuzzed text."""

import collections
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.tokens import tallies
from weight_atlas.tokens.batches import Documents
from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.counts import TokenCounts, merged
from weight_atlas.tokens.coverage import count_summary, coverage_ranks, group_summary
from weight_atlas.tokens.installation import read_source, source_files
from weight_atlas.tokens.prose import paragraphs
from weight_atlas.tokens.python_docs import is_held_out
from weight_atlas.tokens.tokenizer import load_tokenizer, token_texts, tokenizer_and_source, vocabulary_size

VOCABULARY = 900


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
    some = texts[:20]
    return {
        "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False), some),
    }


def loop(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Count one document after the other."""
    counts, documents = collections.Counter(), collections.Counter()
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        counts.update(ids)
        documents.update(set(ids))
    return tuple(np.array([counter[id] for id in range(VOCABULARY)]) for counter in (counts, documents))


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def counted_by(tokenizer: Tokenizer, *batches: list[str]) -> TokenCounts:
    documents = [Documents(batch, [""] * len(batch)) for batch in batches]
    return count_tokens(SimpleNamespace(backend_tokenizer=tokenizer), documents, VOCABULARY)


def test_batches_add_up_and_truncation_is_off(tokenizers, texts):
    tokenizer = Tokenizer.from_str(tokenizers["gpt2"].to_str())
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=512)
    batches = [texts[:7], texts[7:9], [], texts[9:30]]
    counted = counted_by(tokenizer, *batches)
    assert counted.documents == 30
    assert_same((counted.counts, counted.document_frequency), loop(tokenizers["gpt2"], texts[:30]))


def test_documents_that_are_encoded_some_at_a_time(tokenizers, monkeypatch):
    """Also empty ones at a border, and ones that are longer than what is encoded at once."""
    monkeypatch.setattr(tallies, "_AT_ONCE", 12)
    texts = ["", "one two", "two", "", "a much longer text than the others, twice as long as all", "", "", "two two"]
    counted = counted_by(tokenizers["gpt2"], texts)
    assert_same((counted.counts, counted.document_frequency), loop(tokenizers["gpt2"], texts))


def test_a_tokenizer_without_the_rust_library(texts):
    class Slow:
        def encode(self, text, add_special_tokens):
            assert not add_special_tokens
            return [ord(character) % 7 for character in text]

    counted = count_tokens(Slow(), [Documents(texts[:5], [""] * 5)], 8)
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
        "unseen_share": 0.4,
        "below_share": {10: 0.6, 100: 0.8},
        "mean_count": 111.0,
        "median_count": 5.0,
        "coverage_rank": {"50%": 1, "90%": 1, "95%": 2, "99%": 2},
    }


GROUPED = Documents(["a b", "b b\u00a0c", "", "é"], ["x", "", "x", "y"])


class Letters:
    """A tokenizer of single characters."""

    def encode(self, text, add_special_tokens):
        return [ord(character) % 300 for character in text]


def test_groups_against_plain_loops():
    counts = count_tokens(Letters(), [GROUPED, Documents(["a", "zz"], ["y", "x"])], 300)
    expected = collections.Counter(
        {("", 32): (1, 1), ("", 98): (2, 1), ("", 160): (1, 1), ("", 99): (1, 1), ("x", 97): (1, 1), ("x", 32): (1, 1)}
        | {("x", 98): (1, 1), ("x", 122): (2, 1), ("y", 233): (1, 1), ("y", 97): (1, 1)}
    )
    rows = counts.named().itertuples(index=False)
    assert {(row.group, row.id): (row.count, row.document_frequency) for row in counts.named().itertuples()} == expected
    assert [(row[0], row[1]) for row in rows] == sorted(expected)
    groups = group_summary(counts).set_index("group")
    assert groups[["documents", "bytes", "words", "tokens", "types"]].T.to_dict("list") == {
        "": [1, 6, 3, 5, 4],
        "x": [3, 5, 3, 5, 4],
        "y": [2, 3, 2, 2, 2],
    }
    assert groups["share"].tolist() == [5 / 12, 5 / 12, 2 / 12]
    assert groups["tokens_per_byte"].tolist() == [5 / 6, 1.0, 2 / 3]
    assert groups["tokens_per_word"].tolist() == [5 / 3, 5 / 3, 1.0]


def test_parts_of_a_corpus_add_up_in_any_order():
    batches = [GROUPED, Documents(["a", "zz"], ["y", "new"]), Documents([], [])]
    whole = count_tokens(Letters(), batches, 300)
    parts = [count_tokens(Letters(), [batch], 300) for batch in batches]
    for order in (parts, parts[::-1]):
        together = merged(order, 300)
        pd.testing.assert_frame_equal(together.groups, whole.groups)
        pd.testing.assert_frame_equal(together.long, whole.long)
    np.testing.assert_array_equal(together.counts, whole.counts)
    assert together.documents == 6


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
    counted = count_tokens(tokenizer, [Documents(WHITE_SPACE, [""] * len(WHITE_SPACE))], size)
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
