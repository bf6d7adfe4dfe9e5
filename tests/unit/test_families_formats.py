"""Names that are not transformers' own: GGUF files of llama.cpp, and LoRA adapters of PEFT."""

import json

import gguf
import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
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
    assert configuration(Architecture.of(checkpoint), table.reset_index())["parameters"] == table["parameters"].sum()


def factors(*modules: str, rank: int = 8, suffix: str = ".weight") -> dict[str, tuple[int, ...]]:
    return {
        f"base_model.model.model.layers.{module}.lora_{part}{suffix}": shape
        for module in modules
        for part, shape in (("A", (rank, 64)), ("B", (32, rank)))
    }


ATTENTION = [f"{layer}.self_attn.{part}" for layer in (0, 1, 2) for part in ("q_proj", "v_proj")]


# The scales are those of PEFT 0.21.2 (LoraLayer.scaling) for adapters made with these settings.
@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, {}),
        ({"alpha_pattern": {"q_proj": 32}}, {"q_proj": 4}),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 32, "q_proj": 48}}, {"1.self_attn.q_proj": 4, "q_proj": 6}),
        (
            {"alpha_pattern": {r"model.layers.(0|2).self_attn.v_proj": 5}},
            {"0.self_attn.v_proj": 0.625, "2.self_attn.v_proj": 0.625},
        ),
        ({"alpha_pattern": {r".*\.2\..*": 4}}, {"2.self_attn.q_proj": 0.5, "2.self_attn.v_proj": 0.5}),
        ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 4}}, {"0.self_attn.q_proj": 0.5}),
        ({"alpha_pattern": {"v": 99, "proj": 99, "q_pro": 99, "q_proj.lora_A": 99}}, {}),
        ({"use_rslora": True, "alpha_pattern": {"v_proj": 4}}, {"v_proj": 4 / 8**0.5, "q_proj": 16 / 8**0.5}),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".weight", ".default.weight"])
def test_the_scale_of_an_update_is_the_one_that_peft_computes(tmp_path, settings, scales, suffix):
    checkpoint = write_adapter(tmp_path, factors(*ATTENTION, suffix=suffix), **{"r": 8, "lora_alpha": 16, **settings})
    for row in inventory(checkpoint).itertuples():
        module = row.tensor.removeprefix("base_model.model.model.layers.").partition(".lora_")[0]
        expected = next((scale for end, scale in scales.items() if module.endswith(end)), 2)
        assert row.note == f"rank 8, scale {expected:g}", row.tensor


def test_ranks_of_single_modules(tmp_path):
    names = factors("0.self_attn.q_proj") | factors("0.self_attn.v_proj", rank=2)
    checkpoint = write_adapter(tmp_path, names, r=8, lora_alpha=16, rank_pattern={"v_proj": 2})
    notes = inventory(checkpoint).set_index("tensor").note
    assert {note for name, note in notes.items() if "v_proj" in name} == {"rank 2, scale 8"}
    assert {note for name, note in notes.items() if "q_proj" in name} == {"rank 8, scale 2"}
    other = write_adapter(tmp_path, names, r=8, lora_alpha=16, rank_pattern={"v_proj": 4})
    assert {note for note in inventory(other).note if "says" in note} == {"rank 2 (rank_pattern says 4), scale 8"}


@pytest.mark.parametrize("part", ["q_proj.lora_{}.weight", "q_proj.lora_{}.default.weight", "q_proj.lora_{}"])
def test_factors_of_one_update_that_differ_in_rank_are_refused(tmp_path, part):
    place = f"base_model.model.model.layers.0.self_attn.{part}"
    names = {place.format("A"): (8, 64), place.format("B"): (32, 4)}
    with pytest.raises(AtlasError, match=r"different ranks: A is \[8, 64\], B is \[32, 4\]") as caught:
        inventory(write_adapter(tmp_path, names))
    assert caught.value.where == f"{tmp_path}: {place.format('B')}"


@pytest.mark.parametrize(
    ("module", "wrong", "family", "of_role"),
    [
        ("model.layers.0.self_attn.qkv_proj", "minimax", "phi3", "W_Q+W_K+W_V"),
        ("backbone.layers.0.mixer.in_proj", "mamba2", "mamba", "ssm_in+ssm_gate"),
    ],
)
def test_names_that_families_read_differently_need_the_family(tmp_path, module, wrong, family, of_role):
    names = {f"base_model.model.{module}.lora_{part}.weight": (8, 8) for part in "AB"}
    checkpoint = write_adapter(tmp_path, names)
    with pytest.raises(AtlasError, match=f"families ({wrong} and {family}|{family} and {wrong})(.|\n)*set `family`"):
        inventory(checkpoint)
    assert set(inventory(checkpoint, family=family)["of_role"]) == {of_role}


def test_factors_of_stacked_experts(tmp_path):
    # As PEFT writes them for target_parameters of a mixture of 4 experts, whose rank is 2 and, for down_proj, 3.
    place = "base_model.model.model.layers.0.mlp"
    names = {
        f"{place}.experts.base_layer.lora_A.weight": (8, 32),
        f"{place}.experts.base_layer.lora_B.weight": (96, 8),
        f"{place}.experts.lora_A.weight": (12, 48),
        f"{place}.experts.lora_B.weight": (32, 12),
        f"{place}.gate.lora_A.weight": (2, 32),
        f"{place}.gate.lora_B.weight": (4, 2),
    }
    targets = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj", "mlp.gate.weight"]
    settings = {"r": 2, "lora_alpha": 16, "target_parameters": targets, "rank_pattern": {"experts.down_proj": 3}}
    table = inventory(write_adapter(tmp_path, names, **settings), family="mixtral").set_index("tensor")
    told = {name.removeprefix(f"{place}."): tuple(row) for name, row in table[["of_role", "note"]].iterrows()}
    stacked, down = "rank 2 for each of 4 experts, scale 8", "rank 3 for each of 4 experts, scale 5.33333"
    assert told == {
        "experts.base_layer.lora_A.weight": ("W_gate+W_up", stacked),
        "experts.base_layer.lora_B.weight": ("W_gate+W_up", stacked),
        "experts.lora_A.weight": ("W_down", down),
        "experts.lora_B.weight": ("W_down", down),
        "gate.lora_A.weight": ("W_router", "rank 2, scale 8"),
        "gate.lora_B.weight": ("W_router", "rank 2, scale 8"),
    }


KEPT, REPLACED = (
    f"the adapted model's own, {what}" for what in ("stored with the adapter", "which the adapter replaces")
)
HEAD, EMBEDDING = "base_model.model.lm_head", "base_model.model.model.embed_tokens"


@pytest.mark.parametrize(
    ("name", "shape", "settings", "role", "of_role", "note"),
    [
        (f"{HEAD}.weight", (20, 64), {}, "W_U", "", ""),
        (f"{HEAD}.modules_to_save.weight", (20, 64), {}, "W_U", "", "trained whole, beside the factors"),
        (f"{HEAD}.modules_to_save.default.weight", (20, 64), {}, "W_U", "", "trained whole, beside the factors"),
        (f"{HEAD}.original_module.weight", (20, 64), {}, "other", "", REPLACED),
        (f"{HEAD}.base_layer.weight", (20, 64), {}, "W_U", "", KEPT),
        (f"{EMBEDDING}.base_layer.weight", (20, 64), {}, "W_E", "", KEPT),
        (f"{EMBEDDING}.token_adapter.base_layer.weight", (20, 64), {}, "W_E", "", KEPT),
        (
            f"{EMBEDDING}.token_adapter.trainable_tokens_delta", (3, 64), {"trainable_token_indices": [7, 8, 9]},
            "other", "W_E", "rows of W_E for 3 token ids: 7, 8, 9",
        ),
        (
            f"{EMBEDDING}.token_adapter.trainable_tokens_delta.default", (2, 64),
            {"trainable_token_indices": {"embed_tokens": [7, 8]}}, "other", "W_E", "rows of W_E for 2 token ids: 7, 8",
        ),
        (f"{EMBEDDING}.trainable_tokens_delta", (2, 64), {}, "other", "W_E", "rows of W_E for 2 token ids"),
        (f"{EMBEDDING}.lora_embedding_A.default", (8, 20), {}, "lora_A", "W_E", "rank 8, scale 2"),
        (f"{EMBEDDING}.lora_embedding_B", (64, 8), {}, "lora_B", "W_E", "rank 8, scale 2"),
        ("LAYER.q_proj.lora_B.bias", (64,), {}, "bias", "W_Q", "bias of the update, scale 2"),
        ("LAYER.q_proj.lora_B.default.bias", (64,), {}, "bias", "W_Q", "bias of the update, scale 2"),
        ("LAYER.q_proj.base_layer.bias", (64,), {}, "bias", "W_Q", KEPT),
        ("LAYER.q_proj.lora_magnitude_vector.default.weight", (64,), {}, "lora_magnitude", "W_Q", ""),
        ("LAYER.k_proj.ia3_l", (32, 1), {"peft_type": "IA3"}, "aux", "W_K", "IA3: multiplies the outputs"),
        ("LAYER.k_proj.ia3_l.default", (1, 64), {"peft_type": "IA3"}, "aux", "W_K", "IA3: multiplies the inputs"),
        ("LAYER.q_proj.lora_E", (8, 1), {"peft_type": "ADALORA"}, "aux", "W_Q", "singular values of the update"),
        ("LAYER.q_proj.lora_A.second.weight", (8, 64), {}, "lora_A", "W_Q", "rank 8, scale 2, adapter second"),
        (
            "LAYER.q_proj.lora_A", (8, 64), {"use_dora": True, "rank_pattern": {"q_proj": [True] * 8 + [False]}},
            "lora_A", "W_Q", "rank 8, scale 2, of a direction: the magnitude is apart (DoRA)",
        ),
    ],
)  # fmt: skip
def test_what_stands_beside_the_factors(tmp_path, name, shape, settings, role, of_role, note):
    name = name.replace("LAYER", "base_model.model.model.layers.1.self_attn")
    names = factors("0.self_attn.v_proj") | {name: shape}
    checkpoint = write_adapter(tmp_path, names, **{"r": 8, "lora_alpha": 16, **settings})
    for family in ("qwen2", None):
        (found,) = inventory(checkpoint, family=family).query("tensor == @name").itertuples()
        assert (found.role, found.of_role, found.note) == (role, of_role, note)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": "16"}, "lora_alpha must be a number, not 16"),
        ({"lora_alpha": True}, "lora_alpha must be a number"),
        ({"alpha_pattern": {"(": 4}}, r"alpha_pattern: \( is not a regular expression"),
        ({"alpha_pattern": {"q_proj": None, "v_proj": "x"}}, "alpha_pattern of v_proj must be a number"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern must be an object"),
        ({"rank_pattern": {"q_proj": {}}}, "rank_pattern of q_proj must be a number"),
        ({"r": [8]}, "r must be a number"),
        ({"target_parameters": 5}, "target_parameters must be a list of names, not 5"),
        ({"target_parameters": [["a.b"]]}, "target_parameters must be a list of names"),
    ],
    ids=str,
)
def test_an_adapter_configuration_that_cannot_be_true(tmp_path, settings, message):
    checkpoint = write_adapter(tmp_path, factors("0.self_attn.q_proj"), **settings)
    with pytest.raises(AtlasError, match=message) as caught:
        inventory(checkpoint)
    assert caught.value.where == f"{tmp_path}: adapter_config.json" and caught.value.remedy


def test_an_adapter_of_a_type_that_is_not_read_is_named(tmp_path):
    checkpoint = write_adapter(tmp_path, {"prompt_embeddings": (8, 64)}, peft_type="PROMPT_TUNING")
    with pytest.raises(AtlasError, match=r"it is of type PROMPT_TUNING(.|\n)*allow_other"):
        inventory(checkpoint)
    assert inventory(checkpoint, family="llama", allow_other=True)["role"].tolist() == ["other"]


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
