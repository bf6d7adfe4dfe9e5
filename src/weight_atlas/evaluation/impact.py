"""What every variant costs on every task, against the unchanged model on the same items."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from weight_atlas.evaluation.perplexity import mean_nll, paired_difference, severity
from weight_atlas.evaluation.statistics import (
    chance_corrected_drop,
    mcnemar,
    paired_bootstrap,
    severity_of_drop,
    wilson,
)

COLUMNS = (
    "ablation", "variant", "factor", "task", "subtask", "metric", "filter", "n", "value", "low", "high", "baseline",
    "ratio", "drop", "drop_low", "drop_high", "delta_nll", "delta_nll_low", "delta_nll_high", "p_value", "chance",
    "chance_corrected_drop", "severity",
)  # fmt: skip
# Metrics whose items are log-likelihoods in nats, and what one weight of theirs is.
LIKELIHOODS = ("word_perplexity", "byte_perplexity", "bits_per_byte", "perplexity")
BASELINE = "baseline"
KEYS = ["metric", "filter"]


def window_impact(
    corpus: str, baseline: pd.DataFrame, ablations: Iterable[tuple[str, pd.DataFrame, dict[str, float | None]]]
) -> pd.DataFrame:
    """Perplexity of every variant on fixed windows (see window_scores), each against the baseline's same windows.

    ablations: (name, table of windows, factor of each variant). The interval of delta_nll (nats per token) is Student's
    over windows; that of value is the paired one around the baseline, which is taken as it is.
    """
    rows = [_window_row(BASELINE, BASELINE, None, corpus, baseline, baseline)]
    for ablation, table, factors in ablations:
        for variant, scores in table.groupby("variant", sort=False):
            rows.append(_window_row(ablation, variant, factors.get(variant), corpus, scores, baseline))
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def item_impact(
    task: str, baseline: pd.DataFrame, ablations: Iterable[tuple[str, pd.DataFrame, dict[str, float | None]]],
    chance: dict[str, float], *, resamples: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Every metric of every variant on a task's documents (see harness.evaluate_variants), against the baseline's.

    A task of several (a group such as mmlu) gives a row over all their documents and one for each, named `subtask`.
    chance: accuracy of guessing, of each of them. Accuracies get Wilson's interval, exact McNemar p and bootstrap
    interval of the drop; other means and log-likelihoods the bootstrap alone.
    """
    rows = []
    tables = [(BASELINE, baseline, {}), *ablations]
    for ablation, table, factors in tables:
        for variant, own in table.groupby("variant", sort=False):
            identity = {"ablation": ablation, "variant": variant, "factor": factors.get(variant), "task": task}
            for subtask, before, after in _parts(baseline, own):
                level = _chance(before, chance)
                for (metric, filter_), items in after.groupby(KEYS, sort=False):
                    pairs = _paired(before, items, metric, filter_)
                    row = _item_row(metric, pairs, level, resamples, seed)
                    rows.append({**identity, "subtask": subtask, "metric": metric, "filter": filter_, **row})
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def headline_metric(metrics: Iterable[str]) -> str:
    """Of a task's metrics the one that speaks for it: normalised accuracy, accuracy, exact match, then any."""
    present = list(dict.fromkeys(metrics))
    preferred = ("acc_norm", "acc", "exact_match", "word_perplexity", "perplexity")
    return next((name for name in preferred if name in present), present[0])


def _parts(baseline: pd.DataFrame, own: pd.DataFrame):
    """(name, baseline's items, variant's items) of the whole task and, if they are several, of each subtask."""
    yield "", baseline, own
    names = list(dict.fromkeys(own.task))
    if len(names) > 1:
        for name in names:
            yield name, baseline[baseline.task == name], own[own.task == name]


def _chance(items: pd.DataFrame, chance: dict[str, float]) -> float:
    documents = items.drop_duplicates(["task", "doc_id"]).task
    return float(documents.map(chance).mean())


def _paired(before: pd.DataFrame, items: pd.DataFrame, metric: str, filter_: str) -> pd.DataFrame:
    same = before[(before.metric == metric) & (before["filter"] == filter_)]
    return same.merge(items, on=["task", "doc_id"], suffixes=("_before", "_after"), validate="one_to_one")


def _item_row(metric: str, pairs: pd.DataFrame, chance: float, resamples: int, seed: int) -> dict:
    before, after = pairs.value_before.to_numpy(), pairs.value_after.to_numpy()
    if metric in LIKELIHOODS:
        return _likelihood_row(metric, before, after, pairs.weight_after.to_numpy(), resamples, seed)
    value, reference, n = float(after.mean()), float(before.mean()), len(pairs)
    low, high, p = paired_bootstrap(before - after, np.ones(n), resamples=resamples, seed=seed)
    row = {"n": n, "value": value, "baseline": reference, "drop": reference - value, "drop_low": low, "drop_high": high}
    if not np.isin([before, after], (0.0, 1.0)).all():
        spread = paired_bootstrap(after, np.ones(n), resamples=resamples, seed=seed)
        return {**row, "low": spread[0], "high": spread[1], "p_value": p}
    interval = wilson(after.sum(), n)
    return {
        **row,
        "low": interval[0],
        "high": interval[1],
        "p_value": mcnemar(before, after),
        "chance": chance,
        "chance_corrected_drop": chance_corrected_drop(reference, value, chance),
        "severity": severity_of_drop(reference - value),
    }


def _likelihood_row(
    metric: str, before: np.ndarray, after: np.ndarray, weight: np.ndarray, resamples: int, seed: int
) -> dict:
    """Of log-likelihoods in nats: perplexity per word, byte or item with its ratio, and the rise of the mean loss."""
    nll, reference = -after.sum() / weight.sum(), -before.sum() / weight.sum()
    low, high, p = paired_bootstrap(before - after, weight, resamples=resamples, seed=seed)
    scale = (lambda nats: nats / np.log(2)) if metric == "bits_per_byte" else np.exp
    with np.errstate(over="ignore"):
        ratio = float(np.exp(nll - reference))
        values = [float(scale(nats)) for nats in (nll, reference, reference + low, reference + high)]
    return {
        "n": len(after), "value": values[0], "low": values[2], "high": values[3], "baseline": values[1],
        "ratio": ratio, "delta_nll": nll - reference, "delta_nll_low": low, "delta_nll_high": high, "p_value": p,
        "severity": severity(ratio),
    }  # fmt: skip


def _window_row(
    ablation: str, variant: str, factor: float | None, corpus: str, scores: pd.DataFrame, baseline: pd.DataFrame
) -> dict:
    nll, reference = mean_nll(scores), mean_nll(baseline)
    delta, low, high = paired_difference(baseline, scores)
    with np.errstate(over="ignore"):
        perplexity, unchanged, ratio = (float(np.exp(x)) for x in (nll, reference, nll - reference))
        bounds = [float(np.exp(reference + bound)) for bound in (low, high)]
    return {
        "ablation": ablation, "variant": variant, "factor": factor, "task": corpus, "subtask": "",
        "metric": "perplexity", "filter": "windows", "n": len(scores), "value": perplexity, "low": bounds[0],
        "high": bounds[1], "baseline": unchanged, "ratio": ratio, "delta_nll": delta, "delta_nll_low": low,
        "delta_nll_high": high, "severity": severity(ratio),
    }  # fmt: skip
