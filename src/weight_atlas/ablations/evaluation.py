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
from weight_atlas.ablations.choices import bundled_task
from weight_atlas.ablations.harness import Harness, evaluate_variants
from weight_atlas.ablations.prepare import Opened
from weight_atlas.ablations.requests import build_requests, chance_levels, fill_requests
from weight_atlas.ablations.tasks import load_tasks
from weight_atlas.artifacts import write_table
from weight_atlas.errors import AtlasError
from weight_atlas.settings.tasks import BundledItems, Task


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
    ablations: Sequence[Opened],
    task: str,
    settings: Task,
    items: BundledItems,
    *,
    corpus: pd.DataFrame | None = None,
    batch_size: int | None = None,
) -> Evaluation:
    """Evaluate all variants of some ablations of one live model on a task.

    task: a name of the harness, or of a definition in the folder of the settings; or "bundled:order",
    "bundled:documents" or "bundled:phrase", whose items are made from `corpus`. batch_size: requests in one forward
    pass; None takes what memory allows.
    """
    if bundled := bundled_task(task):
        loaded = _bundled(bundled, corpus, items, fewshot=settings.fewshot, seed=settings.seed)
    else:
        loaded = load_tasks(
            task,
            folders=[Path(settings.folder)] if settings.folder else None,
            mirror=Path(settings.mirror) if settings.mirror else None,
            trust_code=settings.trust_code,
            fewshot=settings.fewshot,
            seed=settings.seed,
        )
    lm = Harness(ablations[0].live, ablations[0].tokenizer, batch_size=batch_size)
    requests = build_requests(loaded, lm, limit=settings.limit, truncate=settings.truncate, name=task)
    fill_requests(loaded, requests, lm, limit=settings.limit)
    records, tables, skipped = [], [], []
    for opened in ablations:
        record, table = evaluate_variants(opened.live, lm, loaded, opened.expansion, limit=settings.limit)
        records += record["variants"]
        skipped += record["skipped"]
        tables.append(table)
    items_of_all = pd.concat(tables, ignore_index=True)
    return Evaluation(_scores(records), items_of_all, chance_levels(loaded, requests), skipped)


def _bundled(task: str, corpus: pd.DataFrame | None, items: BundledItems, **settings: Any) -> dict[str, Any]:
    if corpus is None:
        raise AtlasError(
            "a bundled task is made from a corpus", where=task, remedy="give corpus=, a table of documents"
        )
    definition = resources.files("weight_atlas.data.demo") / f"tasks/{task}.yaml"
    with TemporaryDirectory() as folder, resources.as_file(definition) as path:
        data = Path(folder) / f"{task}.jsonl"
        write_table(data, bundled_items(corpus, items=items.items, seed=items.seed, tasks=[task])[task])
        return load_tasks(task, definition=path, data=data, **settings)


def _scores(records: list[dict[str, Any]]) -> pd.DataFrame:
    rows = [
        (record["variant"], record["kind"], task, metric, value)
        for record in records
        for task, scores in {**record["results"], **record["groups"]}.items()
        for metric, value in scores.items()
    ]
    return pd.DataFrame(rows, columns=["variant", "kind", "task", "metric", "value"])
