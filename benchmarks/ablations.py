"""Evaluations of edited models: one step for all variants of an ablation, against one run of the harness's own command
line for each saved variant.

    python benchmarks/ablations.py [--tasks order] [--draws 8] [--items 60]

Works with no network, on the bundled model and its tasks. Also shows what a variant costs beyond its forward passes:
evaluate_variants() against the harness's model calls alone. Scores of both ways are compared to the last digit. The
second table is of perplexity on windows: variants restarted at the layer that they edit, against plain passes.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from unittest.mock import patch

import cyclopts
import pandas as pd
import torch
import yaml

from weight_atlas.ablations import window_scores
from weight_atlas.ablations.bundled import bundled_items
from weight_atlas.ablations.encoder import encoder
from weight_atlas.ablations.harness import Harness, evaluate_variants
from weight_atlas.ablations.requests import build_requests, fill_requests
from weight_atlas.ablations.tasks import load_tasks
from weight_atlas.ablations.variants import variants_of
from weight_atlas.artifacts import write_json, write_table
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.interventions import measure
from weight_atlas.interventions.intervention import applied
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.load import load_model
from weight_atlas.live.windows import corpus_windows
from weight_atlas.tokens.python_docs import python_docs
from weight_atlas.tokens.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]
DEFINITIONS = ROOT / "src/weight_atlas/data/demo/tasks"
MODEL = ROOT / "src/weight_atlas/data/demo/model"
SUPER_WEIGHT = {"layer": 1, "row": 7, "col": 11}
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
app = cyclopts.App(help=__doc__)


def timed(command: list) -> float:
    """CPU seconds of a command: on one thread what it takes on an idle machine."""
    before = os.times()
    subprocess.run([*map(str, command)], check=True, capture_output=True, env=ENVIRONMENT)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def step(name: str, *arguments: object) -> float:
    return timed([sys.executable, ROOT / f"scripts/{name}.py", *arguments])


def by_command_line(folder: Path, task: str, model: Path, batch: int) -> tuple[float, dict]:
    """CPU seconds and scores of one `lm-eval run` on a saved checkpoint."""
    definitions, out = folder / "definitions", Path(mkdtemp(dir=folder))
    definitions.mkdir(exist_ok=True)
    definition = yaml.safe_load((DEFINITIONS / f"{task}.yaml").read_text())
    definition["dataset_kwargs"] = {"data_files": {"test": str(folder / f"{task}.jsonl")}}
    (definitions / f"{task}.yaml").write_text(yaml.safe_dump(definition))
    command = [Path(sys.executable).parent / "lm-eval", "run", "--model", "hf", "--device", "cpu", "--tasks", task]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", definitions]
    seconds = timed([*command, "--output_path", out, "--batch_size", batch])
    (result,) = out.rglob("results_*.json")
    return seconds, json.loads(result.read_text())["results"][task]


def beyond_forward(folder: Path, task: str, settings: dict, batch: int) -> tuple[float, float]:
    """CPU seconds of evaluate_variants for all variants, and of the harness's model calls for them alone."""
    checkpoint = Checkpoint.from_folder(MODEL)
    tokenizer, live = (
        load_tokenizer(checkpoint.folder, trust_remote_code=False),
        anatomy(load_model(checkpoint, dtype="auto", trust_remote_code=False)),
    )
    files = {"definition": DEFINITIONS / f"{task}.yaml", "data": folder / f"{task}.jsonl"}
    loaded, lm = load_tasks(task, **files), Harness(live, tokenizer, batch_size=batch)
    requests = build_requests(
        load_tasks(task, **files),
        encoder(checkpoint, tokenizer, trust_remote_code=False),
        limit=None,
        truncate=False,
        name=task,
    )
    fill_requests(loaded, requests, lm, limit=None)
    expansion = variants_of("all", settings, live, [Coordinate(1, 7, 11)], prompt=(0, 50))
    instances = loaded["tasks"][task].instances
    call = getattr(lm, instances[0].request_type)
    call(instances[:4])
    whole, forward = [], []
    for _ in range(3):  # the least of several: what else runs on the machine slows some
        start = time.process_time()
        for variant in expansion.variants:
            with applied(live, variant):
                call(instances)
        forward.append(time.process_time() - start)
        start = time.process_time()
        evaluate_variants(live, lm, loaded, expansion, limit=None)
        whole.append(time.process_time() - start)
    return min(whole), min(forward)


def restarts(text: pd.DataFrame, draws: int, tokens: int) -> dict[str, object]:
    """CPU seconds of perplexity under random draws in the last layer but one, restarted and by plain passes."""
    checkpoint = Checkpoint.from_folder(MODEL)
    tokenizer, live = (
        load_tokenizer(checkpoint.folder, trust_remote_code=False),
        anatomy(load_model(checkpoint, dtype="auto", trust_remote_code=False)),
    )
    windows = corpus_windows(text, tokenizer, window=256, tokens=tokens, limit=live.context, where="text")
    layer = len(live.layers) - 2
    settings = {
        "weights": [{"layer": layer, "row": 3, "col": 5}],
        "random": {"draws": draws},
        "scale": {"factors": [0]},
    }
    expansion = variants_of("all", settings, live, [])
    seconds, tables = {}, {}
    for name, restart in (("restarted", measure.pays), ("plain", lambda *given, **options: False)):
        with patch.object(measure, "pays", restart):
            start = time.process_time()
            tables[name], _ = window_scores.score_variants(live, windows, expansion, batch_size=None)
            seconds[name] = time.process_time() - start
    apart = (tables["restarted"].nll / tables["plain"].nll - 1).abs().max()
    return {
        "variants": draws + 1, "layer": layer, "of": len(live.layers), "windows": len(windows),
        "plain [s]": seconds["plain"], "restarted [s]": seconds["restarted"],
        "times faster": seconds["plain"] / seconds["restarted"], "largest relative difference": f"{apart:.1e}",
    }  # fmt: skip


@app.default
def main(tasks: list[str] | None = None, draws: int = 8, items: int = 60, batch: int = 8, runs: int = 2) -> None:
    """Print the table.

    draws: variants. runs: of the command line that are timed for each task; their mean stands for all variants.
    """
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for task, table in bundled_items(python_docs("test"), items=items, seed=0).items():
            write_table(folder / f"{task}.jsonl", table)
        manifest = folder / "manifest.json"
        step("fetch_checkpoint", "--manifest", manifest, "--source", MODEL)
        settings = {"weights": [SUPER_WEIGHT], "scale": {"factors": [1 - i / draws for i in range(draws)]}}
        write_json(folder / "settings.json", settings)
        for task in tasks or ["order", "documents", "phrase"]:
            files = ["--definition", DEFINITIONS / f"{task}.yaml", "--data", folder / f"{task}.jsonl"]
            files += ["--checkpoint", manifest]
            files += ["--requests", folder / f"{task}.parquet", "--description", folder / f"{task}.json"]
            building = step("task_requests", *files, "--task", task)
            outputs = ["--scores", folder / "scores.json", "--documents", folder / "documents.parquet"]
            ours = step("ablation_eval", *files, *outputs, "--ablation", "scaled", "--batch-size", batch,
                        "--changes", json.dumps(settings))  # fmt: skip
            unchanged = json.loads((folder / "scores.json").read_text())["variants"][0]["results"][task]
            theirs = [by_command_line(folder, task, MODEL, batch) for _ in range(runs)]
            same = all(theirs[0][1][metric] == value for metric, value in unchanged.items())
            alone = sum(seconds for seconds, _ in theirs) / runs
            whole, forward = beyond_forward(folder, task, settings, batch)
            rows.append(
                {
                    "task": task, "variants": draws, "requests [s]": building, "one step [s]": ours,
                    "command line, each [s]": alone, "times faster": draws * alone / (ours + building),
                    "over forward": whole / forward, "same scores": same,
                }
            )  # fmt: skip
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    text = python_docs("test")
    table = pd.DataFrame([restarts(text, number, tokens) for number in (4, 40) for tokens in (2048, 16384)])
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    app()
