"""The harness's own definitions of the usual benchmarks, on small mirrors of their data, through both steps."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from steps import step

from weight_atlas.ablations.tasks import load_tasks, own_folders
from weight_atlas.artifacts import read_json, read_table
from weight_atlas.errors import AtlasError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FOLDERS = {
    "hellaswag": "hellaswag", "arc_easy": "arc", "arc_challenge": "arc", "winogrande": "winogrande", "piqa": "piqa",
    "sciq": "sciq", "lambada_openai": "lambada", "gsm8k": "gsm8k", "mmlu": "mmlu/default",
}  # fmt: skip
CHANGES = json.dumps({"weights": [{"layer": 1, "row": 7, "col": 11}], "zero": {}})


def hellaswag(n):
    endings = ["sits down.", "flies off [title] soon.", "reads.", "sings."]
    row = {"ctx_a": f"A man {n} walks in.", "ctx_b": "he", "activity_label": "Sitting", "endings": endings}
    return {**row, "label": str(n % 4)}


def arc(n):
    labels = ["A", "B", "C", "D"] if n % 2 else ["1", "2", "3"]
    choices = {"text": [f"thing {label}" for label in labels], "label": labels}
    return {"question": f"What is {n}?", "choices": choices, "answerKey": labels[n % 3]}


def mmlu(n):
    return {"question": f" What is {n}? ", "choices": ["one", "two", "three", "four"], "answer": n % 4}


# data set on the hub: parts (None: it has none), splits, and the n-th row.
MIRROR = {
    "Rowan/hellaswag": ([None], ("train", "validation"), hellaswag),
    "allenai/ai2_arc": (["ARC-Easy", "ARC-Challenge"], ("train", "validation", "test"), arc),
    "allenai/winogrande": (
        ["winogrande_xl"], ("train", "validation"),
        lambda n: {"sentence": f"Ann met Eve {n} times and _ was glad.", "option1": "Ann", "option2": "Eve",
                   "answer": str(n % 2 + 1)},
    ),
    "baber/piqa": (
        [None], ("train", "validation"), lambda n: {"goal": f"Cut {n}", "sol1": "knife", "sol2": "pen", "label": n % 2}
    ),
    "allenai/sciq": (
        [None], ("train", "validation", "test"),
        lambda n: {"question": f"What {n}?", "distractor1": "a", "distractor2": "b", "distractor3": "c",
                   "correct_answer": "d", "support": " It is d."},
    ),
    "EleutherAI/lambada_openai": (["default"], ("test",), lambda n: {"text": f"They saw {n} and it went as well"}),
    "openai/gsm8k": (
        ["main"], ("train", "test"),
        lambda n: {"question": f"What is {n} and 1?", "answer": f"Add them.\n#### {n + 1}"},
    ),
    "cais/mmlu": (["astronomy", "virology"], ("test", "validation", "dev"), mmlu),
}  # fmt: skip
SHOTS = {"hellaswag": 1, "mmlu_two": 2, "gsm8k": None}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """Copies as `hf download --repo-type dataset` leaves them: parquet files, and a README.md that lists the parts."""
    root = tmp_path_factory.mktemp("mirror")
    for name, (parts, splits, row) in MIRROR.items():
        configs = []
        for part in parts:
            for split in splits:
                path = root / name / (part or "data") / f"{split}-00000-of-00001.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                pd.DataFrame([row(n) for n in range(6)]).to_parquet(path)
            files = [{"split": split, "path": f"{part or 'data'}/{split}-*"} for split in splits]
            configs += [{"config_name": part or "default", "data_files": files}]
        (root / name / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return root


@pytest.fixture(scope="module")
def two_subjects(tmp_path_factory):
    """A group of two subjects of MMLU, by the harness's own definitions of them."""
    folder = tmp_path_factory.mktemp("definitions")
    names = ["mmlu_astronomy", "mmlu_virology"]
    (source,) = own_folders(["mmlu/default"])
    for name in names:
        (folder / f"{name}.yaml").write_text(f"include: {source / name}.yaml\ntask: {name}\n")
    group = {"group": "mmlu_two", "task": names, "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}]}
    (folder / "mmlu_two.yaml").write_text(yaml.safe_dump(group))
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    step("fetch_checkpoint", "--manifest", work / "manifest.json", "--source", "bundled:demo")
    return work


@pytest.fixture(scope="module")
def all_tasks():
    """The harness's own index of its tasks, made once: reading all their definitions takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


@pytest.fixture
def read_once(monkeypatch, all_tasks):
    made = type(all_tasks)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **chosen: made(**chosen) if chosen else all_tasks)


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize(
    ("task", "metrics", "chance"),
    [
        ("hellaswag", {"acc", "acc_norm"}, 0.25),
        ("arc_easy", {"acc", "acc_norm"}, (0.25 + 1 / 3) / 2),
        ("arc_challenge", {"acc", "acc_norm"}, (0.25 + 1 / 3) / 2),
        ("winogrande", {"acc"}, 0.5),
        ("piqa", {"acc", "acc_norm"}, 0.5),
        ("sciq", {"acc", "acc_norm"}, 0.25),
        ("lambada_openai", {"acc", "perplexity"}, 0),
        ("gsm8k", {"exact_match"}, 0),
        ("mmlu_two", {"acc"}, 0.25),
    ],
)
def test_a_benchmark_runs_from_a_mirror(work, mirror, two_subjects, monkeypatch, task, metrics, chance):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", work / "cache")
    common = ["--checkpoint", work / "manifest.json", "--mirror", mirror]
    common += ["--folder", two_subjects] if task == "mmlu_two" else []
    outputs = ["--requests", work / f"{task}.parquet", "--description", work / f"{task}.json"]
    asked = ["--fewshot", SHOTS[task]] if SHOTS.get(task) is not None else []
    asked += ["--truncate"] if task == "gsm8k" else []
    step("task_requests", *common, *outputs, "--task", task, "--limit", 4, *asked)
    scores, documents = work / f"{task}-mine.json", work / f"{task}-mine.parquet"
    found = ["--scores", scores, "--documents", documents, "--ablation", "mine", "--changes", CHANGES]
    step("ablation_eval", *common, *outputs, *found)
    about, table = read_json(work / f"{task}.json"), read_table(documents)
    assert set(table.metric) == metrics and table.groupby(["task", "metric", "filter"]).size().eq(4).all()
    assert list(about["chance"].values()) == pytest.approx([chance] * len(about["chance"]))
    if task == "gsm8k":
        assert set(table["filter"]) == {"strict-match", "flexible-extract"}
    if task == "mmlu_two":
        assert set(table.task) == {"mmlu_astronomy", "mmlu_virology"}
        (variant,) = read_json(scores)["variants"]
        assert variant["groups"]["mmlu_two"]["acc,none"] == pytest.approx(table.value.mean())


@pytest.mark.parametrize("task", FOLDERS)
def test_without_network_each_benchmark_says_so_once(task, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(AtlasError, match=f"the data of task {task} cannot be reached: Couldn't reach") as caught:
        load_tasks(task, folders=own_folders([FOLDERS[task]]))
    assert "`mirror` of this task" in caught.value.remedy and "network" in caught.value.remedy


def test_every_benchmark_is_known_by_name_and_where_the_harness_defines_it(all_tasks):
    index = all_tasks.task_index
    (place,) = own_folders(["."])
    for name, folder in FOLDERS.items():
        assert index[name].yaml_path.parent.resolve() == (place / folder).resolve()
