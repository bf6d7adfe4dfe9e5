"""Scores against those of lm-evaluation-harness's own command line, on checkpoints saved with the same edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from weight_atlas.artifacts import read_table

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TASKS = {"order": 8, "documents": 8, "phrase": 8}
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def step(name, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / f"scripts/{name}.py", *map(str, arguments)], capture_output=True, text=True,
        env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The bundled model's manifest, the tasks' items, and a copy of the model saved without its super weight."""
    folder = tmp_path_factory.mktemp("work")
    model = folder / "edited"
    shutil.copytree(ROOT / "src/weight_atlas/data/demo/model", model)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][7, 11] = 0
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    step("fetch_checkpoint", "--manifest", folder / "manifest.json", "--source", "bundled:demo")
    text = {"source": "bundled:python-docs", "split": "test"}
    step("corpus", "--table", folder / "c.parquet", "--description", folder / "c.json",
         *(word for key, value in text.items() for word in (f"--{key}", value)))  # fmt: skip
    for task in TASKS:
        step("bundled_tasks", "--text", folder / "c.parquet", "--table", folder / f"{task}.jsonl",
             "--bundled", task, "--items", 30)  # fmt: skip
    return folder


def by_command_line(work, task, model, batch):
    """What `lm-eval run` says of a saved checkpoint."""
    definitions = work / "definitions"
    definitions.mkdir(exist_ok=True)
    definition = yaml.safe_load((ROOT / f"src/weight_atlas/data/demo/tasks/{task}.yaml").read_text())
    definition["dataset_kwargs"] = {"data_files": {"test": str(work / f"{task}.jsonl")}}
    (definitions / f"{task}.yaml").write_text(yaml.safe_dump(definition))
    out = work / f"cli-{task}-{model.name}"
    command = [BIN / "lm-eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"]
    command += ["--tasks", task, "--include_path", definitions, "--output_path", out, "--batch_size", batch]
    environment = {**ENVIRONMENT, "HF_DATASETS_CACHE": str(work / "cache")}
    done = subprocess.run(
        [*map(str, command), "--device", "cpu"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (result,) = out.rglob("results_*.json")
    return json.loads(result.read_text())["results"][task]


@pytest.mark.parametrize("task", TASKS)
def test_scores_equal_those_of_the_command_line_to_the_last_digit(work, task):
    files = ["--definition", ROOT / f"src/weight_atlas/data/demo/tasks/{task}.yaml", "--data", work / f"{task}.jsonl"]
    common = ["--checkpoint", work / "manifest.json", *files]
    requests = ["--requests", work / f"{task}.parquet", "--description", work / f"{task}.json"]
    step("task_requests", *common, *requests, "--task", task)
    weight = ["--changes", json.dumps({"weights": [{"layer": 1, "row": 7, "col": 11}], "zero": {}})]
    for ablation, model in (("baseline", ROOT / "src/weight_atlas/data/demo/model"), ("zeroed", work / "edited")):
        scores, documents = work / f"{task}-{ablation}.json", work / f"{task}-{ablation}.parquet"
        step("ablation_eval", *common, *requests, "--scores", scores, "--documents", documents, "--ablation", ablation,
             "--batch-size", TASKS[task], *weight)  # fmt: skip
        (ours,) = json.loads(scores.read_text())["variants"]
        theirs = by_command_line(work, task, model, TASKS[task])
        assert ours["results"][task]
        for metric, value in ours["results"][task].items():
            assert value == theirs[metric], (ablation, metric)
        assert not {"date", "git_hash"} & set(ours)
    both = [read_table(work / f"{task}-{ablation}.parquet") for ablation in ("baseline", "zeroed")]
    assert not pd.Series(both[0].value == both[1].value).all()
