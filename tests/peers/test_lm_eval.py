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
from steps import step

from weight_atlas.artifacts import read_table

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "src/weight_atlas/data/demo"
TASKS = ("order", "documents", "phrase")
BATCH = 8
# Its command lines, each a JSON list, one after the other in a process of its own.
HARNESS = """
import json, sys
from lm_eval.__main__ import cli_evaluate
for line in sys.argv[1:]:
    sys.argv = json.loads(line)
    cli_evaluate()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The bundled model's manifest, the tasks' items, and a copy of the model saved without its super weight."""
    folder = tmp_path_factory.mktemp("work")
    model = folder / "edited"
    shutil.copytree(DEMO / "model", model)
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


@pytest.fixture(scope="module")
def theirs(work):
    """theirs[ablation][task]: what `lm-eval run` says of the two saved checkpoints."""
    definitions = work / "definitions"
    definitions.mkdir()
    for task in TASKS:
        definition = yaml.safe_load((DEMO / f"tasks/{task}.yaml").read_text())
        definition["dataset_kwargs"] = {"data_files": {"test": str(work / f"{task}.jsonl")}}
        (definitions / f"{task}.yaml").write_text(yaml.safe_dump(definition))
    models = {"baseline": DEMO / "model", "zeroed": work / "edited"}
    lines = []
    for name, model in models.items():
        line = ["lm-eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"]
        line += ["--tasks", ",".join(TASKS), "--include_path", definitions, "--output_path", work / f"cli-{name}"]
        lines.append(json.dumps([*map(str, line), "--batch_size", str(BATCH), "--device", "cpu"]))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(work / "cache")}
    command = [sys.executable, "-c", HARNESS, *lines]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for name in models:
        (result,) = (work / f"cli-{name}").rglob("results_*.json")
        found[name] = json.loads(result.read_text())["results"]
    return found


@pytest.mark.parametrize("task", TASKS)
def test_scores_equal_those_of_the_command_line_to_the_last_digit(work, theirs, task):
    files = ["--definition", DEMO / f"tasks/{task}.yaml", "--data", work / f"{task}.jsonl"]
    common = ["--checkpoint", work / "manifest.json", *files]
    requests = ["--requests", work / f"{task}.parquet", "--description", work / f"{task}.json"]
    step("task_requests", *common, *requests, "--task", task)
    weight = ["--changes", json.dumps({"weights": [{"layer": 1, "row": 7, "col": 11}], "zero": {}})]
    for ablation in ("baseline", "zeroed"):
        scores, documents = work / f"{task}-{ablation}.json", work / f"{task}-{ablation}.parquet"
        step("ablation_eval", *common, *requests, "--scores", scores, "--documents", documents, "--ablation", ablation,
             "--batch-size", BATCH, *weight)  # fmt: skip
        (ours,) = json.loads(scores.read_text())["variants"]
        assert ours["results"][task]
        for metric, value in ours["results"][task].items():
            assert value == theirs[ablation][task][metric], (ablation, metric)
        assert not {"date", "git_hash"} & set(ours)
    both = [read_table(work / f"{task}-{ablation}.parquet") for ablation in ("baseline", "zeroed")]
    assert not pd.Series(both[0].value == both[1].value).all()
