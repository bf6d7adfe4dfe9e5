"""Tokenizers without weights: of a folder, one file, the hub, and a SentencePiece model."""

import json

import numpy as np
import pytest
from standin_hub import COMMIT, Repository, ask_instead, standin_hub

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint.local_files import tokenizer_files
from weight_atlas.checkpoint.source import bundled
from weight_atlas.errors import AtlasError
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.tokens.batches import Documents
from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.model_vocabulary import manifest_vocabulary
from weight_atlas.tokens.tokenizer import load_tokenizer, token_texts
from weight_atlas.tokens.tokenizer_fetch import fetch_tokenizer, place_of
from weight_atlas.tokens.tokenizer_source import open_tokenizer

STORED = bundled("demo") / "tokenizer.json"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok/tokenizer.json").write_bytes(STORED.read_bytes())
    (tmp_path / "tok/notes.md").write_text("not read")
    return tmp_path / "tok"


def opened(tmp_path, spec):
    write_json(tmp_path / "manifest.json", fetch_tokenizer(spec))
    return open_tokenizer(tmp_path / "manifest.json")


def test_a_folder_and_one_file_are_the_same_tokenizer(folder, tmp_path):
    (folder / "other_name.json").write_bytes(STORED.read_bytes())
    ids = {}
    for source in (folder, folder / "tokenizer.json", folder / "other_name.json"):
        place = opened(tmp_path, TokenizerSpec(source=str(source)))
        assert place == source == place_of(str(source))
        assert all(str(folder) in path for path in tokenizer_files(str(source)))
        ids[source] = load_tokenizer(place, trust_remote_code=False).encode("some text", add_special_tokens=False)
    assert len({tuple(each) for each in ids.values()}) == 1
    assert [path.rpartition("/")[2] for path in tokenizer_files(str(folder))] == ["tokenizer.json"]


def test_the_vocabulary_of_a_tokenizer_alone(folder, tmp_path):
    opened(tmp_path, TokenizerSpec(source=str(folder)))
    vocabulary = manifest_vocabulary(None, None, tmp_path / "manifest.json", trust_remote_code=False)
    assert vocabulary.embedding_rows is None and vocabulary.tokenizer_ids == len(vocabulary.texts)
    with pytest.raises(AtlasError, match="nothing to count by"):
        manifest_vocabulary(None, None, None, trust_remote_code=False)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{}", "no tokenizer here"),
        ("notes.md", "", "no tokenizer here"),
        ("tokenizer.json", "version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    ],
)
def test_folders_without_a_tokenizer(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(AtlasError, match=said):
        fetch_tokenizer(TokenizerSpec(source=str(tmp_path)))


def test_what_is_wrong_with_a_source_is_said(folder, tmp_path):
    for source in (tmp_path / "gone", tmp_path / "gone.json"):
        with pytest.raises(AtlasError, match="no tokenizer here"):
            fetch_tokenizer(TokenizerSpec(source=str(source)))
    with pytest.raises(AtlasError, match="a file of weights"):
        fetch_tokenizer(TokenizerSpec(source=str(tmp_path / "model.safetensors")))
    with pytest.raises(AtlasError, match="`revision` is for"):
        fetch_tokenizer(TokenizerSpec(source=str(folder), revision="main"))
    (tmp_path / "x.model").write_bytes(b"no model")
    (tmp_path / "x.json").write_text("{}")
    for name in ("x.model", "x.json"):
        with pytest.raises(AtlasError, match="cannot be loaded"):
            load_tokenizer(tmp_path / name, trust_remote_code=False)


def test_a_tokenizer_that_has_changed_since_is_noticed(folder, tmp_path):
    opened(tmp_path, TokenizerSpec(source=str(folder)))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(AtlasError, match="has changed"):
        open_tokenizer(tmp_path / "manifest.json")
    write_json(tmp_path / "manifest.json", {"source": str(folder)})
    with pytest.raises(AtlasError, match="not a tokenizer's manifest"):
        open_tokenizer(tmp_path / "manifest.json")


def test_nothing_but_the_tokenizer_comes_from_the_hub(tmp_path, monkeypatch):
    files = {"tokenizer.json": STORED.read_bytes(), "config.json": b"{}", "model.safetensors": b"x" * 99}
    with standin_hub({"org/name": Repository(files)}) as hub:
        ask_instead(hub.endpoint, monkeypatch, tmp_path)
        place = place_of("hf://org/name")
        assert not [path for _, path, _ in hub.requests if "safetensors" in path]
    assert place.name == COMMIT and sorted(path.name for path in place.iterdir()) == ["config.json", "tokenizer.json"]


@pytest.fixture(scope="module")
def sentencepiece_file(tmp_path_factory):
    import sentencepiece

    folder = tmp_path_factory.mktemp("sentencepiece")
    words = [f"{a}{b} said  the {b} of {a}" for a in ("north", "wind", "sun", "café") for b in ("cloak", "traveller")]
    (folder / "text.txt").write_text("\n".join(words * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "t"), vocab_size=330, model_type="bpe",
        byte_fallback=True, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return folder / "t.model"


def test_a_sentencepiece_model_counts_as_its_own_library_does(sentencepiece_file, capsys):
    import sentencepiece

    tokenizer = load_tokenizer(sentencepiece_file, trust_remote_code=False)
    texts = ["  the sun", "wind said\n\nof é 日", ""]
    counts = count_tokens(tokenizer, [Documents(texts, [""] * 3)], len(tokenizer))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_file))
    expected = [0] * len(tokenizer)
    for text in texts:
        for id in processor.encode(text):
            expected[id] += 1
    assert counts.counts.tolist() == expected
    assert "text by text" in capsys.readouterr().out
    shown = token_texts(tokenizer, len(tokenizer) + 2)
    assert shown[tokenizer.get_vocab()["▁the"]] == " the" and shown[-1] == ""
    with pytest.raises(ValueError, match="special tokens"):
        tokenizer.encode("a", add_special_tokens=True)


@pytest.mark.parametrize("owner", ["LlamaTokenizer", "GemmaTokenizer"])
def test_a_folder_with_a_sentencepiece_model_alone_counts_as_its_class_does(sentencepiece_file, tmp_path, owner):
    from transformers import AutoTokenizer

    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": owner}))
    tokenizer = load_tokenizer(tmp_path, trust_remote_code=False)
    texts = ["  the sun", "wind said\n\nof é 日", ""]
    counts = count_tokens(tokenizer, [Documents(texts, [""] * 3)], len(tokenizer))
    plain = AutoTokenizer.from_pretrained(tmp_path)
    ids = [id for text in texts for id in plain.encode(text, add_special_tokens=False)]
    assert counts.counts.tolist() == np.bincount(ids, minlength=len(tokenizer)).tolist()


def test_names_of_models_and_tokenizers_differ():
    from weight_atlas.workflow.configuration import configured

    config = {"models": {"a": {"source": "bundled:demo"}}, "tokenizers": {"a": {"source": "x"}}}
    with pytest.raises(AtlasError, match="'a'"):
        configured(json.loads(json.dumps(config)), "config.yaml")
