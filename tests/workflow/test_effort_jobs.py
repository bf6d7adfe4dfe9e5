"""What another effort runs again: exactly the jobs to which it gives other values."""

import pytest
import yaml
from in_process import jobs_of

from weight_atlas.ablations.choices import Choices
from weight_atlas.costs.plan import STEPS, planned
from weight_atlas.settings.analyses import ANALYSES
from weight_atlas.workflow.configuration import configured
from weight_atlas.workflow.selection import Selection

pytestmark = pytest.mark.slow

MODELS = {
    "one": {"source": "bundled:demo", "analyses": ["weight_attribution", "cascade", "impact_summary", "effective_rank"]}
}
RECORDS = {"atlas", "run_configs"}  # write down all settings


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """What Snakemake compares of all jobs of a configuration: by the rule and what it is of, its options."""

    def values(**sections):
        folder = tmp_path_factory.mktemp("jobs")

        (folder / "config.yaml").write_text(yaml.safe_dump({"models": MODELS, **sections}))
        return {(job.rule.name, "/".join(job.wildcards)): repr(job.params.get("options")) for job in jobs_of(folder)}

    return values


def changed(before, after):
    assert before.keys() == after.keys()
    return {rule for (rule, of), options in after.items() if before[rule, of] != options}


def test_the_standard_effort_spelled_out_is_the_default(values):
    assert changed(values(), values(effort="standard")) == set()


def test_another_effort_reaches_the_steps_that_run_the_model_alone(values):
    # Of the sweep fewer tasks are made, so that there are fewer jobs.
    told = {"scaling_sweep": {"tasks": None}}
    again = changed(values(**told), values(**told, effort="quick"))
    assert {"weight_attribution", "cascade", "intervention_targets", "variant_perplexity"} <= again
    assert {"ablation_eval", "task_requests", "bundled_tasks"} <= again and again >= RECORDS
    assert not again & {"effective_rank", "fetch_checkpoint", "super_weights", "impact_summary", "corpus"}


def test_an_effort_of_which_all_keys_are_overridden_changes_the_record_alone(values):
    kept = {
        "weight_attribution": {"tokens": 512}, "cascade": {"tokens": 256}, "windows": {"tokens": 2048},
        "intervention_targets": {"most": 4}, "variant_perplexity": {"tokens": 1024, "window": 128},
        "scaling_sweep": {"factors": [0.0, 2.0], "tasks": None}, "bundled_tasks": {"items": 10},
        "quantization_ablation": {"formats": ["int8"], "granularities": ["channel"], "activations": []},
        "ablations": {"x": {"zero": {}, "random": {"draws": 2}}},
        "tasks": {"order": {"name": "bundled:order", "limit": 5}},
    }  # fmt: skip
    assert changed(values(**kept), values(**kept, effort="thorough")) == RECORDS


def test_a_models_own_section_changes_the_jobs_of_that_model_alone(values):
    models = {"one": MODELS["one"], "two": {**MODELS["one"], "cascade": {"tokens": 77}}}
    before, after = values(models={**models, "two": MODELS["one"]}), values(models=models)
    again = {(rule, of) for (rule, of), options in after.items() if before[rule, of] != options}
    assert again == {("cascade", "two"), ("atlas", "two")}


def test_the_cost_is_estimated_of_all_jobs_that_run_a_model_and_no_others(tmp_path):
    recipes = {"six": {"format": "llama.cpp", "bits": 6}, "four": {"format": "llama.cpp", "bits": 4}}
    config = {"models": {"all": {"source": "bundled:demo"}}, "recipes": recipes}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    names = ("ablation", "corpus", "task", "recipe")
    jobs = {
        (job.rule.name, job.wildcards.model, *filter(None, map(job.wildcards.get, names)))
        for job in jobs_of(tmp_path)
        if job.rule.name in STEPS
    }
    complete = configured(config, "c")
    selection, choices = Selection(complete, ANALYSES), Choices(complete)
    assert {(each.step, each.model, *each.of) for each in planned(complete, "all", selection, choices)} == jobs
    assert len(jobs) > 20
