"""What the configuration says of ablations, their tasks and their corpora."""

import copy
import json

import pytest

from weight_atlas.ablations.choices import Choices
from weight_atlas.ablations.prepare import ablation_settings
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.configuration import configured

GIVEN = {"layer": 1, "row": 7, "col": 11}
TASK = {"folder": None, "mirror": None, "limit": None}
CONFIG = {
    "models": {"demo": {"dtype": "float32", "trust_remote_code": False, "source": "bundled:demo"}},
    "corpora": {"one": {}, "two": {}},
    "tasks": {
        "arc": {"name": None, **TASK, "limit": 5},
        "words": {"name": "bundled:order", **TASK},
        "unused": {"name": "sciq", **TASK},
    },
    "ablations": {
        "detected": {"weights": None, "zero": {}, "tasks": ["words"]},
        "given": {"weights": [GIVEN], "zero": {}, "tasks": []},
    },
    "scaling_sweep": {"weights": None, "factors": [0, 1], "tasks": ["arc"]},
    "quantization_ablation": {
        "weights": None, "formats": ["int4"], "granularities": ["channel"], "symmetric": True, "clip": 1.0,
        "matrices": None, "activations": ["int8/token"], "activations_beside": [], "tasks": ["words"],
    },
    "variant_perplexity": {"window": 8, "corpora": None},
    "ablation_eval": {"batch_tokens": 9},
}  # fmt: skip


def changed(section, **settings):
    config = copy.deepcopy(CONFIG)
    config[section] |= settings
    return config


def test_the_unchanged_model_and_the_two_products_are_ablations_like_the_configured_ones():
    choices = Choices(CONFIG)
    assert choices.ablations == ["baseline", "detected", "given", "scaling_sweep", "quantization_ablation"]
    assert choices.settings("demo", "baseline") == {}
    assert choices.settings("demo", "scaling_sweep") == {"weights": None, "scale": {"factors": [0, 1]}}
    quantize = {"formats": ["int4"], "granularities": ["channel"], "symmetric": True, "clip": 1.0, "matrices": None}
    quantize |= {"activations": ["int8/token"], "activations_beside": []}
    assert choices.settings("demo", "quantization_ablation") == {"weights": None, "quantize": quantize}


def test_what_analyses_ask_for_is_evaluated_and_nothing_else():
    choices = Choices(CONFIG)
    assert choices.compared(["impact_summary", "scaling_sweep"]) == choices.ablations
    assert choices.compared(["scaling_sweep", "super_weights"]) == ["baseline", "scaling_sweep"]
    assert choices.evaluations("demo", ["scaling_sweep"]) == [("baseline", "arc"), ("scaling_sweep", "arc")]
    everything = [("detected", "words"), ("scaling_sweep", "arc"), ("quantization_ablation", "words")]
    assert choices.evaluations("demo", ["impact_summary"]) == [("baseline", "arc"), ("baseline", "words"), *everything]
    # Of files that are asked for by name: not the sweeps, which are analyses.
    assert choices.compared([]) == ["baseline", "detected", "given"]
    assert choices.evaluations("demo", []) == [("baseline", "words"), ("detected", "words")]


def test_tasks_are_no_part_of_an_ablations_settings():
    """Else one more task would run the others again."""
    more = changed("ablations", detected={**CONFIG["ablations"]["detected"], "tasks": ["arc", "words"]})
    before, after = (Choices(config).variant_options("ablation_eval", "demo", "detected") for config in (CONFIG, more))
    assert before == after
    assert json.loads(before["changes"]) == {"weights": None, "zero": {}}


def test_the_unchanged_model_is_evaluated_on_what_any_ablation_is_compared_on():
    choices = Choices(CONFIG)
    assert choices.tasks_of("demo", "baseline") == ["arc", "words"]
    assert choices.tasks_of("demo", "given") == []
    every = Choices(changed("ablations", given={**CONFIG["ablations"]["given"], "tasks": None}))
    assert every.tasks_of("demo", "given") == every.tasks_of("demo", "baseline") == ["arc", "words", "unused"]


def test_a_job_reads_the_detected_weights_or_the_inventory_in_which_given_ones_lie():
    choices, patterns = Choices(CONFIG), {"super_weights": "found/{model}", "inventory": "tensors/{model}"}
    assert choices.weight_files("demo", "baseline", patterns) == {}
    assert choices.weight_files("demo", "detected", patterns) == {"super_weights": "found/{model}"}
    assert choices.weight_files("demo", "given", patterns) == {"inventory": "tensors/{model}"}


def test_files_and_names_of_tasks():
    choices, patterns = Choices(CONFIG), {"definition": "{bundled}.yaml", "data": "<results>/{bundled}.jsonl"}
    assert choices.task_files("words", patterns) == {"definition": "order.yaml", "data": "<results>/order.jsonl"}
    assert choices.task_files("arc", patterns) == {}
    assert choices.task_options("demo", "arc", "limit") == {"name": "arc", "limit": 5}
    assert [choices.task_options("demo", task)["name"] for task in ("words", "unused")] == ["order", "sciq"]


def test_a_task_of_ones_own_changes_with_its_files(tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mine")
    config = changed("tasks", arc={**CONFIG["tasks"]["arc"], "folder": str(tmp_path)})
    before = Choices(config).task_state("arc")
    assert before and Choices(config).task_state("words") is None


def test_perplexity_is_measured_on_the_chosen_corpora_else_the_first():
    assert (Choices(CONFIG).corpora, Choices(CONFIG).main_corpus) == (["one"], "one")
    assert Choices(changed("variant_perplexity", corpora=["two", "one"])).main_corpus == "two"
    options = Choices(CONFIG).variant_options("variant_perplexity", "demo", "baseline")
    assert options == {"window": 8, "dtype": "float32", "trust_remote_code": False, "changes": "{}"}


@pytest.mark.parametrize(
    ("section", "settings", "where"),
    [
        ("ablations", {"given": {"weights": [{"layer": 1}], "zero": {}, "tasks": []}}, "configuration: given"),
        ("scaling_sweep", {"tasks": ["wrds"]}, "configuration: scaling_sweep.tasks"),
        ("variant_perplexity", {"corpora": ["on"]}, "configuration: variant_perplexity.corpora"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_where(section, settings, where):
    with pytest.raises(AtlasError) as caught:
        Choices(changed(section, **settings))
    assert caught.value.where == where


def test_the_changes_of_a_step_are_checked_as_the_configuration_is():
    settings = Choices(configured({"models": {"m": {"source": "bundled:demo"}}}, "c")).settings("m", "super_weights")
    assert ablation_settings(json.dumps(settings), "a") == {**settings, "tasks": None}
    assert ablation_settings("{}", "a") == {}
    wrong = {"{": "no JSON", "[]": "mapping", '{"zero": 3}': "mapping", '{"zeros": {}}': "'zero'"}
    for text, said in {**wrong, '{"zero": {}, "weights": [{"row": 1}]}': "lies nowhere"}.items():
        with pytest.raises(AtlasError, match=said):
            ablation_settings(text, "a")
