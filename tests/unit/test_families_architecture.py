"""The architecture summary: configuration from config.json and shapes, parameters by part, and their figures."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from weight_atlas.families.architecture import Architecture
from weight_atlas.families.architecture_summary import (
    CATEGORIES,
    FIELDS,
    configuration,
    parameter_table,
    parameters_by,
    tensor_list,
)
from weight_atlas.families.inventory import inventory
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.registry import find_family
from weight_atlas.families.schema import load_family
from weight_atlas.figures.architecture import parameter_shares, size_by_layer

ROOT = Path(__file__).parents[2]


def checkpoint(config: dict, shapes: dict[str, tuple[int, ...]]) -> SimpleNamespace:
    entries = {}
    for name, shape in shapes.items():
        count = 1
        for size in shape:
            count *= size
        entries[name] = SimpleNamespace(
            name=name, dtype="BF16", shape=shape, shard="x", bytes=2 * count, offset=-1, note="", remark=""
        )
    return SimpleNamespace(folder=Path("model"), config=config, entries=entries, family=None)


MOE = {
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 2, "num_experts_per_tok": 1,
    "hidden_act": "silu", "rope_parameters": {"rope_theta": 1e4},
    "tie_word_embeddings": True, "dtype": "bfloat16", "sliding_window": None,
}  # fmt: skip


@pytest.fixture
def sparse():
    shapes = {"model.embed_tokens.weight": (10, 8), "model.norm.weight": (8,), "visual.patch_embed.weight": (4, 4)}
    for layer in range(2):
        place = f"model.layers.{layer}"
        shapes |= {
            f"{place}.self_attn.{name}_proj.weight": (rows, 8) for name, rows in zip("qkvo", (8, 4, 4, 8), strict=True)
        }
        shapes |= {f"{place}.self_attn.q_proj.bias": (8,), f"{place}.mlp.gate.weight": (2, 8)}
        for expert in range(2):
            shapes[f"{place}.mlp.experts.{expert}.gate_proj.weight"] = (5, 8)
            shapes[f"{place}.mlp.experts.{expert}.up_proj.weight"] = (5, 8)
            shapes[f"{place}.mlp.experts.{expert}.down_proj.weight"] = (8, 5)
        shapes[f"{place}.mlp.shared_expert.down_proj.weight"] = (8, 6)
    return checkpoint(MOE, shapes)


def test_configuration_in_one_set_of_names(sparse):
    found = configuration(Architecture.of(sparse), inventory(sparse))
    assert list(found) == [name for name in FIELDS if name in found]
    wanted = {
        "family": "qwen2_moe", "n_layers": 2, "d_model": 8, "n_heads": 2, "n_kv_heads": 1, "head_dim": 4, "gated": True,
        "vocabulary": 10, "n_experts": 2, "n_experts_per_token": 1, "d_ff_expert": 5, "positions": "rotary",
        "rope_theta": 1e4, "tied": True, "norm": "RMSNorm", "activation": "silu", "stored_types": "BF16",
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert "window" not in found and "d_ff" not in found


def test_parameters_by_part_add_up(sparse):
    table = inventory(sparse)
    sizes = parameter_table(table)
    assert set(sizes["category"]) <= set(CATEGORIES)
    by_category = parameters_by(sizes, "category").set_index("category")
    assert by_category["parameters"].to_dict() == {
        "token embedding": 80, "attention": 2 * 192, "experts": 2 * 2 * 120, "shared experts": 96, "router": 32,
        "norms and biases": 24, "other": 16,
    }  # fmt: skip
    total = sum(entry.bytes for entry in sparse.entries.values())
    assert sizes["bytes"].sum() == total == 2 * sizes["parameters"].sum()
    assert by_category["parameters_share"].sum() == pytest.approx(1)
    by_layer = parameters_by(sizes, "layer")
    assert by_layer["layer"].isna().sum() == 1 and len(by_layer) == 3


def test_attention_that_is_not_there():
    config = {"architectures": ["MambaForCausalLM"], "num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 2}
    table = inventory(checkpoint(config, {"backbone.layers.0.mixer.out_proj.weight": (4, 8)}))
    found = configuration(Architecture.resolve(config), table)
    assert found["attention"] == "none" and "n_heads" not in found and "gated" not in found


@pytest.mark.parametrize(
    ("config", "positions"),
    [({}, "rotary"), ({"alibi": True}, "linear biases on scores (ALiBi)"), ({"alibi": False}, "rotary")],
)
def test_facts_may_depend_on_the_configuration(config, positions):
    config = {"architectures": ["FalconForCausalLM"], **config}
    assert configuration(Architecture.resolve(config), inventory(checkpoint(config, {})))["positions"] == positions


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"layer_types": ["a", "b"]}, ["a", "b"]),
        ({"linear_attn_config": {"kda_layers": [1, 3]}}, ["linear_attention", "full_attention", "linear_attention"]),
        ({"layer_group_size": 2}, ["linear_attention", "full_attention", "linear_attention", "full_attention"]),
        ({}, [None, None]),
    ],
)
def test_kinds_of_layers(config, kinds):
    quantities = Quantities(load_family("kimi_linear"), config)
    assert [quantities.kind(layer) for layer in range(len(kinds))] == kinds


def test_multi_query_and_grouped_heads_of_falcon():
    for config, heads in (
        ({"multi_query": True}, 1),
        ({"multi_query": False}, 8),
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        ({"new_decoder_architecture": True, "n_head_kv": 4}, 4),
    ):
        config |= {"architectures": ["FalconForCausalLM"], "num_attention_heads": 8}
        assert Quantities(find_family(config), config).of("n_kv_heads") == heads


def test_figures_show_what_is_there_and_never_nothing(sparse):
    sizes = parameter_table(inventory(sparse))
    rings = parameter_shares(sizes).axes[0]
    assert len(rings.patches) == sizes["category"].nunique()
    bars = size_by_layer(sizes)
    assert [axes.get_title() for axes in bars.axes] == ["Decoder", "Other tensors"]
    heights = pd.Series({}, dtype=float)
    for patch in bars.axes[0].patches:
        place = round(patch.get_x() + patch.get_width() / 2)
        heights[place] = heights.get(place, 0) + patch.get_height()
    decoder = sizes[sizes["stack"] == "decoder"]
    assert heights[1] == decoder[decoder["layer"] == 1]["parameters"].sum()
    empty = sizes.assign(parameters=0)
    for figure in (parameter_shares(empty), size_by_layer(empty)):
        assert "no parameters" in figure.axes[0].texts[0].get_text()


def test_the_step_writes_all_its_files(tmp_path):
    import runpy

    import torch
    from safetensors.torch import save_file

    from weight_atlas.artifacts import read_json, read_table, write_json
    from weight_atlas.checkpoint.fetch import make_manifest
    from weight_atlas.settings.models import CheckpointSpec, Inventoried

    source = tmp_path / "model"
    source.mkdir()
    save_file({"model.embed_tokens.weight": torch.randn(10, 8)}, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": 10}))
    write_json(tmp_path / "manifest.json", make_manifest(CheckpointSpec(source=str(source))))
    names = ("tensor_inventory", "architecture_summary")
    take, summarize = (runpy.run_path(str(ROOT / f"scripts/{name}.py"))["main"] for name in names)
    take(tmp_path / "manifest.json", table=tmp_path / "inventory.parquet", settings=Inventoried())
    outputs = {"table": "t.csv", "parameters": "p.csv", "summary": "s.json", "figure": "f.png", "shares": "r.png"}
    outputs["tensors"] = "l.csv"
    paths = {name: tmp_path / file for name, file in outputs.items()}
    summarize(tmp_path / "manifest.json", tmp_path / "inventory.parquet", **paths)
    assert dict(read_table(paths["table"])[["field", "value"]].to_numpy())["parameters"] == "80"
    assert read_json(paths["summary"])["parameters"]["layer"][0]["layer"] is None
    assert all(path.stat().st_size for path in paths.values())


def test_the_list_of_tensors_reads_like_the_model():
    table = pd.DataFrame({"id": ["wte", "wpe", "b"], "role": ["W_E", "W_pos", "bias"], "stack": "decoder"})
    table = table.assign(layer=[None, None, 3], expert=None, component="", rows=[50, 16, 96], cols=[32, 32, None])
    table = table.assign(dtype="BF16", parameters=[1600, 512, 96], bytes=[3200, 1024, 192], tied_to="")
    listed = tensor_list(table.astype({"rows": "Int64", "cols": "Int64", "expert": "Int64"}))
    assert listed["shape"].tolist() == ["50 x 32", "16 x 32", "96"]
    assert listed["category"].tolist() == ["token embedding", "position embedding", "norms and biases"]
    assert listed["megabytes"].tolist() == [0.0032, 0.001024, 0.000192]
