"""Shapes held to config.json: what is refused and what the message says, what is stated, and what is inferred."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.architecture_summary import configuration
from weight_atlas.families.inventory import inventory

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 4, "vocab_size": 10,
    "tie_word_embeddings": False,
}  # fmt: skip
LAYER = {
    "self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8),
    "mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12), "input_layernorm": (8,),
    "post_attention_layernorm": (8,),
}  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": (10, 8),
    **{f"model.layers.{layer}.{name}.weight": shape for layer in range(4) for name, shape in LAYER.items()},
    "model.norm.weight": (8,),
    "lm_head.weight": (10, 8),
}
DOWN = "model.layers.1.mlp.down_proj.weight"


def headers(config: dict, shapes: dict, family: str | None = None) -> SimpleNamespace:
    """A checkpoint of which nothing but headers can be read."""
    entries = {
        name: SimpleNamespace(
            name=name,
            dtype="BF16",
            shape=tuple(shape),
            shard="x",
            bytes=2 * math.prod(shape),
            offset=-1,
            note="",
            remark="",
        )
        for name, shape in shapes.items()
    }
    return SimpleNamespace(folder=Path("model"), config=config, entries=entries, family=family)


def refused(config: dict, shapes: dict) -> str:
    with pytest.raises(AtlasError) as error:
        inventory(headers(config, shapes))
    return str(error.value)


def without(*parts: str) -> dict:
    return {name: shape for name, shape in SHAPES.items() if not any(part in name for part in parts)}


def test_a_transposed_matrix_is_named_with_what_it_must_be():
    said = refused(CONFIG, {**SHAPES, DOWN: (12, 8)})
    assert f"tensor {DOWN} reads as W_down of 12x8 (stored as 12x8): it must have 8 rows" in said
    assert "d_model = 8 (hidden_size in config.json)" in said and "it is stored transposed" in said
    assert "take both again" in said and "more tensors" not in said


def test_a_size_that_config_json_does_not_give_is_as_most_tensors_have_it():
    config = {key: CONFIG[key] for key in ("architectures", "num_attention_heads", "tie_word_embeddings")}
    table = inventory(headers(config | {"num_key_value_heads": 1}, SHAPES))
    assert len(table) == len(SHAPES) and (table["note"] == "").all()
    said = refused(config | {"num_key_value_heads": 1}, {**SHAPES, DOWN: (8, 11)})
    assert DOWN in said and "must have 12 columns, d_ff: d_ff = 12 (as other tensors have it)" in said


def test_heads_wider_than_a_share_of_d_model_need_no_head_dim_in_config_json():
    wide = {"q_proj": (12, 8), "k_proj": (6, 8), "v_proj": (6, 8), "o_proj": (8, 12)}
    shapes = {name: wide.get(name.split(".")[-2], shape) for name, shape in SHAPES.items()}
    table = inventory(headers(CONFIG, shapes))
    assert set(table[table["role"].isin(["W_Q", "W_K", "W_V", "W_O"])]["head_dim"]) == {6}
    said = refused({**CONFIG, "head_dim": 4}, shapes)
    assert "head_width = 4 (head_dim in config.json)" in said


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hidden_size", 16, ["must have 16 columns", "hidden_size in config.json", "correct config.json", "have 8"]),
        ("intermediate_size", 16, ["W_gate of 12x8", "must have 16 rows", "intermediate_size", "have 12"]),
        ("num_attention_heads", 4, ["W_K of 4x8", "must have 2 rows", "num_key_value_heads in config.json"]),
        ("num_key_value_heads", 2, ["W_K of 4x8", "must have 8 rows", "n_kv_heads = 2"]),
        ("head_dim", 2, ["must have 4 rows", "head_width = 2 (head_dim in config.json)"]),
        ("vocab_size", 11, ["must have 11 rows", "vocab_size in config.json"]),
        ("vocab_size", 10**12, ["must have 1000000000000 rows"]),
        ("num_hidden_layers", 2, ["layers 2, 3 of the decoder are stored", "is 2", "correct it to 4"]),
        ("num_hidden_layers", 8, ["4 layers of the decoder are missing", "the first of them layer 4", "is 8"]),
        ("num_hidden_layers", 10**7, ["9999996 layers of the decoder are missing"]),
    ],
)
def test_config_json_at_odds_with_the_tensors_is_refused_with_its_key(key, value, words):
    said = refused({**CONFIG, key: value}, SHAPES)
    assert all(word in said for word in words), said


IMPOSSIBLE = ["128", -4, 4.5, True, math.nan, math.inf, 1e30, 10**5000, [4], {"a": 1}, 0]


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size"])
def test_impossible_values_of_config_json_are_named(key):
    for value in IMPOSSIBLE:
        assert f"config.json: {key} is " in refused({**CONFIG, key: value}, SHAPES)
    assert f"{key} is '128', which cannot be " in refused({**CONFIG, key: "128"}, SHAPES)


@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads", "intermediate_size", "head_dim"])
def test_impossible_values_of_what_may_differ_by_layer_are_named(key):
    for value in [*IMPOSSIBLE[:-3], [2], [2, 2, 2, "2"], {"a": 1}]:
        assert f"config.json: {key} is " in refused({**CONFIG, key: value}, SHAPES), value
    good = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12, "head_dim": 4}[key]
    assert len(inventory(headers({**CONFIG, key: [good] * 4}, SHAPES))) == len(SHAPES)


@pytest.mark.parametrize(
    ("key", "value"), [("architectures", 5), ("architectures", [["x"]]), ("model_type", ["llama"]), ("model_type", 3)]
)
def test_names_of_a_model_that_are_no_names_are_refused(key, value):
    assert f"{key} is {value}, which is no name" in refused({**CONFIG, key: value}, SHAPES)
    with pytest.raises(AtlasError, match="which is no name"):
        inventory(headers({**CONFIG, "text_config": {key: value}}, SHAPES), family="llama")


def test_a_layer_lost_with_its_shard_is_refused():
    assert "1 layers of the decoder are missing from the file, the first of them layer 2" in refused(
        CONFIG, without("layers.2.")
    )
    config = {key: value for key, value in CONFIG.items() if key != "num_hidden_layers"}
    assert "the first of them layer 2: it holds layer 3" in refused(config, without("layers.2."))
    assert len(inventory(headers(config, without("layers.3.")))) == len(without("layers.3."))  # nothing tells of it


def test_a_tensor_lost_in_one_layer_is_refused():
    said = refused(CONFIG, without("layers.2.mlp.up_proj"))
    assert "layer 2 lacks 1 tensors that layer 0 has: layers.{layer}.mlp.up_proj.weight" in said


MOE = {
    **CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_hidden_layers": 2,
    "num_experts": 3, "moe_intermediate_size": 5,
}  # fmt: skip
EXPERTS = {
    f"model.layers.{layer}.mlp.{name}.weight": shape
    for layer in range(2)
    for name, shape in [
        ("gate", (3, 8)),
        *((f"experts.{expert}.{name}_proj", (5, 8)) for expert in range(3) for name in ("gate", "up")),
        *((f"experts.{expert}.down_proj", (8, 5)) for expert in range(3)),
    ]
}


def test_experts_lost_or_too_many_or_of_another_width_are_refused():
    assert len(inventory(headers(MOE, EXPERTS))) == len(EXPERTS)
    lost = {name: shape for name, shape in EXPERTS.items() if "layers.1.mlp.experts.2.up" not in name}
    assert "layer 1 has 2 experts in layers.{layer}.mlp.experts.{expert}.up_proj" in refused(MOE, lost)
    assert "num_experts in config.json is 4" in refused({**MOE, "num_experts": 4}, EXPERTS)
    assert "num_experts in config.json is 2" in refused({**MOE, "num_experts": 2}, EXPERTS)
    said = refused({**MOE, "moe_intermediate_size": 6}, EXPERTS)
    assert "d_ff_expert = 6 (moe_intermediate_size in config.json)" in said
    unsaid = {key: value for key, value in MOE.items() if key not in ("num_experts", "moe_intermediate_size")}
    assert len(inventory(headers(unsaid, EXPERTS))) == len(EXPERTS)
    assert "layer 1 has 2 experts" in refused(unsaid, lost)


def test_layers_beyond_the_last_are_taken_for_token_prediction_only_where_that_is_declared():
    config = {**CONFIG, "num_hidden_layers": 3}
    assert "layers 3 of the decoder are stored" in refused(config, SHAPES)
    declared = inventory(headers({**config, "num_nextn_predict_layers": 1}, SHAPES))
    beyond = declared[declared["layer"] == 3]
    assert (beyond["stack"] == "other").all() and beyond["note"].str.contains("multi-token prediction").all()
    deepseek = {**config, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"}
    layer = dict.fromkeys((f"model.layers.{number}.mlp.down_proj.weight" for number in range(4)), (8, 12))
    assert "layers 3 of the decoder are stored" in refused(deepseek, layer)
    shown = inventory(headers(deepseek, layer | {"model.layers.3.eh_proj.weight": (8, 16)}))
    assert (shown[shown["layer"] == 3]["stack"] == "other").all()


def test_what_deepspeed_leaves_of_a_model_is_named():
    said = refused(CONFIG, dict.fromkeys(SHAPES, (0,)))
    assert f"{len(SHAPES)} of {len(SHAPES)} tensors hold no elements" in said and "of shape [0]" in said
    assert "DeepSpeed ZeRO-3" in said and "zero_to_fp32.py" in said


def test_rows_beyond_the_vocabulary_are_stated_and_fewer_are_refused():
    from weight_atlas.tokens.tokenizer import embedding_rows

    padded = {**SHAPES, "model.embed_tokens.weight": (16, 8), "lm_head.weight": (16, 8)}
    table = inventory(headers(CONFIG, padded))
    noted = table.set_index("tensor")["note"]
    assert noted[noted != ""].to_dict() == dict.fromkeys(
        ["model.embed_tokens.weight", "lm_head.weight"], "6 rows beyond the vocabulary of 10 in config.json"
    )
    summary = configuration(Architecture.resolve({**CONFIG, "max_position_embeddings": 512}), table)
    assert embedding_rows(table) == summary["vocabulary"] == 16
    assert (summary["context"], summary["positions"]) == (512, "rotary")
    assert "must have 10 rows" in refused(CONFIG, {**SHAPES, "lm_head.weight": (9, 8)})


def test_who_runs_a_model_without_an_inventory_gets_the_same_message():
    from weight_atlas.families.inventory import check_against_config

    check_against_config(headers(CONFIG, SHAPES))
    check_against_config(headers({**CONFIG, "architectures": ["Novel"], "model_type": "novel"}, {"odd": (3,)}))
    wrong = {**SHAPES, DOWN: (12, 8)}
    with pytest.raises(AtlasError) as error:
        check_against_config(headers(CONFIG, wrong))
    assert str(error.value) == refused(CONFIG, wrong)
