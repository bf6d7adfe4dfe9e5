"""Which models are compared, the files beside their weights, what their analyses found, and the tables and figures."""

import json

import numpy as np
import pandas as pd
import pytest

from weight_atlas import metrics
from weight_atlas.comparison.choices import pairs_of
from weight_atlas.comparison.files import file_differences, told_of_files
from weight_atlas.comparison.side_by_side import side_by_side
from weight_atlas.errors import AtlasError
from weight_atlas.figures.comparison import change_directions, change_map, most_changed_tensors
from weight_atlas.workflow.configuration import configured

MODELS = {name: {"source": "bundled:demo"} for name in ("a", "b", "c")}


def pairs(given):
    return pairs_of(configured({"models": MODELS, "pairs": given}, "file"))


def test_pairs_are_named_or_made_of_all_or_of_a_base():
    assert pairs({"tuned": ["a", "b"]}) == {"tuned": ["a", "b"]}
    assert pairs("all") == {"a-vs-b": ["a", "b"], "a-vs-c": ["a", "c"], "b-vs-c": ["b", "c"]}
    assert pairs({"base": "b"}) == {"b-vs-a": ["b", "a"], "b-vs-c": ["b", "c"]}
    assert pairs({"base": ["b", "c"]}) == {"base": ["b", "c"]}  # a pair that is called so
    assert pairs({}) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": ["a", "q"]}, "unknown model 'q'"),
        ({"base": "bb"}, "unknown model 'bb'"),
        ({"x": ["a"]}, "pairs.x"),
        ("some", "pairs"),
        ({"x/y": ["a", "b"]}, "cannot be a name"),
    ],
)
def test_what_is_no_pair_is_one_message(given, said):
    with pytest.raises(AtlasError, match=said):
        pairs(given)


def test_two_pairs_with_one_name_must_be_named():
    models = {name: {"source": "bundled:demo"} for name in ("a", "b-vs-c", "a-vs-b", "c")}
    with pytest.raises(AtlasError, match="cannot be called 'a-vs-b-vs-c'"):
        pairs_of(configured({"models": models, "pairs": "all"}, "file"))


def write(folder, **files):
    folder.mkdir()
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def tokenizer(vocab, merges, added=(), **more):
    tokens = [{"id": number, "content": token, "special": True} for token, number in added]
    return {"added_tokens": tokens, "model": {"type": "BPE", "vocab": vocab, "merges": merges}, **more}


def test_files_are_compared_field_by_field(tmp_path):
    a = write(
        tmp_path / "a",
        generation_config__json={"eos_token_id": 2, "transformers_version": "4.1"},
        tokenizer_config__json={"chat_template": "one\ntwo", "bos_token": "<s>"},
        tokenizer__json=tokenizer({"a": 0, "b": 1, "c": 2}, ["a b", "b c"], [("<s>", 3)], normalizer=None),
        merges__txt="a b",
    )
    b = write(
        tmp_path / "b",
        generation_config__json={"eos_token_id": [2, 3], "transformers_version": "5.0", "top_p": 0.9},
        tokenizer_config__json={"bos_token": "<s>"},
        chat_template__jinja="one\nthree",
        tokenizer__json=tokenizer(
            {"a": 0, "c": 1, "d": 2}, [["a", "b"]], [("<s>", 3), ("<e>", 4)], normalizer={"type": "NFC"}
        ),
        merges__txt="a c",
    )
    configs = ({"rope": {"theta": 1}, "same": [1]}, {"rope": {"theta": 1.0, "kind": "x"}, "same": [1]})
    found = file_differences(a, b, configs)
    assert found.to_numpy().tolist() == [
        ["config.json", "rope.theta", "changed", "1", "1.0"],
        ["config.json", "rope.kind", "only in b", "", "x"],
        ["generation_config.json", "eos_token_id", "changed", "2", "[2, 3]"],
        ["generation_config.json", "top_p", "only in b", "", "0.9"],
        ["tokenizer.json", "vocabulary", "1 added", "", '["d"]'],
        ["tokenizer.json", "vocabulary", "1 removed", '["b"]', ""],
        ["tokenizer.json", "vocabulary", "1 at another place", '["c 2"]', '["c 1"]'],
        ["tokenizer.json", "merges", "1 removed", '["b c"]', ""],
        ["tokenizer.json", "added_tokens", "1 added", "", '["<e>"]'],
        ["tokenizer.json", "normalizer", "only in a", "null", ""],
        ["tokenizer.json", "normalizer.type", "only in b", "", "NFC"],
        ["chat template", "", "1 lines gone, 1 new", "two", "three"],
        ["merges.txt", "", "changed", "3 bytes", "3 bytes"],
    ]
    assert told_of_files(found).startswith("Beside the weights, these differ: config.json (rope.theta, rope.kind); ")
    assert told_of_files(file_differences(a, a, (configs[0], configs[0]))) == ""


def test_analyses_are_set_side_by_side_where_both_ran():
    layers = {"layer": [0, 1], "role": ["W_Q", "W_Q"]}
    place = {"component": "mlp.down_proj", "expert_id": np.nan, "row": 3}
    one = {
        "effective_rank": pd.DataFrame({**layers, "erank": [10.0, 20.0]}),
        "super_weights": pd.DataFrame([{"layer": 1, **place, "column": 5, "original_value": -2.0}]),
        "findings": pd.DataFrame({"id": ["x"], "grade": ["info"], "text": ["said"]}),
        "ablation_perplexity": pd.DataFrame(
            {"kind": ["baseline", "zero"], "corpus": "text", "perplexity": [9.0, 99.0]}
        ),
    }
    other = {
        "effective_rank": pd.DataFrame({**layers, "erank": [10.0, 10.0]}),
        "super_weights": pd.DataFrame([{"layer": 2, **place, "column": 5, "original_value": 1.0}]),
        "findings": pd.DataFrame({"id": ["x", "y"], "grade": ["info", "critical"], "text": ["said", "more"]}),
        "heavy_tail": pd.DataFrame(),
        "ablation_perplexity": pd.DataFrame({"kind": ["baseline"], "corpus": "text", "perplexity": [8.0]}),
    }
    found = side_by_side(one, other).set_index(["what", "item"])
    assert found.loc[("effective rank", "W_Q"), ["a", "b", "difference"]].tolist() == [15, 10, -5]
    assert found.loc[("perplexity", "text"), "difference"] == -1
    assert found.loc[("finding", "y"), ["text_a", "text_b"]].tolist() == ["", "critical: more"]
    values = found.loc["super weight (candidate), its value"]
    assert values.index.tolist() == ["layer 1 mlp.down_proj [3, 5]", "layer 2 mlp.down_proj [3, 5]"]
    assert values["a"].iloc[0] == -2 and np.isnan(values["b"].iloc[0])
    assert len(found) == 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tables of a comparison in which everything occurs, a vocabulary and something alone included."""
    from compared_models import name, tables, weights, write

    folder, tokens = tmp_path_factory.mktemp("pair"), [f"t{number}" for number in range(40)]
    other = weights(seed=1, layers=3)
    other["model.norm.weight"] = weights()["model.norm.weight"]
    other[name(0, "mlp.up_proj.weight")] = weights()[name(0, "mlp.up_proj.weight")]
    return tables(write(folder / "a", weights(), tokens), write(folder / "b", other, tokens, num_hidden_layers=3))


FILES = {
    "table": "csv",
    "tensors": "parquet",
    "roles": "csv",
    "changes": "csv",
    "heads": "csv",
    "tokens": "csv",
    "alone": "csv",
}
REGISTERED = {"table": "comparison", "tensors": "comparison.spectra", "changes": "comparison.tensors"}


@pytest.mark.parametrize("product", [*FILES, "files"])
def test_every_column_is_registered(made, product):
    table = metrics.of(REGISTERED.get(product, f"comparison.{product}"))
    content = getattr(made, product)
    assert len(content) > 0
    assert set(content.columns) == table.columns
    for column in content.columns:
        kind = table.by_column if pd.api.types.is_numeric_dtype(content[column]) else table.words
        lists = {*table.lists, *table.keys.values()}
        assert column in {*kind, *lists} or pd.api.types.is_bool_dtype(content[column]), column


def test_the_numbers_of_the_summary_are_registered(made):
    table = metrics.of("comparison.summary")
    numbers = {key for key, value in made.summary.items() if key not in table.words and not isinstance(value, dict)}
    numbers |= {f"whole.{key}" for key in made.summary["whole"]}
    assert numbers == set(table.by_column)
    json.dumps(made.summary)


def test_figures_show_their_numbers(made):
    figure = change_map(made.roles, "a and b")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["relative change, |b - a| / |a|", "1 - cosine of a and b"]
    shown = figure.axes[0].images[0].get_array()
    assert shown.max() == pytest.approx(made.roles["relative"].max())
    assert len(most_changed_tensors(made.changes, "a and b").axes[0].get_yticklabels()) == len(made.changes)
    directions = change_directions(made.table, [4, 8, 16], "a and b")
    assert len(directions.axes[0].lines) == made.table.loc[made.table["lora_error_4"].notna(), "role"].nunique()
    same = made.roles.assign(relative=0.0)
    assert "nothing changed" in change_map(same, "t").axes[0].texts[0].get_text()
