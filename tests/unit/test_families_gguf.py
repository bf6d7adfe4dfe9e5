"""Names of GGUF files, as llama.cpp writes them."""

import gguf
import pytest
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.architecture_summary import configuration
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.vocabulary.readout import post_gains, read_readout

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


def write_gguf(folder, architecture: str, tensors: dict[str, torch.Tensor], **metadata) -> Checkpoint:
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    writer.add_block_count(2)
    writer.add_embedding_length(D_MODEL)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_feed_forward_length(D_FF)
    writer.add_expert_count(EXPERTS)
    for method, value in metadata.items():
        getattr(writer, method)(value)
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
    summary = configuration(Architecture.of(checkpoint), table)
    assert (summary["n_layers"], summary["d_ff"], summary["tied"]) == (2, D_FF, True)


@pytest.mark.parametrize(
    ("architecture_name", "epsilon", "kind"),
    [("llama", "add_layer_norm_rms_eps", "RMSNorm"), ("gpt2", "add_layer_norm_eps", "LayerNorm")],
)
def test_gguf_readout_folds_the_final_norm(tmp_path, architecture_name, epsilon, kind):
    gain, head, bias = torch.randn(D_MODEL), torch.randn(20, D_MODEL), torch.randn(D_MODEL)
    tensors = {"token_embd.weight": torch.randn(20, D_MODEL), "output.weight": head, "output_norm.weight": gain}
    tensors |= {"blk.0.post_ffw_norm.weight": torch.randn(D_MODEL), "blk.1.post_ffw_norm.weight": gain}
    tensors |= {"output_norm.bias": bias} if kind == "LayerNorm" else {}
    checkpoint = write_gguf(tmp_path, architecture_name, tensors, **{epsilon: 1e-6})
    table = inventory(checkpoint)
    assert set(table.query("role == 'norm'")["norm"]) == {kind}
    h = torch.randn(3, D_MODEL)
    norm = {
        "RMSNorm": lambda: h / h.square().mean(-1, keepdim=True).sqrt() * gain,
        "LayerNorm": lambda: torch.nn.functional.layer_norm(h, (D_MODEL,), gain, bias),
    }[kind]
    assert torch.allclose(read_readout(checkpoint, table).logits(h), norm() @ head.T, rtol=1e-4, atol=1e-4)
    assert torch.equal(post_gains(checkpoint, table)[1], gain)


def test_gguf_scales_are_factors_or_divisors_by_model(tmp_path):
    norms = ["output_norm.weight", "blk.0.ffn_norm.weight", "blk.1.ffn_norm.weight"]
    tensors = {"token_embd.weight": torch.ones(20, D_MODEL), **{name: torch.ones(D_MODEL) for name in norms}}
    for name, wanted in (("granite", 0.125), ("command-r", 8.0)):
        folder = tmp_path / name
        folder.mkdir()
        checkpoint = write_gguf(folder, name, tensors, add_logit_scale=8.0, add_layer_norm_rms_eps=1e-6)
        readout = read_readout(checkpoint, inventory(checkpoint))
        assert torch.equal(readout.unembedding, torch.full((20, D_MODEL), wanted))


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
