"""A task on some interventions of a live model, from its name to its scores, in one process.

The workflow makes the same in two steps (task_requests, ablation_eval), so that requests are built once for all
ablations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from weight_atlas.ablations.bundled import bundled_items
from weight_atlas.ablations.bundled_names import bundled_task
from weight_atlas.ablations.harness import Harness, evaluate_variants
from weight_atlas.ablations.prepare import Opened
from weight_atlas.ablations.requests import build_requests, chance_levels, fill_requests
from weight_atlas.ablations.tasks import FEWSHOT_SEED, load_tasks
from weight_atlas.artifacts import write_table
from weight_atlas.errors import AtlasError


@dataclass(frozen=True)
class Evaluation:
    """What a task gives.

    scores: one row per variant, task (or group) and metric, its value. items: one row per variant, task, filter,
    metric and document. chance: accuracy of guessing by task. skipped: variants that the model does not allow.
    """

    scores: pd.DataFrame
    items: pd.DataFrame
    chance: dict[str, float]
    skipped: list[dict[str, Any]]


def evaluate_task(
    ablations: Sequence[Opened], task: str, *, corpus: pd.DataFrame | None = None, items: int = 60,
    item_seed: int = 0, folder: Path | None = None, mirror: Path | None = None, limit: float | None = None,
    fewshot: int | None = None, seed: int = FEWSHOT_SEED, truncate: bool = False, batch_size: int | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate all variants of some ablations of one live model on a task.

    task: a name of the harness, or of a definition in `folder`; or "bundled:order", "bundled:documents" or
    "bundled:phrase", whose items (at most `items`, drawn by item_seed) are made from `corpus`. mirror: copies of data
    sets of the hub. limit: documents, or a share of them below 1. fewshot: worked examples, drawn by `seed`. truncate:
    cut requests longer than the model's context. batch_size: None takes what memory allows.
    """
    if bundled := bundled_task(task):
        loaded = _bundled(bundled, corpus, items, item_seed, fewshot=fewshot, seed=seed)
    else:
        loaded = load_tasks(task, folders=[folder] if folder else None, mirror=mirror, fewshot=fewshot, seed=seed)
    lm = Harness(ablations[0].live, ablations[0].tokenizer, batch_size=batch_size)
    requests = build_requests(loaded, lm, limit=limit, truncate=truncate, name=task)
    fill_requests(loaded, requests, lm, limit=limit)
    records, tables, skipped = [], [], []
    for opened in ablations:
        record, table = evaluate_variants(opened.live, lm, loaded, opened.expansion, limit=limit)
        records += record["variants"]
        skipped += record["skipped"]
        tables.append(table)
    items_of_all = pd.concat(tables, ignore_index=True)
    return Evaluation(_scores(records), items_of_all, chance_levels(loaded, requests), skipped)


def _bundled(task: str, corpus: pd.DataFrame | None, items: int, item_seed: int, **settings: Any) -> dict[str, Any]:
    if corpus is None:
        raise AtlasError(
            "a bundled task is made from a corpus", where=task, remedy="give corpus=, a table of documents"
        )
    definition = resources.files("weight_atlas.data.demo") / f"tasks/{task}.yaml"
    with TemporaryDirectory() as folder, resources.as_file(definition) as path:
        data = Path(folder) / f"{task}.jsonl"
        write_table(data, bundled_items(corpus, items=items, seed=item_seed, tasks=[task])[task])
        return load_tasks(task, definition=path, data=data, **settings)


def _scores(records: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [
        (record["variant"], record["kind"], task, metric, value)
        for record in records
        for task, scores in {**record["results"], **record["groups"]}.items()
        for metric, value in scores.items()
    ]
    return pd.DataFrame(rows, columns=["variant", "kind", "task", "metric", "value"])
