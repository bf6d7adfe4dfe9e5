"""Evaluations are cached by model, ablation and task: what is added runs, and nothing else."""

import copy
import json
import math
import re
import shutil

import pandas as pd
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
    "quantization_ablation": {
        "formats": ["int4"],
        "granularities": ["tensor"],
        "matrices": "W_down",
        "activations": [],
    },
}
RECORDS = {"run_configs"}
DERIVED = {
    ("impact_summary", ""),
    ("impact_comparison", ""),
    ("atlas", ""),
    ("overview", ""),
}


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
    """(rule, what it is about) of every job that a run would run now: ablation, task and corpus of its wildcards.

    Without the records of all settings, which any change of them makes again.
    """
    shown = run(project, "--dry-run", "--quiet", "progress")
    found = set()
    for block in re.split(r"\n\s*\n|\n(?=\[)", shown.stdout + shown.stderr):
        if match := re.search(r"^(?:local)?rule (\w+):", block, flags=re.M):
            wildcards = dict(re.findall(r"(\w+)=([^,\n]+)", (re.search(r"wildcards: (.*)", block) or [""])[0]))
            about = [wildcards[name] for name in ("ablation", "task", "corpus") if name in wildcards]
            found.add((match[1], " ".join(about)))
    return {job for job in found if job[0] not in ("all", "impact_summaries", *RECORDS)}


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
    assert {rule for rule, _ in jobs(project)} == {rule for rule, _ in DERIVED}


def test_a_failing_task_leaves_the_others_alone(project):
    before = digests(project.folder / "results/ablation_eval")
    configure(project, changed(tasks={"unheard": {"name": "ordre", "folder": "src/weight_atlas/data/demo/tasks"}}))
    done = run(project, "--keep-going", check=False)
    assert done.returncode == 1
    assert "there is no task 'ordre'" in done.stdout + done.stderr and "did you mean order" in done.stdout + done.stderr
    assert digests(project.folder / "results/ablation_eval") == before


def test_an_ablation_may_be_restricted_to_tasks(project):
    restricted = {"neurons": {}, "random": {"draws": 2}, "tasks": []}
    configure(project, changed(ablations={"second": restricted}))
    assert jobs(project) == {("variant_perplexity", "second text"), *DERIVED}
    # What tasks an ablation is evaluated on does not change what it is.
    configure(project, changed(ablations={"first": {"zero": {}, "tasks": []}}))
    assert {rule for rule, _ in jobs(project)} == {rule for rule, _ in DERIVED}


def own_task(project, answer):
    """A task of one's own, with data outside its folder, the first of whose answers is `answer`."""
    folder = project.folder / "own"
    folder.mkdir(exist_ok=True)
    definition = {
        "task": "mine", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "answers.jsonl"}},
        "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "{{q}}",
        "doc_to_choice": ["yes", "no"], "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "mine.yaml").write_text(yaml.safe_dump(definition))
    rows = [{"q": f"Is {n} a number", "label": answer if n == 0 else 0} for n in range(4)]
    (project.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_changed_answers_of_a_task_of_ones_own_run_its_evaluations_again(project):
    own_task(project, 0)
    tasks = {"mine": {"folder": "own"}}
    configure(project, changed(tasks=tasks))
    run(project)
    assert jobs(project) == set()
    before = json.loads((project.folder / "results/task_requests/demo/mine.json").read_text())
    own_task(project, 1)
    evaluations = {("task_requests", "mine"), ("ablation_eval", "baseline mine"), ("ablation_eval", "first mine")}
    assert {job for job in jobs(project) if job[0] in ("task_requests", "ablation_eval")} == evaluations
    # An added ablation must not be scored against other answers than the baseline.
    configure(project, changed(tasks=tasks, ablations={"second": {"neurons": {}}}))
    run(project)
    after = json.loads((project.folder / "results/task_requests/demo/mine.json").read_text())
    assert after["data"]["mine"]["documents"] != before["data"]["mine"]["documents"]
    assert jobs(project) == set()
    shutil.rmtree(project.folder / "results/ablation_eval/demo/second")


def test_an_ablation_that_does_nothing_here_is_a_row_of_the_summary(project):
    configure(project, changed(ablations={"none": {"experts": {}, "scale": {"factors": [0.5, math.inf]}, "tasks": []}}))
    run(project)
    rows = pd.read_csv(project.folder / "results/impact_summary/demo.csv")
    mine = rows[rows.ablation == "none"].set_index("variant")
    assert mine.severity.to_dict() == {
        "none: x 0.5": mine.severity["none: x 0.5"], "none: x inf": "not finite", "none: experts": "no variants"
    }  # fmt: skip
    assert "expert" in mine.note["none: experts"]


def refused(project, **sections):
    configure(project, CONFIG | sections)
    done = run(project, "--dry-run", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_can_be_refused_is_refused_before_anything_runs(project):
    weight = {"layer": 1, "row": 7, "col": 11}
    assert "at least one kind of change" in refused(project, ablations={"nochange": {"weights": [weight]}})
    assert "should have at least 1 item" in refused(project, ablations={"mine": {"zero": {}, "weights": []}})
    assert "each item once" in refused(project, ablations={"mine": {"scale": {"factors": [0.5, 0.5]}}})
    assert "each item once" in refused(project, quantization_ablation={"formats": ["int8", "int8"]})
    assert "should be less than 1" in refused(project, tasks={"order": {"name": "bundled:order", "limit": 1.5}})
    assert "did you mean 'order'" in refused(project, ablations={"mine": {"zero": {}, "tasks": ["ordr"]}})


def test_weights_by_hand_that_do_not_exist_are_said_before_a_model_is_loaded(project):
    sweep = {"factors": [0, 1], "tasks": [], "weights": [{"layer": 1, "row": 7, "col": 10**6}]}
    configure(project, CONFIG | {"scaling_sweep": sweep} | {"models": {"demo": {"source": "bundled:demo"}}})
    wanted = "results/variant_perplexity/demo/scaling_sweep/text.parquet"
    done = project.snakemake("--configfile", "mine.yaml", "--", wanted, check=False)
    assert done.returncode == 1 and "col 1000000 lies outside W_down in layer 1" in done.stdout + done.stderr


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
