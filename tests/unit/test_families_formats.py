"""Names that are not transformers' own: GGUF files of llama.cpp, and LoRA adapters of PEFT."""

import json

import gguf
import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families import inventory, load_piece, matrices
from weight_atlas.families.architecture import architecture

HEADS, KV_HEADS, WIDTH, D_MODEL, D_FF, EXPERTS = 4, 2, 8, 32, 48, 3


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """What llama.cpp's converter makes of queries and keys of a Llama: halves of a head interleaved."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def weights(layers: int = 2) -> dict[tuple[str, int | None], torch.Tensor]:
    """Weights of a small model by role and layer."""
    found = {("W_E", None): torch.randn(20, D_MODEL)}
    for layer in range(layers):
        found |= {
            ("W_Q", layer): torch.randn(HEADS * WIDTH, D_MODEL),
            ("W_K", layer): torch.randn(KV_HEADS * WIDTH, D_MODEL),
            ("W_V", layer): torch.randn(KV_HEADS * WIDTH, D_MODEL),
            ("W_O", layer): torch.randn(D_MODEL, HEADS * WIDTH),
            ("W_gate", layer): torch.randn(D_FF, D_MODEL),
            ("W_up", layer): torch.randn(D_FF, D_MODEL),
            ("W_down", layer): torch.randn(D_MODEL, D_FF),
        }
    return found


def write_gguf(folder, architecture: str, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    writer.add_block_count(2)
    writer.add_embedding_length(D_MODEL)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_feed_forward_length(D_FF)
    writer.add_expert_count(EXPERTS)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Checkpoint.from_folder(folder)


NAMES = {
    "W_Q": "attn_q", "W_K": "attn_k", "W_V": "attn_v", "W_O": "attn_output",
    "W_gate": "ffn_gate", "W_up": "ffn_up", "W_down": "ffn_down",
}  # fmt: skip


@pytest.mark.parametrize(("architecture_name", "paired"), [("llama", True), ("qwen2", False)])
def test_gguf_gives_each_head_its_rows_in_the_usual_order(tmp_path, architecture_name, paired):
    original = weights()
    tensors = {"token_embd.weight": original["W_E", None], "rope_freqs.weight": torch.ones(4)}
    for (role, layer), weight in original.items():
        if role in NAMES:
            heads = {"W_Q": HEADS, "W_K": KV_HEADS}.get(role)
            stored = permuted(weight, heads) if heads and paired else weight
            tensors[f"blk.{layer}.{NAMES[role]}.weight"] = stored
    checkpoint = write_gguf(tmp_path, architecture_name, tensors)
    table = inventory(checkpoint)
    found = {(row.role, None if row.role == "W_E" else row.layer): row for row in matrices(table).itertuples()}
    assert found.keys() == original.keys()
    for key, row in found.items():
        assert torch.equal(load_piece(checkpoint, row), original[key]), key
    assert (found["W_K", 1].n_heads, found["W_K", 1].head_dim) == (KV_HEADS, WIDTH)
    (unembedding,) = table.query("role == 'W_U'").itertuples()
    assert unembedding.tied_to == "token_embd.weight"
    assert table.query("role == 'other'")["tensor"].tolist() == ["rope_freqs.weight"]
    summary = architecture(checkpoint.config, table)
    assert (summary["n_layers"], summary["d_ff"], summary["tied"]) == (2, D_FF, True)


def test_gguf_fused_and_stacked_tensors(tmp_path):
    query, key, value = (torch.randn(heads * WIDTH, D_MODEL) for heads in (HEADS, KV_HEADS, KV_HEADS))
    gate, down = torch.randn(EXPERTS, D_FF, D_MODEL), torch.randn(EXPERTS, D_MODEL, D_FF)
    checkpoint = write_gguf(
        tmp_path,
        "dbrx",
        {
            "blk.0.attn_qkv.weight": torch.cat([query, key, value]),
            "blk.0.ffn_gate_exps.weight": gate,
            "blk.1.ffn_down_exps.weight": down,
            "blk.1.exp_probs_b.bias": torch.randn(EXPERTS),
            "v.blk.0.attn_q.weight": torch.randn(4, 4),
        },
    )
    table = inventory(checkpoint)
    found = {(row.role, row.layer, row.expert if row.expert is not None else None): row for row in table.itertuples()}
    by_role = {row.role: row for row in table.itertuples()}
    for role, wanted in (("W_Q", query), ("W_K", key), ("W_V", value)):
        assert torch.equal(load_piece(checkpoint, by_role[role]), wanted)
    assert torch.equal(load_piece(checkpoint, found["W_gate", 0, 2]), gate[2])
    assert torch.equal(load_piece(checkpoint, found["W_down", 1, 1]), down[1])
    assert by_role["bias"].of_role == "W_router" and by_role["other"].note == "part of the vision encoder"


def write_adapter(folder, names: dict[str, tuple[int, ...]], **config) -> Checkpoint:
    save_file({name: torch.randn(shape) for name, shape in names.items()}, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "base_model_name_or_path": "somewhere"} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return Checkpoint.from_folder(folder)


def test_adapter_factors_know_their_weight_rank_and_scale(tmp_path):
    place = "base_model.model.model.layers.1"
    checkpoint = write_adapter(
        tmp_path,
        {
            f"{place}.self_attn.q_proj.lora_A.weight": (2, 8),
            f"{place}.self_attn.q_proj.lora_B.weight": (16, 2),
            f"{place}.self_attn.q_proj.lora_magnitude_vector": (16,),
            f"{place}.mlp.down_proj.lora_A.default.weight": (4, 12),
            "base_model.model.model.embed_tokens.lora_embedding_A": (2, 10),
            "base_model.model.lm_head.weight": (10, 8),
        },
    )
    table = inventory(checkpoint).set_index("tensor")
    factor = table.loc[f"{place}.self_attn.q_proj.lora_B.weight"]
    assert tuple(factor[["role", "of_role", "layer", "rows", "cols"]]) == ("lora_B", "W_Q", 1, 16, 2)
    assert factor["note"] == "rank 2, scale 4"
    assert (
        table["note"].iloc[:2].tolist()
        and table.loc[f"{place}.mlp.down_proj.lora_A.default.weight", "of_role"] == "W_down"
    )
    assert table.loc[f"{place}.mlp.down_proj.lora_A.default.weight", "note"] == "rank 4, scale 2"
    assert table.loc[f"{place}.self_attn.q_proj.lora_magnitude_vector", "role"] == "lora_magnitude"
    assert table.loc["base_model.model.model.embed_tokens.lora_embedding_A", "of_role"] == "W_E"
    assert table.loc["base_model.model.lm_head.weight", "role"] == "W_U"
    assert set(matrices(table.reset_index())["role"]) == {"lora_A", "lora_B", "W_U"}
    assert architecture(checkpoint.config, table.reset_index())["parameters"] == table["parameters"].sum()


def test_adapter_of_a_fused_weight(tmp_path):
    checkpoint = write_adapter(tmp_path, {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": (2, 8)})
    (row,) = inventory(checkpoint, family="gpt2").itertuples()
    assert row.of_role == "W_Q+W_K+W_V"
    assert inventory(checkpoint)["of_role"].tolist() == ["W_Q+W_K+W_V"]


def test_adapter_of_a_model_that_no_family_knows(tmp_path):
    checkpoint = write_adapter(tmp_path, {"base_model.model.model.layers.0.nothing.lora_A.weight": (2, 8)})
    with pytest.raises(AtlasError, match=r"no family knows(.|\n)*set `family`"):
        inventory(checkpoint)
    with pytest.raises(AtlasError, match=r"no row of family llama(.|\n)*nothing.lora_A"):
        inventory(checkpoint, family="llama")
