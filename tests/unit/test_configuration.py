"""Wrong configurations get one clear message; defaults come from the classes of settings."""

import json
import math
from pathlib import Path

import pytest
import yaml

from weight_atlas.errors import AtlasError
from weight_atlas.quantization.formats import FORMATS
from weight_atlas.settings.ablations import KINDS
from weight_atlas.settings.schema import json_schema, resolved
from weight_atlas.workflow.configuration import configured, refuse_repeated_keys, refuse_repeated_settings
from weight_atlas.workflow.typed import typed

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()
GOOD = {"models": {"demo": {"source": "bundled:demo"}}}


def check(config):
    return configured(config, "config.yaml")


def test_defaults_are_filled_in():
    complete = check(GOOD)
    assert complete["models"]["demo"]["trust_remote_code"] is False
    assert complete["effective_rank"]["phases"] == 3
    assert "python-docs" in complete["corpora"]
    assert "effective_rank" not in GOOD


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/**/*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    check(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"modles": {}}, ["unknown key 'modles'", "did you mean 'models'?"]),
        ({"models": {"m": {"source": "x", "revison": "main"}}}, ["models.m.revison", "did you mean 'revision'?"]),
        ({"effective_rank": {"phase": 2}}, ["effective_rank.phase", "did you mean 'phases'?"]),
        ({"effective_rank": {"phases": "three"}}, ["effective_rank.phases", "should be a valid integer, not 'three'"]),
        ({"effective_rank": {"phases": 1}}, ["effective_rank.phases", "greater than or equal to 2, not 1"]),
        ({"models": {}}, ["models"]),
        ({"models": {"m": {}}}, ["'source' is missing", "models.m"]),
        ({"models": {"m": {"source": "x", "analyses": ["spectre"]}}}, ["models.m.analyses.0", "spectre"]),
        ({"models": {"a/b": {"source": "x"}}}, ["'a/b' cannot be a name", "letters, digits"]),
        ({"models": {"../up": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {"a..b": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {"a b": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {".hidden": {"source": "x"}}}, ["cannot be a name"]),
        ({"models": {"a\n": {"source": "x"}}}, ["cannot be a name"]),
        ({"corpora": {"c": {"source": 3}}}, ["corpora.c.source"]),
        # Files and folders of the results would be of one name, or of the wrong model.
        ({"models": {"x.json": {"source": "x"}}}, ["'x.json' cannot be a name", "which the names of results have"]),
        ({"models": {"x.iterations": {"source": "x"}}}, ["cannot be a name"]),
        ({"corpora": {"x.png": {"source": "x"}}}, ["cannot be a name"]),
        ({"ablations": {"x.parquet": {"zero": {}}}}, ["cannot be a name"]),
        # Snakemake takes what repeats 20 times for a wildcard that never ends.
        ({"models": {"m" + 20 * "-1": {"source": "x"}}}, ["cannot be a name", "20 times in a row"]),
        ({"models": {20 * "0": {"source": "x"}}}, ["cannot be a name"]),
        ({"pathvars": {"results": ""}}, ["pathvars.results"]),
        ({"pathvars": {"logs": ""}}, ["pathvars.logs"]),
        ({"models": {"m": {"source": ""}}}, ["models.m.source"]),
        ({"corpora": {"c": {"source": ""}}}, ["corpora.c.source"]),
        ({"corpora": {"c": {"source": [""]}}}, ["corpora.c.source"]),
        ({"tasks": {"t": {"folder": ""}}}, ["tasks.t.folder"]),
        # What arrays, files and the workflow cannot hold.
        ({"ablation_impact": {"seed": 10**30}}, ["ablation_impact.seed: should be less than 2^63"]),
        ({"heavy_tail": {"bootstrap": 1e308}}, ["heavy_tail.bootstrap: should be less than 2^63"]),
        ({"singular_values": {"parts": 10**6}}, ["singular_values.parts", "less than or equal to 1000"]),
        ({"models": {"m": {"source": "x", "key": "a\ud800b"}}}, ["models.m.key: 'a\\ud800b' is no Unicode text"]),
        ({"cascade": {"text": "\udcff"}}, ["cascade.text", "leave out '\\udcff'"]),
        ({"tasks": {"t": {"name": ["\ud800"]}}}, ["tasks.t.name.0", "no Unicode"]),
        ({"weight_statistics": {"roles": ["w_down"]}}, ["weight_statistics.roles.0", "'W_down'"]),
        ({"neuron_labels": {"kurtosis": "p101"}}, ["neuron_labels.kurtosis", "p101"]),
        ({"neuron_labels": {"kurtosis": "p\u0663"}}, ["neuron_labels.kurtosis"]),
        # What is listed twice would be made twice, or be drawn twice.
        ({"scaling_sweep": {"tasks": ["order", "order"]}}, ["scaling_sweep.tasks: should hold each item once"]),
        ({"variant_perplexity": {"corpora": ["c", "c"]}}, ["variant_perplexity.corpora: should hold each item once"]),
        ({"attention_head": {"heads": ["0:1", "0:1"]}}, ["attention_head.heads: should hold each item once"]),
        ({"spectrum_view": {"matrices": ["W_Q", "W_Q"]}}, ["spectrum_view.matrices: should hold each item once"]),
        ({"neuron_effects": {"neurons": {"demo": [[0, 1], [0, 1]]}}}, ["neurons.demo: should hold each item once"]),
        ({"super_weights": {"prompts": ["a", "a"]}}, ["super_weights.prompts: should hold each item once"]),
        ({"corpora": {"c": {"source": ["a", "a"]}}}, ["corpora.c.source: should hold each item once"]),
    ],
)
def test_one_clear_message(change, parts):
    with pytest.raises(AtlasError) as error:
        check({**GOOD, **change})
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["llama-3.1", "a_b__c_", "step.1000", "x.jsonl.gz", "0" * 19, "a.b-c_d", "json"])
def test_names_that_collide_with_nothing_are_taken(name):
    check({"models": {name: {"source": "x"}}})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("models: {on: {source: x}}", ["True cannot be a name", "true or false", "quote it"]),
        ("models: {1.0: {source: x}}", ["1.0 cannot be a name", "a number", "quote it"]),
        ("models: {2024: {source: x}}", ["2024 cannot be a name", "a number", "quote it"]),
        ("models: {2024-01-01: {source: x}}", ["2024-01-01 cannot be a name", "a date", "quote it"]),
        ("models: {~: {source: x}}", ["None cannot be a name", "nothing (null)", "quote it"]),
        ("corpora: {off: {source: x}}", ["corpora", "False cannot be a name", "quote it"]),
        ("tasks: {7: {}}", ["tasks", "7 cannot be a name", "quote it"]),
        ("ablations: {2024-01-01: {}}", ["ablations", "cannot be a name", "quote it"]),
        ("models: {m: {source: x, revision: 0012345}}", ["models.m.revision", "a number", "quote it"]),
        ("models: {m: {source: 2024-01-01}}", ["models.m.source", "not 2024-01-01", "a date", "quote it"]),
        ("heavy_tail: {threshold: 1e-3}", ["'1e-3'", "write it without quotes, and 1e-3 as 1.0e-3"]),
        ("heavy_tail: {threshold: .nan}", ["heavy_tail.threshold: should be a finite number, not nan"]),
        ("super_weight_verification: {critical_ratio: .inf}", ["critical_ratio: should be a finite number, not inf"]),
        ("scaling_sweep: {factors: [1, .nan]}", ["scaling_sweep.factors.1: should be a finite number, not nan"]),
        ("neuron_effects: {neurons: {demos: [[0, 1]]}}", ["unknown model 'demos'", "did you mean 'demo'?"]),
        ("intervention_targets: {coordinates: {x: [[0, 1, 2]]}}", ["unknown model 'x'", "known: demo"]),
    ],
)
def test_what_yaml_reads_as_something_else_is_said(change, parts):
    with pytest.raises(AtlasError) as error:
        check({**GOOD, **yaml.safe_load(change)})
    for part in parts:
        assert part in str(error.value)


def test_a_weight_may_be_multiplied_by_infinity():
    assert check({**GOOD, "scaling_sweep": {"factors": [1, math.inf]}})["scaling_sweep"]["factors"] == [1, math.inf]


def test_a_whole_float_is_the_integer_that_it_is():
    complete = check({**GOOD, "singular_values": {"parts": 2.0}, "neuron_effects": {"neurons": {"demo": [[0.0, 1]]}}})
    assert repr(complete["singular_values"]["parts"]) == "2"
    assert repr(complete["neuron_effects"]["neurons"]) == "{'demo': [[0, 1]]}"
    assert repr(complete["super_weight_verification"]["critical_ratio"]) == "1.5"


def on_command_line(*arguments):
    """What Snakemake makes of --config, typed."""
    from snakemake.cli import parse_config

    return typed(parse_config(arguments))


def test_nested_values_of_the_command_line_have_the_types_of_the_schema():
    assert on_command_line("effective_rank={phases: 4}") == {"effective_rank": {"phases": 4}}
    assert on_command_line('effective_rank={"phases": 4}') == {"effective_rank": {"phases": 4}}
    given = on_command_line(
        "heavy_tail={threshold: 1e-3, bootstrap: 0, matrices: [W_down:0, W_Q]}",
        "attention_kernel={fold_norm: true, scaled: no}",
        "quantization_ablation={clip: null, weights: [{layer: 1, row: 2, col: 3}], granularities: ['group:64']}",
        "models={2024: {source: x, revision: 0012345, allow_other: yes, family: ~}, m: }",
        "ablations={a: {zero: {}, random: {draws: 2}, each: null}}",
        "corpora={c: {source: [1.txt, 2], limit: 10}, d: {source: 1.0}}",
        "scaling_sweep={factors: [0, .5, 1e0, 2], tasks: []}",
        "tasks={t: {name: 7, limit: 0.5}}",
    )
    assert given == {
        "heavy_tail": {"threshold": 0.001, "bootstrap": 0, "matrices": ["W_down:0", "W_Q"]},
        "attention_kernel": {"fold_norm": True, "scaled": False},
        "quantization_ablation": {
            "clip": None,
            "weights": [{"layer": 1, "row": 2, "col": 3}],
            "granularities": ["group:64"],
        },
        "models": {"2024": {"source": "x", "revision": "0012345", "allow_other": True, "family": None}, "m": None},
        "ablations": {"a": {"zero": {}, "random": {"draws": 2}, "each": None}},
        "corpora": {"c": {"source": ["1.txt", "2"], "limit": 10}, "d": {"source": "1.0"}},
        "scaling_sweep": {"factors": [0, 0.5, 1.0, 2], "tasks": []},
        "tasks": {"t": {"name": "7", "limit": 0.5}},
    }
    assert [type(factor) for factor in given["scaling_sweep"]["factors"]] == [int, float, float, int]
    given["models"].pop("m")
    check({**given, "effective_rank": {}})


def test_what_fits_no_type_stays_for_the_check_to_name():
    with pytest.raises(AtlasError, match="should be a valid integer, not 'four'"):
        check({**GOOD, **on_command_line("effective_rank={phases: four}")})
    with pytest.raises(AtlasError, match="should be greater than or equal to 2, not 1"):
        check({**GOOD, **on_command_line("effective_rank={phases: 1}")})
    with pytest.raises(AtlasError, match="should be a finite number, not nan"):
        check({**GOOD, **on_command_line("heavy_tail={threshold: nan}")})
    with pytest.raises(AtlasError, match="did you mean 'phases'"):
        check({**GOOD, **on_command_line("effective_rank={phase: 3}")})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("models:\n  a: {source: x}\nmodels:\n  b: {source: y}\n", ["key 'models' stands twice", "lines 1 and 3"]),
        ("models:\n  a: {source: x}\n  'a': {source: y}\n", ["'a' stands twice in models", "lines 2 and 3"]),
        ("models: {a: {source: x, dtype: auto, dtype: auto}}", ["'dtype' stands twice in models.a", "lines 1 and 1"]),
        ("quantization_ablation:\n  weights:\n  - {layer: 1, layer: 2}\n", ["in quantization_ablation.weights.0"]),
        ('{"models":\n\t{"a": {"source": "x"}, "a": {"source": "y"}}}', ["'a' stands twice in models"]),
        ("base: &base {a: 1, a: 2}\nmodels: {b: *base}", ["'a' stands twice in base"]),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, parts):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("base: &base {source: x}\nmore: &more {key: y}\nmodels:\n  a: {<<: *base, <<: *more, source: z}\n")
    refuse_repeated_keys([good])
    bad.write_text(text)
    with pytest.raises(AtlasError) as error:
        refuse_repeated_keys([good, bad])
    for part in [str(bad), *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config", "a={b: 1, b: 2}"], ["key 'b' stands twice in a"]),
        (["-C", "x=1", "a={b: [{c: 1, c: 2}]}"], ["key 'c' stands twice in a.b.0"]),
        (["-Ca={b: 1, b: 2}"], ["key 'b' stands twice in a"]),
        (["--config=a={b: 1, b: 2}", "--cores", "1"], ["key 'b' stands twice in a"]),
        (["--config", "a=1", "--cores", "1", "--config", "a=2"], ["key 'a' stands twice"]),
    ],
)
def test_a_key_that_stands_twice_on_the_command_line_is_refused(arguments, parts):
    with pytest.raises(AtlasError) as error:
        refuse_repeated_settings(["snakemake", *arguments])
    for part in ["command line: --config", *parts]:
        assert part in str(error.value)


def test_what_is_no_setting_is_not_looked_at():
    settings = ["--config", "a={b: 1, c: {b: 2}}", "d={{no yaml", "e=base64//eA==", "target"]
    others = ["--configfile", "a=b.yaml", "a=b.yaml", "--set-threads", "x=1", "x=1", "--", "a=1", "a=1"]
    refuse_repeated_settings(["snakemake", *settings, *others])


def walk(schema, path=""):
    schema = resolved(schema, SCHEMA)
    for option in schema.get("anyOf", ()):
        yield from walk(option, path)
    for name in ("additionalProperties", "items"):
        if isinstance(schema.get(name), dict):
            yield from walk(schema[name], f"{path}.*")
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", {**part, "description": resolved(part, SCHEMA).get("description")}
        yield from walk(part, f"{path}.{name}")


REQUIRED = {
    ".pairs.base",
    ".models.*.source", ".corpora.*.source", ".tokenizers.*.source", ".recipes.*.format",
    ".ablations.*.token_rows.vector",
}  # fmt: skip
COORDINATES = {
    f".{place}{section}.weights.*.{key}"
    for place in ("", "models.*.", "series.*.")
    for section in ("scaling_sweep", "quantization_ablation")
    for key in ("row", "col")
}


def test_every_key_has_a_description_and_a_default():
    keys = dict(walk(SCHEMA))
    assert {path for path, part in keys.items() if not part["description"]} == set()
    assert {path for path, part in keys.items() if "default" not in part} == REQUIRED | COORDINATES


def test_the_schema_in_the_repository_is_the_one_of_the_classes():
    assert json.loads((ROOT / "schemas/config.schema.json").read_text()) == SCHEMA


def test_kinds_of_ablation_and_formats_are_those_that_the_code_makes():
    from weight_atlas.ablations.variants import MAKERS

    assert set(KINDS) == set(MAKERS)
    assert SCHEMA["$defs"]["Quantize"]["properties"]["formats"]["items"]["enum"] == list(FORMATS)
