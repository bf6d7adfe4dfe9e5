"""Loading for forward passes: what can be run, and what each refusal says."""

import json
from types import SimpleNamespace

import pytest
import torch
from live_models import tiny, word_tokenizer

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.live.load import load_model
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.tokens.tokenizer import load_tokenizer


@pytest.fixture
def folder(tmp_path):
    tiny("llama").bfloat16().save_pretrained(tmp_path)
    return tmp_path


def test_a_cpu_computes_in_float32_with_the_stored_values(folder):
    model = load_model(Checkpoint.from_folder(folder), trust_remote_code=False, dtype="auto")
    assert model.dtype == torch.float32
    assert not model.training
    assert torch.equal(model.lm_head.weight, tiny("llama").bfloat16().float().lm_head.weight)
    assert load_model(Checkpoint.from_folder(folder), dtype="bfloat16", trust_remote_code=False).dtype == torch.bfloat16


def test_an_encoder_has_no_causal_head(tmp_path):
    import transformers

    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=50, **settings)).save_pretrained(tmp_path)
    with pytest.raises(AtlasError, match="no causal language-model head"):
        load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")


def test_weights_that_would_be_random_are_refused(tmp_path):
    model = tiny("llama")
    model.model.save_pretrained(tmp_path)
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(tmp_path)
    with pytest.raises(AtlasError, match=r"lacks 1 tensors of LlamaForCausalLM: lm_head\.weight"):
        load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")


def test_a_config_at_odds_with_the_weights_gets_the_inventorys_message(folder):
    config = folder / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "intermediate_size": content["intermediate_size"] + 8}))
    with pytest.raises(AtlasError, match=r"reads as W_down .*\(intermediate_size in config\.json"):
        load_model(Checkpoint.from_folder(folder), trust_remote_code=False, dtype="auto")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_hidden_layers", None, r"field 'num_hidden_layers': .*expected int"),
        ("rope_parameters", "x", r"field 'rope_parameters': "),
        ("dtype", "float7", r"AttributeError: .*float7"),
        ("hidden_act", "nosuch", r"KeyError: 'nosuch'"),
        ("auto_map", "x", r"auto_map must be an object, not x"),
    ],
)
def test_a_value_that_transformers_does_not_take_is_one_message(folder, key, value, message):
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    with pytest.raises(AtlasError, match=message):
        load_model(Checkpoint.from_folder(folder), trust_remote_code=False, dtype="auto")


def test_a_folder_without_config_or_tokenizer(folder):
    with pytest.raises(AtlasError, match="comes without a tokenizer"):
        load_tokenizer(folder, trust_remote_code=False)
    with pytest.raises(AtlasError, match=r"no config\.json"):
        checkpoint = SimpleNamespace(folder=folder, config={}, require_values=lambda: None)
        load_model(checkpoint, trust_remote_code=False, dtype="auto")
    with pytest.raises(AtlasError, match="cannot load the model"):
        (folder / "config.json").write_text('{"model_type": "nonesuch", "architectures": ["NonesuchForCausalLM"]}')
        load_model(Checkpoint.from_folder(folder), trust_remote_code=False, dtype="auto")


def test_the_tokenizer_beside_the_weights(folder):
    word_tokenizer(bos=True).save_pretrained(folder)
    assert load_tokenizer(folder, trust_remote_code=False)("one")["input_ids"] == [1, 5]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_is_one_message(error):
    with (
        pytest.raises(AtlasError, match=r"out of memory(.|\n)*what to do: lower batch_size"),
        out_of_memory_explained("x"),
    ):
        raise error


def test_other_runtime_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_explained("x"):
        raise RuntimeError("shape mismatch")
