"""The model that is run is the one that its manifest names, whatever else lies in its folder."""

import json

import pytest
import torch
from live_models import tiny
from safetensors.torch import save_file

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.live.load import load_model
from weight_atlas.settings.models import CheckpointSpec

META = {"format": "pt"}


def parts(tensors, first, second):
    """Two files that hold half of the tensors each."""
    names = list(tensors)
    return {
        first: {name: tensors[name] for name in names[::2]},
        second: {name: tensors[name] for name in names[1::2]},
    }


# Where the asked for weights lie, and which files with other weights lie beside them: (files, others, source).
PLACES = {
    "a file of a folder": (lambda t: {"epoch-2.safetensors": t}, ["model.safetensors"], "epoch-2.safetensors"),
    "a file of training": (lambda t: {"epoch-2.pt": t}, ["model.safetensors"], "epoch-2.pt"),
    "half precision in its name": (lambda t: {"model.fp16.safetensors": t}, ["pytorch_model.bin"], ""),
    "a name of its own": (lambda t: {"weights.safetensors": t}, ["pytorch_model.bin"], ""),
    "parts without an index": (
        lambda t: parts(t, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ["pytorch_model.bin", "consolidated.safetensors"],
        "",
    ),
    "parts in half precision": (
        lambda t: parts(t, "model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"),
        ["pytorch_model.bin"],
        "",
    ),
    "two files": (lambda t: parts(t, "first.safetensors", "second.safetensors"), ["pytorch_model.bin"], ""),
    "the makers' own file": (lambda t: {"consolidated.safetensors": t}, ["pytorch_model.bin"], ""),
    "one part named": (
        lambda t: parts(t, "x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors"),
        ["model.safetensors"],
        "x-00002-of-00002.safetensors",
    ),
    "a file that config.json does not name": (lambda t: {"model.safetensors": t}, ["named.safetensors"], ""),
    "the old format": (lambda t: {"pytorch_model.bin": t}, ["tf_model.h5"], ""),
}


@pytest.fixture(scope="module")
def models():
    return tiny("llama", seed=0), tiny("llama", seed=1)


def written(path, tensors):
    if path.suffix == ".safetensors":
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata=META)
    else:
        torch.save({"model_state_dict": tensors, "epoch": 2} if path.suffix == ".pt" else tensors, path)


def loaded(source, **given):
    """What is run for a source."""
    manifest = source.parent / "manifest.json"
    write_json(manifest, make_manifest(CheckpointSpec(source=str(source), **given)))
    return load_model(open_checkpoint(manifest), trust_remote_code=False, dtype="auto")


@pytest.mark.parametrize("place", PLACES)
def test_forward_passes_run_the_files_of_the_manifest(tmp_path, capsys, models, place):
    asked, other = models
    files, others, source = PLACES[place]
    folder = tmp_path / "model"
    asked.config.save_pretrained(folder)
    for name, tensors in files(asked.state_dict()).items():
        written(folder / name, tensors)
    for name in others:
        written(folder / name, other.state_dict())
    if "config.json" in place:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "named.safetensors"}))
    live = loaded(folder / source)
    assert all(torch.equal(tensor, asked.state_dict()[name]) for name, tensor in live.state_dict().items())
    ids = torch.arange(5, 15)[None]
    assert torch.equal(live(ids).logits, asked(ids).logits)
    assert "39 of 39 stored tensors are in the model, 39 compared by value" in capsys.readouterr().out


@pytest.mark.parametrize("before", ["_orig_mod.", "module.", "model.", "net."])
def test_a_wrapped_model_runs_as_the_model_itself(tmp_path, models, before):
    folder = tmp_path / "model"
    models[0].config.save_pretrained(folder)
    written(folder / "model.safetensors", {before + name: t for name, t in models[0].state_dict().items()})
    ids = torch.arange(5, 15)[None]
    assert torch.equal(loaded(folder)(ids).logits, models[0](ids).logits)


@pytest.mark.parametrize(
    "layout", ["qwen3_moe", "mixtral", "gpt_oss", "phi3", "gpt2", "dbrx", "deepseek_v2", "granitemoe"]
)
def test_every_stored_tensor_is_found_in_the_live_model_and_a_changed_one_is_not(tmp_path, layout):
    from weight_atlas.live.stored_tensors import compare, stored_tensors

    tiny(layout).save_pretrained(tmp_path)
    checkpoint = Checkpoint.from_folder(tmp_path)
    live = load_model(checkpoint, trust_remote_code=False, dtype="auto")
    stored = stored_tensors(checkpoint)
    for tensor in stored.values():
        tensor[...]
    found = compare(live, stored)
    assert (sorted(found.compared), found.named, found.absent, found.differing) == (sorted(stored), [], {}, [])
    name, parameter = max(live.named_parameters(), key=lambda item: item[1].ndim * 10**9 + item[1].numel())
    parameter.view(-1)[-1] += 1
    assert compare(live, stored).differing, name


def test_a_padding_row_is_what_is_stored(tmp_path):
    import transformers

    small = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 20, "q_lora_rank": 24}
    inner = {"qk_head_dim": 20, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "pad_token_id": 7}
    model = transformers.YoutuForCausalLM(transformers.YoutuConfig(**small, **heads, **inner))
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = 3.0
    model.save_pretrained(tmp_path)
    live = load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")
    assert torch.equal(live.get_input_embeddings().weight, model.model.embed_tokens.weight)


@pytest.mark.skipif(torch.cuda.is_available(), reason="unpacked by transformers only where there is no GPU")
def test_a_quantized_checkpoint_runs_as_transformers_unpacks_it(tmp_path, capsys, models):
    import transformers

    packed = {}
    for name, tensor in models[0].state_dict().items():
        if "proj" in name:
            packed[name] = (tensor * 100).to(torch.float8_e4m3fn)
            packed[f"{name}_scale_inv"] = torch.full([-(-size // 32) for size in tensor.shape], 0.01)
        else:
            packed[name] = tensor
    models[0].config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "weight_block_size": [32, 32],
        "activation_scheme": "dynamic",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    written(tmp_path / "model.safetensors", packed)
    live = load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")
    assert "67 of 67 stored tensors are in the model, 11 compared by value" in capsys.readouterr().out
    given = {"dtype": torch.float32, "device_map": {"": "cpu"}}
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **given)
    ids = torch.arange(5, 15)[None]
    assert torch.equal(live(ids).logits, plain(ids).logits)


def test_tensors_without_a_place_in_the_model_are_refused(tmp_path, models):
    tensors = models[0].state_dict()
    models[0].config.save_pretrained(tmp_path)
    bias = {f"model.layers.{layer}.self_attn.q_proj.bias": torch.ones(64) for layer in range(4)}
    written(tmp_path / "model.safetensors", tensors | bias)
    with pytest.raises(AtlasError, match=r"no place for 4 stored tensors: model\.layers\.0\.self_attn\.q_proj\.bias"):
        load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")


def test_what_is_no_part_of_the_forward_pass_may_be_stored(tmp_path, capsys, models):
    models[0].config.save_pretrained(tmp_path)
    more = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(4)}
    written(tmp_path / "model.safetensors", models[0].state_dict() | more | {"mtp.norm.weight": torch.ones(64)})
    load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")
    assert "39 of 44 stored tensors are in the model, 39 compared by value; 5 are no part" in capsys.readouterr().out


def test_what_no_family_knows_may_be_stored_where_the_configuration_allows_it(tmp_path, models):
    models[0].config.save_pretrained(tmp_path)
    written(tmp_path / "model.safetensors", models[0].state_dict() | {"v_head.summary.weight": torch.ones(1, 64)})
    with pytest.raises(AtlasError, match=r"no place for 1 stored tensors: v_head\.summary\.weight"):
        load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")
    load_model(Checkpoint.from_folder(tmp_path, allow_other=True), trust_remote_code=False, dtype="auto")


def test_another_shape_than_by_config_is_one_clear_message(tmp_path, models):
    models[0].save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 299}))
    with pytest.raises(AtlasError, match=r"lm_head\.weight is 300x64 in the checkpoint, and 299x64 by config\.json"):
        load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")


def test_gguf_is_not_run_on_the_weights_beside_it(tmp_path, models):
    from gguf import GGUFWriter

    models[0].save_pretrained(tmp_path)
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", models[1].model.embed_tokens.weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(AtlasError, match="GGUF weights are analysed, not run"):
        load_model(Checkpoint.from_folder(tmp_path, "model.gguf"), trust_remote_code=False, dtype="auto")


def test_generation_settings_are_those_beside_the_weights(tmp_path, models):
    models[0].save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9], "max_new_tokens": 11}))
    live = load_model(Checkpoint.from_folder(tmp_path), trust_remote_code=False, dtype="auto")
    assert (live.generation_config.eos_token_id, live.generation_config.max_new_tokens) == ([2, 9], 11)
