"""Adapters of PEFT: which weight a factor is of, its rank and its scale, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.architecture_summary import configuration
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import matrices


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
