"""Evaluations are cached by model, ablation and task: what is added runs, and nothing else."""

import copy
import json
import re

import pytest
import yaml
from project import Project, digests

pytestmark = pytest.mark.slow

CONFIG = {
    "models": {"demo": {"source": "bundled:demo", "analyses": ["super_weights", "impact_summary"]}},
    "corpora": {"text": {"source": "bundled:python-docs"}},
    "ablations": {"first": {"zero": {}}},
    "tasks": {"order": {"name": "bundled:order"}},
    "bundled_tasks": {"items": 8},
    "variant_perplexity": {"tokens": 1024},
    "scaling_sweep": {"factors": [0, 1], "tasks": []},
    "quantization_ablation": {"formats": ["int4"], "granularities": ["tensor"], "matrices": "W_down"},
}
DERIVED = {("ablation_impact", "second"), ("impact_summary", ""), ("impact_comparison", ""), ("atlas", "")}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project.copy(tmp_path_factory.mktemp("caching") / "project")
    configure(project, CONFIG)
    run(project)
    return project


def configure(project, config):
    (project.folder / "mine.yaml").write_text(yaml.safe_dump(config))


def run(project, *arguments, **keywords):
    return project.snakemake("--configfile", "mine.yaml", *arguments, "--", "all", "impact_summaries", **keywords)


def jobs(project):
    """(rule, what it is about) of every job that a run would run now: ablation, task and corpus of its wildcards."""
    shown = run(project, "--dry-run", "--quiet", "progress")
    found = set()
    for block in re.split(r"\n\s*\n|\n(?=\[)", shown.stdout + shown.stderr):
        if match := re.search(r"^(?:local)?rule (\w+):", block, flags=re.M):
            wildcards = dict(re.findall(r"(\w+)=([^,\n]+)", (re.search(r"wildcards: (.*)", block) or [""])[0]))
            about = [wildcards[name] for name in ("ablation", "task", "corpus") if name in wildcards]
            found.add((match[1], " ".join(about)))
    return {job for job in found if job[0] not in ("all", "impact_summaries")}


def changed(**sections):
    config = copy.deepcopy(CONFIG)
    for section, values in sections.items():
        config[section] |= values
    return config


def test_nothing_is_left_to_do(project):
    configure(project, CONFIG)
    assert jobs(project) == set()


def test_an_added_ablation_runs_its_own_evaluations_only(project):
    configure(project, changed(ablations={"second": {"neurons": {}, "random": {"draws": 2}}}))
    assert jobs(project) == {("ablation_eval", "second order"), ("variant_perplexity", "second text"), *DERIVED}


def test_a_changed_ablation_runs_again_alone(project):
    configure(project, changed(ablations={"first": {"zero": {}, "restore": {}}}))
    derived = {(rule, about.replace("second", "first")) for rule, about in DERIVED}
    assert jobs(project) == {("ablation_eval", "first order"), ("variant_perplexity", "first text"), *derived}


def test_an_added_task_runs_on_every_ablation_and_no_other_task_does(project):
    configure(project, changed(tasks={"phrase": {"name": "bundled:phrase"}}))
    evaluations = {job for job in jobs(project) if job[0] in ("task_requests", "ablation_eval", "variant_perplexity")}
    assert evaluations == {
        ("task_requests", "phrase"),
        ("ablation_eval", "baseline phrase"),
        ("ablation_eval", "first phrase"),
    }


def test_other_settings_of_the_comparison_run_no_evaluation(project):
    configure(project, changed(bundled_tasks={}) | {"ablation_impact": {"resamples": 500}})
    assert {rule for rule, _ in jobs(project)} == {"ablation_impact", "impact_summary", "impact_comparison", "atlas"}


def test_a_failing_task_leaves_the_others_alone(project):
    before = digests(project.folder / "results/ablation_eval")
    configure(project, changed(tasks={"unheard": {"name": "ordre", "folder": "resources/demo/tasks"}}))
    done = run(project, "--keep-going", check=False)
    assert done.returncode == 1
    assert "there is no task 'ordre'" in done.stdout + done.stderr and "did you mean order" in done.stdout + done.stderr
    assert digests(project.folder / "results/ablation_eval") == before


def test_adding_for_real_leaves_every_other_byte(project):
    before = digests(project.folder / "results/ablation_eval")
    configure(project, changed(ablations={"second": {"neurons": {}}}))
    run(project)
    after = digests(project.folder / "results/ablation_eval")
    assert {name: after[name] for name in before} == before
    assert {name for name in after if name not in before} == {
        f"demo/second/order.{suffix}" for suffix in ("json", "parquet")
    }
    scores = json.loads((project.folder / "results/ablation_eval/demo/second/order.json").read_text())
    assert [variant["variant"] for variant in scores["variants"]] == ["second: neurons zeroed"]
