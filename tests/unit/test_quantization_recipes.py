"""Recipes: the knapsack against brute force, costs, units, and the whole."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from recipe_models import GPT2, LLAMA, MIXTRAL, inventory_of, normal

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.figures.recipes import types_by_layer
from weight_atlas.quantization.quantizers import Scheme, bits_per_weight, quantized
from weight_atlas.quantization.recipes.allocate import allocate
from weight_atlas.quantization.recipes.costs import Costs, unit_costs
from weight_atlas.quantization.recipes.gguf_names import gguf_names
from weight_atlas.quantization.recipes.importance import importance_of
from weight_atlas.quantization.recipes.recipe import allocated, spared_ids
from weight_atlas.quantization.recipes.types import SIXTEEN, TYPES, StoredType
from weight_atlas.quantization.recipes.uniform import largest_within, recorded, uniforms
from weight_atlas.quantization.recipes.units import Unit, head_name, units_of
from weight_atlas.settings.quantization import Recipe

TOOLS = tuple(TYPES)
EQUAL = lambda row: (None, "nothing")  # noqa: E731


# The knapsack.


@pytest.mark.parametrize("seed", range(12))
def test_the_allocation_is_the_best_of_all(seed):
    random = np.random.default_rng(seed)
    sizes = np.sort(random.random((6, 4)), axis=1) * random.integers(1, 9, (6, 1))
    errors = -np.sort(-random.random((6, 4)), axis=1)
    sizes[0, 1] = errors[2, 3] = np.inf
    smallest = np.where(np.isfinite(sizes + errors), sizes, np.inf).min(axis=1).sum()
    budget = smallest * (1 + 2 * random.random())
    every = itertools.product(range(4), repeat=6)
    allowed = [c for c in every if sizes[range(6), c].sum() <= budget and np.isfinite(errors[range(6), c]).all()]
    best = min(errors[range(6), c].sum() for c in allowed)
    found = allocate(sizes, errors, budget)
    assert sizes[np.arange(6), found.chosen].sum() <= budget
    assert errors[np.arange(6), found.chosen].sum() <= best * 1.01
    assert found.gap <= 0.01


def test_what_does_not_fit_is_refused_and_what_fits_whole_is_taken():
    sizes, errors = np.array([[4.0, 8.0], [4.0, 8.0]]), np.array([[1.0, 0.0], [2.0, 0.5]])
    with pytest.raises(AtlasError, match="less than the smallest"):
        allocate(sizes, errors, 7.9)
    assert allocate(sizes, errors, 16.0).chosen.tolist() == [1, 1]
    assert allocate(sizes, errors, 12.0).chosen.tolist() == [0, 1]
    assert allocate(sizes, errors, 8.0).chosen.tolist() == [0, 0]


# Costs.


def test_costs_weigh_the_columns_and_add_up_over_a_unit():
    weights = {"a": torch.from_numpy(normal(4, 256)), "b": torch.from_numpy(normal(4, 256, seed=1)) * 3}
    h = np.linspace(1, 9, 256)
    types = (StoredType("int4", 128, "int4/group:128"), StoredType("int8", 1, "int8/channel"), StoredType("no", 100))
    rows = {name: name for name in weights}
    with ThreadPoolExecutor(2) as pool:
        costs = unit_costs(
            [Unit("ab", ("ab",), ("a", "b"))], types, rows, weights.__getitem__, lambda row: (h, "moments"), pool
        )
    for number, kind in enumerate(types[:2]):
        errors = [((w - quantized(w, Scheme.named(kind.scheme))).double() ** 2).numpy() * h for w in weights.values()]
        energy = [(w.double() ** 2).numpy() * h for w in weights.values()]
        assert costs.noise[0, number] == pytest.approx(sum(e.sum() for e in errors) / sum(e.sum() for e in energy))
        assert costs.sizes[0, number] == pytest.approx(2 * 1024 * bits_per_weight((4, 256), Scheme.named(kind.scheme)))
    assert np.isinf(costs.sizes[0, 2])
    assert costs.bases == ["moments"]


def test_importance_is_measured_else_the_gain_of_the_norm_else_nothing():
    table = inventory_of(
        [
            {"tensor": "model.norm0", "role": "norm", "component": "pre_attention", "rows": 3, "cols": pd.NA},
            {"tensor": "layers.0.q.weight", "role": "W_Q", "cols": 3},
            {"tensor": "layers.0.o.weight", "role": "W_O", "cols": 3},
            {"tensor": "layers.0.up.weight", "role": "W_up", "cols": 3},
        ]
    )
    moments = pd.DataFrame({"tensor": ["model.layers.0.up.weight"], "moments": [[1.0, 2.0, 3.0]]})
    of = importance_of(table, lambda row: torch.tensor([1.0, -2.0, 3.0]), moments)
    by_role = {row.role: of(row) for row in table.itertuples(index=False)}
    assert by_role["W_Q"][0].tolist() == [1, 4, 9]
    assert by_role["W_Q"][1] == "norm gain"
    assert by_role["W_O"] == (None, "nothing")
    assert by_role["W_up"][0].tolist() == [1, 2, 3]


# Units.


def test_llama_cpp_has_ggufs_names_and_one_for_all_experts():
    units = units_of(inventory_of(MIXTRAL), "llama.cpp", gguf_names({"model_type": "mixtral"}, 1))
    by_name = {unit.name: len(unit.ids) for unit in units}
    assert by_name["blk.0.ffn_gate_exps.weight"] == by_name["blk.0.ffn_down_exps.weight"] == 2
    assert by_name["token_embd.weight"] == by_name["output.weight"] == by_name["blk.0.attn_q.weight"] == 1
    assert not [name for name in by_name if "gate_inp" in name]
    units = units_of(inventory_of(GPT2), "llama.cpp", gguf_names({"model_type": "gpt2"}, 1))
    assert {unit.name: len(unit.ids) for unit in units} == {
        "token_embd.weight": 1, "blk.0.attn_qkv.weight": 3, "blk.0.ffn_down.weight": 1
    }  # fmt: skip
    with pytest.raises(NotApplicable, match="knows no model of type"):
        gguf_names({"model_type": "beam"}, 1)


def test_other_tools_name_modules_and_join_what_vllm_joins():
    def names(tool, rows):
        return [unit.names for unit in units_of(inventory_of(rows), tool)]

    joined = names("llm-compressor", LLAMA)
    layer = "model.layers.0"
    assert tuple(f"{layer}.self_attn.{name}_proj" for name in "qkv") in joined
    assert (f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj") in joined
    assert ("lm_head",) in joined
    assert len(names("bitsandbytes", LLAMA)) == len(LLAMA) - 1
    assert not [name for name in names("gptqmodel", LLAMA) if name == ("lm_head",)]
    assert len([each for each in names("llm-compressor", MIXTRAL) if len(each) == 6]) == 1
    assert not [each for each in names("bitsandbytes", MIXTRAL) if "experts" in each[0]]
    assert names("torchao", GPT2) == [("h.0.attn.c_attn",), ("h.0.mlp.c_proj",)]
    stack = {"tensor": "layers.0.experts.gate_up_proj", "role": "W_up", "expert": 0, "layout": "stacked+halves"}
    assert names("torchao", [stack, {**stack, "id": "x", "expert": 1}]) == [("layers.0.experts.gate_up_proj",)]
    assert names("llm-compressor", [stack]) == []


def test_the_head_is_named_where_it_is_tied_too():
    assert head_name(inventory_of(LLAMA)) == "lm_head"
    tied = {"tensor": "wte.weight", "id": "head", "role": "W_U", "layer": pd.NA, "tied_to": "wte.weight"}
    assert head_name(inventory_of(GPT2)) == head_name(inventory_of([*GPT2, tied])) == "lm_head"


# The whole.


def recipe(tool, rows, bits=7.0, spared=(), names=None):
    table = inventory_of(rows)
    weights = {name: torch.from_numpy(normal(4, 256, seed=number)) for number, name in enumerate(table["id"])}
    units = units_of(table, tool, names)
    found = allocated(units, table, lambda row: weights[row.id], EQUAL, spared, Recipe(format=tool, bits=bits), 2)
    return found, table


@pytest.mark.parametrize("tool", TOOLS)
def test_recipes_keep_to_their_size_and_are_no_worse_than_one_type(tool):
    names = gguf_names({"model_type": "llama"}, 1) if tool == "llama.cpp" else None
    found, table = recipe(tool, LLAMA, bits=9.0, names=names)
    total = found.summary
    assert total["bytes"] <= total["budget_bytes"] == 9.0 * table["parameters"].sum() / 8
    assert total["gap"] <= 0.01
    if total["uniform"]:
        assert total["noise"] <= total["uniform"]["noise"] * 1.01
    units, others = found.table["weights"].sum(), table["parameters"].sum() - found.table["weights"].sum()
    assert total["bits_per_weight"] == pytest.approx(
        ((found.table["bits"] * found.table["weights"]).sum() + 16 * others) / (units + others)
    )
    assert total["uniforms"][-1]["bytes"] == pytest.approx(2 * table["parameters"].sum())
    assert types_by_layer(found.table, total).axes


def test_a_recipe_is_the_best_of_all_by_brute_force():
    found, table = recipe("torchao", LLAMA[2:6], bits=6.5)
    types, total = TYPES["torchao"], 6.5 * table["parameters"].sum()
    noise = np.array([[_noise(seed, kind) for kind in types] for seed in range(4)])
    size = np.array([[kind.size(4, 256) for kind in types] for _ in range(4)])
    every = [c for c in itertools.product(range(4), repeat=4) if size[range(4), c].sum() <= total]
    assert found.summary["noise"] <= 1.01 * min(noise[range(4), c].sum() for c in every)


def _noise(seed, kind):
    w = torch.from_numpy(normal(4, 256, seed=seed))
    q = quantized(w, Scheme.named(kind.scheme)) if kind.scheme else w.half().float()
    return float(((w - q).double() ** 2).sum() / (w.double() ** 2).sum())


def test_super_weights_keep_eight_bits_and_bad_sizes_say_what_would_do():
    artifact = {"super_weights": [{"tensor": "model.layers.0.mlp.down_proj.weight", "expert_id": None}]}
    table = inventory_of(LLAMA)
    assert spared_ids(table, artifact) == {"model.layers.0.mlp.down_proj.weight"}
    assert spared_ids(table, None) == set()
    found, _ = recipe("bitsandbytes", LLAMA, bits=8.5, spared=spared_ids(table, artifact))
    kept = found.table[found.table["spared"]]
    assert len(kept) == 1
    assert (kept["bits"] >= 8).all()
    with pytest.raises(AtlasError, match="can do no less than") as error:
        recipe("gptqmodel", LLAMA, bits=2.0)
    assert "bits:" in error.value.remedy
    number = float(re.search(r"bits: ([\d.]+)", error.value.remedy)[1])
    recipe("gptqmodel", LLAMA, bits=number)
    table = inventory_of(LLAMA)
    size = float(re.search(r"gb: ([\d.e-]+)", error.value.remedy)[1])
    units, load = units_of(table, "gptqmodel"), lambda row: torch.from_numpy(normal(4, 256))
    assert allocated(units, table, load, EQUAL, (), Recipe(format="gptqmodel", gb=size)).summary["bytes"] <= size * 1e9


def costs_of(sizes, weights):
    sizes = np.array(sizes, dtype=float)
    return Costs(sizes, np.where(np.isinf(sizes), np.inf, 1 / sizes), ["nothing"] * len(sizes), np.array(weights))


def test_a_single_type_gives_way_to_the_nearest_that_a_unit_can_have():
    inf, types = np.inf, TYPES["gptqmodel"]
    costs = costs_of([[20, 30, 40, 80, 160], [inf, inf, inf, inf, 320], [inf, inf, 41, 81, 161]], [10, 20, 10])
    found = uniforms(costs, types, "gptqmodel")
    assert [each.type for each in found] == [kind.name for kind in types]
    assert [each.chosen.tolist() for each in found] == [[0, 4, 2], [1, 4, 2], [2, 4, 2], [3, 4, 3], [4, 4, 4]]
    assert [each.bits for each in found] == [381, 391, 401, 481, 641]
    assert [largest_within(found, room) and largest_within(found, room).type for room in (480.9, 481, 9)] == [
        "4 bit", "8 bit", None
    ]  # fmt: skip
    record = recorded(found, types, ["a", "b", "c"], 79)[1]
    assert record == {"type": "3 bit", "bytes": 58.75, "noise": found[1].noise, "instead": {"b": SIXTEEN, "c": "4 bit"}}


def test_a_single_type_is_none_that_no_unit_can_have_and_mixes_no_kinds_that_exclude_each_other():
    both = costs_of([[40, 80, 160], [np.inf, 80, 160]], [10, 10])
    chosen = {each.type: each.chosen.tolist() for each in uniforms(both, TYPES["bitsandbytes"], "bitsandbytes")}
    assert chosen == {"nf4": [0, 2], "int8": [1, 1], SIXTEEN: [2, 2]}
    none = costs_of([[np.inf, 80, 160]], [10])
    assert [each.type for each in uniforms(none, TYPES["bitsandbytes"], "bitsandbytes")] == ["int8", SIXTEEN]


def test_a_recipe_has_one_size():
    for wrong in ({}, {"bits": 4.0, "gb": 1.0}):
        with pytest.raises(ValueError, match="one size"):
            Recipe(format="torchao", **wrong)
