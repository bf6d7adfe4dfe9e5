"""One model in several formats: containers, layouts and packed types make no difference, or that of their rounding."""

import json

import gguf
import pytest
import torch
from compared_models import HEADS, LAYERS, TOKENS, lora, name, side, tables, weights, write
from safetensors.torch import save_file
from test_families_gguf import permuted

from weight_atlas.errors import AtlasError

GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(folder, tensors, kind):
    """A llama.cpp file of the small Llama; matrices of layers are quantized by the given type."""
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_vocab_size(TOKENS)
    outer = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}
    for key, value in tensors.items():
        stem = key.removesuffix(".weight")
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        called = f"{outer[stem]}.weight" if stem in outer else f"blk.{layer}.{GGUF_NAMES[part]}.weight"
        stored = permuted(value, HEADS) if "q_proj" in key or "k_proj" in key else value
        array = stored.float().numpy()
        if kind is not None and "_proj" in key:
            packed = gguf.quants.quantize(array, kind)
            writer.add_tensor(called, packed, raw_shape=packed.shape, raw_dtype=kind)
        else:
            writer.add_tensor(called, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return side(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write(tmp_path_factory.mktemp("base") / "model", weights())


def test_a_gguf_file_holds_the_same_values_under_other_names(base, tmp_path):
    made = tables(base, write_gguf(tmp_path / "gguf", weights(), None))
    assert made.summary["relation"] == "same values" and len(made.table) == 21
    texts = [finding["text"] for finding in made.summary["findings"]]
    assert texts[0] == "other holds the values of base in other types: all 21 tensors are equal."
    assert "The names differ, as of another format: lm_head.weight is output.weight." in texts
    assert made.table["renamed"].all()


def test_a_quantized_gguf_file_differs_by_its_rounding(base, tmp_path):
    made = tables(base, write_gguf(tmp_path / "gguf", weights(), gguf.GGMLQuantizationType.Q8_0))
    assert made.summary["relation"] == "rounded"
    row = made.table.set_index("id_a").loc[name(1, "mlp.up_proj.weight")]
    array = weights()[name(1, "mlp.up_proj.weight")].float().numpy()
    kind = gguf.GGMLQuantizationType.Q8_0
    wanted = gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind) - array
    assert row["norm_d"] == pytest.approx(float((wanted.astype("float64") ** 2).sum() ** 0.5), rel=1e-4)
    assert row["signs"] == 0 and row["n90"] > 0.6 * row["n90_null"]


def test_stacked_and_separate_experts_are_the_same(tmp_path):
    random = torch.Generator().manual_seed(3)
    config = {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 3,
        "num_experts_per_tok": 2, "num_key_value_heads": HEADS,
    }  # fmt: skip
    plain = {key: value for key, value in weights().items() if "mlp" not in key}
    separate, stacked = dict(plain), dict(plain)
    for layer in range(LAYERS):
        router = torch.randn(3, 64, generator=random).bfloat16()
        separate[name(layer, "block_sparse_moe.gate.weight")] = stacked[name(layer, "mlp.gate.weight")] = router
        gate, up = (torch.randn(3, 96, 64, generator=random).bfloat16() for _ in range(2))
        down = torch.randn(3, 64, 96, generator=random).bfloat16()
        for expert in range(3):
            for part, matrix in (("w1", gate), ("w3", up), ("w2", down)):
                separate[name(layer, f"block_sparse_moe.experts.{expert}.{part}.weight")] = matrix[expert].clone()
        stacked[name(layer, "mlp.experts.gate_up_proj")] = torch.cat([gate, up], dim=1)
        stacked[name(layer, "mlp.experts.down_proj")] = down.clone()
    stacked[name(1, "mlp.experts.down_proj")][2, 5, 7] += 1
    made = tables(write(tmp_path / "a", separate, **config), write(tmp_path / "b", stacked, **config))
    assert made.alone.empty
    (row,) = made.changes.to_dict("records")
    assert (row["role"], row["layer"], row["expert"]) == ("W_down", 1, 2)
    assert (row["place_row"], row["place_col"], row["changed"]) == (5, 7, 1)


def test_a_model_trained_on_in_float32_and_saved_so_is_no_rounded_copy(base, tmp_path):
    random = torch.Generator().manual_seed(6)
    tensors = {
        key: value.float() + (0.003 * torch.randn(value.shape, generator=random) if value.ndim > 1 else 0)
        for key, value in weights().items()
    }
    assert tables(base, write(tmp_path / "other", tensors)).summary["relation"] == "derived"


@pytest.mark.parametrize("kind", ["LORA", "ADALORA"])
def test_an_adapter_to_fused_attention_changes_its_pieces(tmp_path, kind):
    """GPT-2's c_attn holds queries, keys and values one after another, stored (in, out).

    The update of AdaLoRA is B diag(E) A: singular values stand between its factors.
    """
    random = torch.Generator().manual_seed(7)
    shapes = {
        "wte": (30, 16), "wpe": (12, 16), "h.0.attn.c_attn": (16, 48), "h.0.attn.c_proj": (16, 16),
        "h.0.mlp.c_fc": (16, 64), "h.0.mlp.c_proj": (64, 16),
    }  # fmt: skip
    tensors = {f"{key}.weight": torch.randn(shape, generator=random) for key, shape in shapes.items()}
    tensors |= {f"{key}.bias": torch.zeros(shape[1]) for key, shape in shapes.items() if "c_" in key}
    tensors |= {
        f"{key}.{part}": torch.ones(16) for key in ("h.0.ln_1", "h.0.ln_2", "ln_f") for part in ("weight", "bias")
    }
    up, down = torch.randn(48, 2, generator=random), torch.randn(2, 16, generator=random)
    place = "base_model.model.transformer.h.0.attn.c_attn"
    values = torch.tensor([[0.5], [-2.0]])
    if kind == "LORA":
        factors = {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up}
    else:
        factors = {f"{place}.lora_A": down, f"{place}.lora_B": up, f"{place}.lora_E": values}
    folders = {"model": tensors, "adapter": factors}
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_layer": 1}
    configs = {
        "model": ("config.json", {**config, "vocab_size": 30, "n_positions": 12}),
        "adapter": ("adapter_config.json", {"peft_type": kind, "r": 2, "lora_alpha": 6, "fan_in_fan_out": True}),
    }
    sides = []
    for called, content in folders.items():
        (tmp_path / called).mkdir()
        file = "model.safetensors" if called == "model" else "adapter_model.safetensors"
        save_file({key: value.contiguous() for key, value in content.items()}, tmp_path / called / file)
        (tmp_path / called / configs[called][0]).write_text(json.dumps(configs[called][1]))
        sides.append(side(tmp_path / called))
    made = tables(*sides)
    assert made.table["role"].tolist() == ["W_Q", "W_K", "W_V"]
    whole = 3 * up.double() @ (down if kind == "LORA" else values * down).double()
    for number, row in enumerate(made.table.itertuples()):
        assert row.norm_d == pytest.approx(float(whole[16 * number : 16 * number + 16].norm()), rel=1e-5)


def test_factors_of_several_experts_in_one_update_are_refused(base, tmp_path):
    """PEFT lays those of stacked experts side by side, and their product would be a sum over all experts."""
    adapter, _ = lora(tmp_path)
    file = adapter.checkpoint.folder / "adapter_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "r": 2, "target_parameters": ["mlp.experts.down_proj"]})
    )
    with pytest.raises(AtlasError, match="factors of 2 experts lie side by side"):
        tables(base, side(adapter.checkpoint.folder))
