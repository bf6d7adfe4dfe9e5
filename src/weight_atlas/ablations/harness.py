"""Run tasks of lm-evaluation-harness on a live model, once for each edit of its weights.

The harness scores and aggregates, through its public evaluate(), so that scores are those of its own command line.
What it would do again for every variant is done once: tasks are loaded, requests built and texts tokenized before.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch

from weight_atlas.ablations.batches import halving
from weight_atlas.ablations.encoder import Encoder
from weight_atlas.ablations.loglikelihoods import Request, log_likelihoods
from weight_atlas.ablations.tasks import seed_everything
from weight_atlas.ablations.variants import Expansion, described, without
from weight_atlas.errors import AtlasError
from weight_atlas.interventions.changes import Change, one_by_one
from weight_atlas.interventions.intervention import Intervention, Refused, applied
from weight_atlas.interventions.kinds import BASELINE
from weight_atlas.live.anatomy import Anatomy

ITEM_COLUMNS = ("variant", "task", "filter", "metric", "doc_id", "value", "weight")  # fmt: skip


class Harness(Encoder):
    """The harness's own model class around a live model, whose head is applied to the scored positions only.

    largest: the largest logit of every pass since it was emptied: infinite, or no number, where one of them is. The
    harness would not notice: of choices that are all no numbers it takes the first.
    """

    def __init__(self, live: Anatomy, tokenizer: Any, *, batch_size: int | None = None):
        super().__init__(live.model, tokenizer, batch_size=batch_size)
        self._live = live
        self.largest: list[torch.Tensor] = []

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        sizes = {"longest": self.max_length, "batch_size": self.batch_size}
        answers, largest = log_likelihoods(self._live, requests, **sizes, softmax_dtype=self.softmax_dtype)
        self.largest += largest
        pairs = [(answer.log_likelihood, answer.greedy) for answer in answers]
        for (texts, *_), pair in zip(requests, pairs, strict=True):
            # A part of a longer text has no texts of its own: the harness caches the whole.
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, pair)
        return pairs

    def _model_generate(self, *given: Any, **settings: Any) -> Any:
        # Read at the end: a device is not waited for at each pass.
        handle = self.model.register_forward_hook(
            lambda module, inputs, output: self.largest.append(output.logits.detach().amax())
        )
        try:
            return super()._model_generate(*given, **settings)
        finally:
            handle.remove()


def evaluate_variants(
    live: Anatomy, lm: Harness, loaded: dict[str, Any], expansion: Expansion, *, limit: float | None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Evaluate every variant on tasks whose requests are built (see requests.fill_requests).

    Returns {"variants", "skipped"}: a record for each variant (its description, and the `results`, `groups` and
    `documents` of evaluate_once), and what the model did not allow; and the items of all: one row per variant, task,
    filter, metric and document, with value and weight. Where a variant's logits are not finite numbers, so are its
    scores.
    """
    records, tables = {}, [pd.DataFrame(columns=list(ITEM_COLUMNS))]
    refused: dict[str, Refused] = {}
    known: dict[Change, dict[str, Any]] = {}  # of equal changes one is made, as of a single weight alone and of all
    for variant in expansion.variants:
        try:
            if variant.change not in known:
                with applied(live, variant), _batches_for(lm, variant):
                    known[variant.change] = evaluate_once(lm, loaded, limit=limit)
        except Refused as error:
            refused[variant.name] = error
            continue
        outcome = dict(known[variant.change])
        if not outcome.pop("finite"):
            outcome = _not_finite(variant, outcome)
        tables.append(outcome.pop("items").assign(variant=variant.name))
        records[variant.name] = outcome
        print(f"{variant.name}: {json.dumps(outcome['groups'] or outcome['results'])}", flush=True)
    kept = without(expansion, refused)
    items = pd.concat(tables[1:] or tables, ignore_index=True)[list(ITEM_COLUMNS)]
    types = {"doc_id": "int64", "value": "float64", "weight": "float64"}
    evaluated = [{**described(variant), **records[variant.name]} for variant in kept.variants]
    record = {"variants": evaluated, "skipped": [asdict(each) for each in kept.skipped]}
    return record, items.astype({**dict.fromkeys(ITEM_COLUMNS, str), **types})


@contextmanager
def _batches_for(lm: Harness, variant: Intervention) -> Iterator[None]:
    """Let a batch be one request where a change asks for it."""
    size = lm.batch_size_per_gpu
    lm.batch_size_per_gpu = 1 if one_by_one(variant.change) else size
    try:
        yield
    finally:
        if one_by_one(variant.change):
            lm.batch_size_per_gpu = size


def evaluate_once(lm: Harness, loaded: dict[str, Any], *, limit: float | None) -> dict[str, Any]:
    """Evaluate the live model as it is now on tasks whose requests are built (see requests.fill_requests).

    Returns {"results", "groups": {task: {"metric,filter": value}}, "documents": {task: n}, "items": DataFrame of one
    row per document and metric, "finite": whether all logits were below infinity and numbers}. Where memory runs out,
    the batch is halved and stays so, which the log says.
    """
    from lm_eval.evaluator import evaluate

    def attempt(batch_size: int) -> dict[str, Any]:
        lm.batch_size_per_gpu = batch_size
        seed_everything()
        for task in loaded["tasks"].values():
            for instance in task.instances:
                instance.resps, instance.filtered_resps = [], {}
        return evaluate(lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=0, log_samples=True)

    lm.largest.clear()
    outcome, _ = halving(attempt, lm.batch_size_per_gpu)
    largest = [each.cpu() for each in lm.largest]
    return {
        "finite": all(map(math.isfinite, torch.stack(largest).tolist())) if largest else True,
        "results": {name: _scores(values) for name, values in outcome["results"].items() if name in loaded["tasks"]},
        "groups": {name: _scores(values) for name, values in outcome.get("groups", {}).items()},
        "documents": {name: int(count["effective"]) for name, count in outcome["n-samples"].items()},
        "items": _items(outcome["samples"]),
    }


def _not_finite(variant: Intervention, outcome: dict[str, Any]) -> dict[str, Any]:
    """The outcome with all scores unknown; an AtlasError for the unchanged model."""
    if variant.kind == BASELINE:
        raise AtlasError(
            "the model's logits are not finite numbers",
            remedy="compute in float32 (dtype: float32), and look for NaN in the weight statistics",
        )
    print(f"{variant.name}: not finite: logits are no numbers", flush=True)
    unknown = {
        part: {task: dict.fromkeys(scores, float("nan")) for task, scores in outcome[part].items()}
        for part in ("results", "groups")
    }
    return {**outcome, **unknown, "items": outcome["items"].assign(value=float("nan"))}


def _scores(values: dict[str, Any]) -> dict[str, float]:
    """Metrics alone: no names, dates, missing standard errors or texts."""
    return {
        key: float(value)
        for key, value in sorted(values.items())
        if "," in key and "_stderr" not in key and isinstance(value, int | float)
    }


def _items(samples: dict[str, list[dict]]) -> pd.DataFrame:
    """One row per task, filter, metric and document. weight: words or bytes of a perplexity, else 1."""
    rows = []
    for task, documents in samples.items():
        for sample in documents:
            for metric in sample["metrics"]:
                match sample[metric]:
                    case bool() | int() | float() as value:
                        rows.append((task, sample["filter"], metric, sample["doc_id"], float(value), 1.0))
                    case (int() | float() as value, int() | float() as weight) if "per" in metric:
                        rows.append((task, sample["filter"], metric, sample["doc_id"], float(value), float(weight)))
    return pd.DataFrame(rows, columns=list(ITEM_COLUMNS[1:]))
