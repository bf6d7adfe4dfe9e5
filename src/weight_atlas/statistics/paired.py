"""Differences between two runs over the same documents of text, from sums over each window."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def mean_nll(scores: pd.DataFrame) -> float:
    """Nats per token over all windows, from per-window sums `nll` and `tokens`."""
    return float(scores.nll.sum() / scores.tokens.sum())


def paired_difference(
    baseline: pd.DataFrame, variant: pd.DataFrame, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean change of nats per token, and its confidence interval from the differences of the single documents.

    Student's t over documents, each weighted by its tokens; (delta, NaN, NaN) for one document, and where a loss is
    infinite.
    """
    from scipy.stats import t

    difference, weight = _per_token(baseline, variant)
    delta, error = _weighted_mean(difference, weight)
    if len(difference) < 2 or not np.isfinite(delta):
        return delta, float("nan"), float("nan")
    half = float(t.ppf(0.5 + confidence / 2, len(difference) - 1)) * error
    return delta, delta - half, delta + half


def paired_p(baseline: pd.DataFrame, variant: pd.DataFrame) -> float:
    """Two-sided p of no change of nats per token, by Student's t over documents, each weighted by its tokens.

    Below .05 exactly where the interval of paired_difference leaves out zero. NaN for one document; 1 where nothing
    differs.
    """
    from scipy.stats import t

    difference, weight = _per_token(baseline, variant)
    if len(difference) < 2:
        return float("nan")
    if not difference.any():
        return 1.0
    delta, error = _weighted_mean(difference, weight)
    return float(2 * t.sf(abs(delta) / error, len(difference) - 1)) if error else 0.0


def mean_changes(baseline: pd.DataFrame, variant: pd.DataFrame, metrics: Sequence[str]) -> dict[str, float]:
    """Change of each metric per scored token, variant minus baseline, over the variant's windows.

    baseline, variant: see document_differences.
    """
    differences, tokens = document_differences(baseline, variant, metrics)
    return {name: float(values.sum() / tokens.sum()) for name, values in differences.items()}


def document_differences(
    baseline: pd.DataFrame, variant: pd.DataFrame, metrics: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Difference of each metric's sum over every document of the variant's windows, and the documents' tokens, (n,).

    baseline, variant: window, document, tokens and the sum of each metric over a window's scored tokens. The baseline
    may have more windows.
    """
    tokens = variant.tokens.to_numpy(float)
    places = pd.Index(baseline.window).get_indexer(pd.Index(variant.window))
    if (places < 0).any() or not np.array_equal(baseline.tokens.to_numpy(float)[places], tokens):
        raise ValueError("baseline and variant score different tokens")
    _, unit = np.unique(variant.document, return_inverse=True)
    sums = {name: np.bincount(unit, variant[name].to_numpy() - baseline[name].to_numpy()[places]) for name in metrics}
    return sums, np.bincount(unit, tokens)


def _per_token(baseline: pd.DataFrame, variant: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Change of nats per token in each document, and the documents' share of all tokens."""
    differences, tokens = document_differences(baseline, variant, ["nll"])
    return differences["nll"] / tokens, tokens / tokens.sum()


def _weighted_mean(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Mean of values whose weights add up to 1, and its standard error; NaN for the error of one value."""
    mean, n = float((weight * values).sum()), len(values)
    if n < 2 or not np.isfinite(mean):
        return mean, float("nan")
    return mean, float(np.sqrt(n / (n - 1) * float((weight**2 * (values - mean) ** 2).sum())))
