"""Effort, seed and a model's own sections: which value of a key holds."""

import json

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.settings.base import Settings
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.model_entries import OwnSettings
from weight_atlas.workflow import recorded, run_config
from weight_atlas.workflow.configuration import configured
from weight_atlas.workflow.selection import Selection

MODELS = {"a": {"source": "x"}, "b": {"source": "y"}}
EFFORTS = ("quick", "standard", "thorough")
# Keys by which the steps' cost grows: more of them is more work.
SIZES = {
    "weight_attribution": ("tokens",),
    "super_weight_verification": ("tokens", "draws", "removals", "max_candidates"),
    "super_activations": ("tokens",),
    "generation": ("tokens", "each"),
    "massive_activations": ("tokens", "removals", "draws"),
    "expert_routing": ("router_analysis_samples",),
    "variant_perplexity": ("tokens",),
    "scaling_sweep": ("factors",),
    "quantization_ablation": ("formats", "granularities", "activations"),
    "input_second_moments": ("tokens",),
    "recipe_perplexity": ("tokens",),
    "windows": ("tokens",),
    "intervention_targets": ("most",),
    "interventions": ("draws", "shift_draws", "control_tokens"),
    "cascade": ("tokens",),
    "bundled_tasks": ("items",),
}


def complete(**sections):
    return configured({"models": MODELS, **sections}, "config.yaml")


def size(value):
    return len(value) if isinstance(value, list) else value


def classes(above=Settings):
    for each in above.__subclasses__():
        yield each
        yield from classes(each)


@pytest.mark.parametrize(("section", "keys"), SIZES.items())
def test_more_effort_is_never_less_work_and_thorough_is_more_than_quick(section, keys):
    quick, standard, thorough = (complete(effort=effort)[section] for effort in EFFORTS)
    for key in keys:
        assert size(quick[key]) <= size(standard[key]) <= size(thorough[key]), key
        assert size(quick[key]) < size(standard[key]), key


def test_the_defaults_of_the_standard_effort_are_those_of_the_classes():
    given = {"models": MODELS}
    plain = Configuration.model_validate(given).model_dump()
    told = complete(effort="standard")
    assert {name: told[name] for name in plain if name not in ("models", "effort")} == {
        name: plain[name] for name in plain if name not in ("models", "effort")
    }
    assert complete() == told


def test_every_default_by_effort_is_a_value_that_its_key_may_have():
    checked = 0
    for each in set(classes()):
        for name, field in each.model_fields.items():
            extra = field.json_schema_extra
            for value in (extra.get("by_effort", {}) if isinstance(extra, dict) else {}).values():
                required = {key: {"layer": 0, "row": 0, "col": 0, "vector": "v", "source": "s"}.get(key, "x")
                            for key, other in each.model_fields.items() if other.is_required()}  # fmt: skip
                try:
                    each.model_validate({**required, name: value})
                except ValueError as error:
                    assert name not in str(error), f"{each.__name__}.{name}: {error}"
                checked += 1
    assert checked > 60


def test_keys_that_are_written_win_over_the_effort():
    told = complete(effort="quick", interventions={"draws": 7}, ablations={"x": {"random": {}, "scale": {}}})
    assert (told["interventions"]["draws"], told["interventions"]["shift_draws"]) == (7, 20)
    assert told["ablations"]["x"]["random"]["draws"] == 3
    assert complete(effort="quick", ablations={"x": {"random": {"draws": 9}}})["ablations"]["x"]["random"]["draws"] == 9
    assert complete(effort="quick", tasks={"arc_easy": {}})["tasks"]["arc_easy"]["limit"] == 100
    assert complete(effort="quick", tasks={"arc_easy": {"limit": None}})["tasks"]["arc_easy"]["limit"] is None


def test_a_model_has_an_effort_and_sections_of_its_own():
    models = {
        "a": {"source": "x", "effort": "quick", "super_weights": {"spike_threshold": 60.0}, "windows": None},
        "b": {"source": "y", "interventions": {"draws": 5}},
    }
    told = configured({"models": models, "super_weights": {"min_rho": 0.25}, "cascade": {"tokens": 99}}, "c")
    a, b = told["models"]["a"], told["models"]["b"]
    assert (a["effort"], b["effort"], told["effort"]) == ("quick", "standard", "standard")
    assert (a["super_weights"]["spike_threshold"], b["super_weights"]["spike_threshold"]) == (60.0, None)
    assert a["super_weights"]["min_rho"] == b["super_weights"]["min_rho"] == 0.25
    assert (a["interventions"]["draws"], b["interventions"]["draws"]) == (20, 5)
    # What is written for all wins over the effort of one.
    assert a["cascade"]["tokens"] == b["cascade"]["tokens"] == told["cascade"]["tokens"] == 99
    assert (a["ablations"]["super_weights"]["random"]["draws"], b["ablations"]["super_weights"]["random"]["draws"]) == (
        3,
        5,
    )
    assert a["tasks"]["order"]["limit"] == 100 and b["tasks"]["order"]["limit"] is None


def test_every_section_of_a_model_is_one_of_the_configuration_and_lookups_take_it():
    told = configured({"models": {"a": {"source": "x", "effort": "quick"}, "b": {"source": "y"}}}, "c")
    assert set(OwnSettings.model_fields) <= set(Configuration.model_fields)
    selection = Selection(told, [])
    for section in OwnSettings.model_fields:
        assert set(selection.section(section, "a")) == set(told[section]), section
    assert selection.section("weight_attribution", "a")["tokens"] == 1024
    assert selection.section("weight_attribution", "b") == selection.section("weight_attribution")


def test_a_corpus_of_ones_own():
    corpora = {"one": {"source": "one.txt"}, "two": {"source": "two.txt"}}
    own = {"a": {"source": "x", "windows": {"corpus": "two"}}, "b": {"source": "y"}}
    selection = Selection(configured({"models": own, "corpora": corpora}, "c"), [])
    assert (selection.corpus_of("windows", "a"), selection.corpus_of("windows", "b")) == ("two", "one")
    own["a"]["windows"]["corpus"] = "tow"
    with pytest.raises(AtlasError, match="unknown corpus 'tow'") as caught:
        Selection(configured({"models": own, "corpora": corpora}, "c"), [])
    assert caught.value.where == "configuration: models.a.windows.corpus"


def seeds(value, path=""):
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "seed" and path:
                yield path, each
            else:
                yield from seeds(each, f"{path}.{key}")


def test_one_seed_for_all_steps_that_set_none():
    sections = {
        "interventions": {"seed": 3},
        "ablations": {"x": {"random": {"seed": 4}, "token_rows": {"vector": "v"}}},
    }
    before, told = dict(seeds(complete(**sections))), dict(seeds(complete(seed=42, **sections)))
    assert len(told) > 15 and before.keys() == told.keys()
    own = {path for path, seed in told.items() if seed != 42}
    assert own == {path for path in told if path.endswith(("interventions", "ablations.x.random"))}
    assert before[".tasks.order"] == 1234 and told[".tasks.order"] == 42


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"effort": "fast"}, ["effort: should be 'quick', 'standard' or 'thorough', not 'fast'"]),
        ({"effort": None}, ["effort: should be 'quick', 'standard' or 'thorough', not None"]),
        ({"models": {"a": {"source": "x", "effort": "slow"}}}, ["models.a.effort", "'thorough', not 'slow'"]),
        ({"seed": -1}, ["seed: should be greater than or equal to 0, not -1"]),
        ({"models": {"a": {"source": "x", "super_weights": {"spike_treshold": 1}}}},
         ["models.a.super_weights.spike_treshold", "did you mean 'spike_threshold'?"]),
        ({"models": {"a": {"source": "x", "cascade": {"tokens": 0}}}}, ["models.a.cascade.tokens"]),
        ({"models": {"a": {"source": "x", "variant_perplexity": {"corpora": []}}}}, ["unknown key 'corpora'"]),
    ],
)  # fmt: skip
def test_one_message_for_what_is_wrong(change, parts):
    with pytest.raises(AtlasError) as error:
        configured({"models": MODELS, **change}, "config.yaml")
    for part in parts:
        assert part in str(error.value)


def test_the_record_of_a_model_says_what_holds_for_it():
    told = configured({"models": {"a": {"source": "x", "effort": "quick"}, "b": {"source": "y"}}, "seed": 5}, "c")
    record = recorded.read(run_config.of_model(told, "a", ["super_weights"]))
    assert (record["source"], record["effort"], record["seed"]) == ("x", "quick", 5)
    assert record["analyses"] == ["super_weights"]
    assert record["settings"]["super_weight_verification"]["draws"] == 25
    assert record["settings"]["ablations"]["super_weights"]["random"] == {"draws": 3, "seed": 5}
    whole = recorded.read(run_config.of_run(told))
    assert "models" not in whole and whole["super_weight_verification"]["draws"] == 50


def test_an_infinite_factor_can_be_recorded():
    told = complete(scaling_sweep={"factors": [float("inf"), 1.0]})
    factors = recorded.read(run_config.of_run(told))["scaling_sweep"]["factors"]
    assert factors == ["Infinity", 1.0]
    json.dumps(factors, allow_nan=False)
