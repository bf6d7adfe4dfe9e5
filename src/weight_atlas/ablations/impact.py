"""The cost of every variant on every task, against the unchanged model on the same items."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from weight_atlas.statistics.bootstrap import bootstrap_ratio
from weight_atlas.statistics.paired import mean_nll, paired_difference, paired_p
from weight_atlas.statistics.proportions import chance_corrected_drop, mcnemar, wilson
from weight_atlas.statistics.severity import severity, severity_of_drop

COLUMNS = (
    "ablation", "kind", "variant", "factor", "task", "subtask", "metric", "filter", "n", "value", "low", "high",
    "baseline", "ratio", "drop", "drop_low", "drop_high", "delta_nll", "delta_nll_low", "delta_nll_high", "p_value",
    "chance", "chance_corrected_drop", "severity", "note",
)  # fmt: skip
NOT_FINITE, NO_VARIANTS = "not finite", "no variants"
# Metrics whose items are log-likelihoods in nats.
LIKELIHOODS = ("word_perplexity", "byte_perplexity", "bits_per_byte", "perplexity")


def impact_table(
    parts: Iterable[pd.DataFrame], ablation: str, variants: Sequence[dict], skipped: Sequence[dict] = ()
) -> pd.DataFrame:
    """Put the tables of single tasks together as the table of one ablation, in one order of columns.

    variants: records with `variant`, `kind` and `factor`, as the evaluations describe them. skipped: what the model
    does not allow: `variant`, `kind` and `reason`; each gives a row without a task, whose note says why.
    """
    known = {record["variant"]: record for record in variants}
    rows = [part.assign(**_of_variants(part.variant, known)) for part in parts if len(part)]
    notes = [
        {"variant": each["variant"], "kind": each["kind"], "severity": NO_VARIANTS, "note": each["reason"]}
        for each in {each["variant"]: each for each in skipped}.values()
    ]
    rows += [pd.DataFrame(notes)] if notes else []
    table = pd.concat(rows or [pd.DataFrame({"variant": []})], ignore_index=True).reindex(columns=list(COLUMNS))
    return table.assign(ablation=ablation).astype({"factor": float})


def left_out(name: str, reason: str) -> dict[str, str]:
    """The record, for `skipped`, of a task, corpus or ablation that does not apply to the model."""
    return {"variant": name, "kind": "not applicable", "reason": reason}


def _of_variants(names: pd.Series, known: dict[str, dict]) -> dict[str, pd.Series]:
    return {
        column: names.map({name: record[column] for name, record in known.items()}) for column in ("kind", "factor")
    }


def window_impact(corpus: str, windows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Perplexity of every variant on fixed windows (see window_scores), against the baseline's same windows.

    The interval of delta_nll (nats per token) and p_value are Student's over paired documents; low and high are the
    perplexities of the interval's ends.
    """
    return pd.DataFrame(
        [
            {"variant": variant, "task": corpus, "subtask": "", **_window_row(scores, baseline)}
            for variant, scores in windows.groupby("variant", sort=False)
        ]
    )


def item_impact(
    task: str, items: pd.DataFrame, baseline: pd.DataFrame, chance: dict[str, float], *, resamples: int, seed: int
) -> pd.DataFrame:
    """Every metric of every variant on a task's documents (see harness.evaluate_variants), against the baseline's.

    A task of several (a group such as mmlu) gives a row over all their documents and one for each, named `subtask`.
    chance: accuracy of guessing, of each of them. Accuracies get Wilson's interval, exact McNemar p and bootstrap
    interval of the drop; other means and log-likelihoods the bootstrap alone.
    """
    rows = []
    for variant, own in items.groupby("variant", sort=False):
        for subtask, before, after in _parts(baseline, own):
            level = _chance(before, chance)
            for (metric, filter_), values in after.groupby(["metric", "filter"], sort=False):
                pairs = _paired(before, values, metric, filter_)
                identity = {"variant": variant, "task": task, "subtask": subtask, "metric": metric, "filter": filter_}
                rows.append({**identity, **_item_row(metric, pairs, level, resamples, seed)})
    return pd.DataFrame(rows)


def headline_metric(metrics: Iterable[str]) -> str:
    """Of a task's metrics the one that speaks for it: normalised accuracy, accuracy, exact match, then any."""
    present = list(dict.fromkeys(metrics))
    preferred = ("acc_norm", "acc", "exact_match", "word_perplexity", "perplexity")
    return next((name for name in preferred if name in present), present[0])


def headlines(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of an impact table that a figure shows: whole tasks, each by the metric that speaks for it.

    A task that reads answers in several ways (`filter`) speaks by the first that its definition lists, which is the
    strict one where there are a strict and a lenient one. Rows without a task are kept.
    """
    whole = table[table.subtask.isna() | (table.subtask == "")]
    spoken = whole[whole.task.notna()].groupby("task", sort=False).metric.agg(headline_metric)
    chosen = whole[(whole.metric == whole.task.map(spoken)) | whole.task.isna()]
    first = chosen.groupby("task", sort=False)["filter"].agg("first")
    return chosen[(chosen["filter"] == chosen.task.map(first)) | chosen.task.isna()].reset_index(drop=True)


def by_factor(table: pd.DataFrame) -> pd.DataFrame:
    """The headline rows of a scaling, in order of task and factor; none where nothing was scaled."""
    rows = headlines(table[table.task.notna()])
    curves = [rows[rows.task == task].sort_values("factor", kind="stable") for task in dict.fromkeys(rows.task)]
    return pd.concat([rows.iloc[:0], *curves], ignore_index=True)


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
    if not np.isfinite(value):
        return {"n": n, "baseline": reference, "severity": NOT_FINITE}
    drop = bootstrap_ratio(before - after, np.ones(n), resamples=resamples, seed=seed)
    row = {"n": n, "value": value, "baseline": reference, "drop": reference - value}
    row |= {"drop_low": drop.low, "drop_high": drop.high}
    if not np.isin([before, after], (0.0, 1.0)).all():
        spread = bootstrap_ratio(after, np.ones(n), resamples=resamples, seed=seed)
        return {**row, "low": spread.low, "high": spread.high, "p_value": drop.p}
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
    scale = (lambda nats: nats / np.log(2)) if metric == "bits_per_byte" else np.exp
    if not np.isfinite(nll):
        return {"n": len(after), "baseline": float(scale(reference)), "severity": NOT_FINITE}
    rise = bootstrap_ratio(before - after, weight, resamples=resamples, seed=seed)
    with np.errstate(over="ignore"):
        ratio = float(np.exp(nll - reference))
        values = [float(scale(nats)) for nats in (nll, reference, reference + rise.low, reference + rise.high)]
    return {
        "n": len(after), "value": values[0], "low": values[2], "high": values[3], "baseline": values[1],
        "ratio": ratio, "delta_nll": nll - reference, "delta_nll_low": rise.low, "delta_nll_high": rise.high,
        "p_value": rise.p, "severity": severity(ratio),
    }  # fmt: skip


def _window_row(scores: pd.DataFrame, baseline: pd.DataFrame) -> dict:
    nll, reference = mean_nll(scores), mean_nll(baseline)
    about = {"metric": "perplexity", "filter": "windows", "n": len(scores), "baseline": float(np.exp(reference))}
    if not np.isfinite(nll):
        return {**about, "severity": NOT_FINITE}
    delta, low, high = paired_difference(baseline, scores)
    p = paired_p(baseline, scores)
    with np.errstate(over="ignore"):
        perplexity, ratio = float(np.exp(nll)), float(np.exp(nll - reference))
        bounds = [float(np.exp(reference + bound)) for bound in (low, high)]
    return {
        **about, "value": perplexity, "low": bounds[0], "high": bounds[1], "ratio": ratio, "delta_nll": delta,
        "delta_nll_low": low, "delta_nll_high": high, "p_value": p, "severity": severity(ratio),
    }  # fmt: skip
