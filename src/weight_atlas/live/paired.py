"""What a change of the model does to its losses, from per-window sums of the same windows before and after."""

import math

import numpy as np
import pandas as pd

# Perplexity over the baseline's, and what an increase of that size is called.
SEVERITY = ((10.0, "catastrophic"), (3.0, "severe"), (1.5, "moderate"), (1.1, "mild"))


def severity(ratio: float) -> str:
    """The band of a perplexity ratio: > 10 catastrophic, > 3 severe, > 1.5 moderate, > 1.1 mild, else minimal.

    A ratio that is no number has none: "not finite".
    """
    if math.isnan(ratio):
        return "not finite"
    return next((name for bound, name in SEVERITY if ratio > bound), "minimal")


def mean_nll(scores: pd.DataFrame) -> float:
    """Nats per token over all windows, from per-window sums `nll` and `tokens`."""
    return float(scores.nll.sum() / scores.tokens.sum())


def paired_difference(
    baseline: pd.DataFrame, variant: pd.DataFrame, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean change of nats per token, and its confidence interval from the differences of the single windows.

    Student's t over windows, each weighted by its tokens; (delta, NaN, NaN) for one window, and where a loss is
    infinite.
    """
    from scipy.stats import t

    tokens = baseline.tokens.to_numpy(float)
    difference = (variant.nll.to_numpy() - baseline.nll.to_numpy()) / tokens
    weight = tokens / tokens.sum()
    delta, n = float((weight * difference).sum()), len(tokens)
    if n < 2 or not np.isfinite(delta):
        return delta, float("nan"), float("nan")
    variance = n / (n - 1) * float((weight**2 * (difference - delta) ** 2).sum())
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * np.sqrt(variance)
    return delta, delta - half, delta + half
