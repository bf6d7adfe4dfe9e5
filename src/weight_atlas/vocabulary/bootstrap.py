"""Confidence intervals of changes, from per-window sums that were stored once. No model runs here."""

import numpy as np
import pandas as pd


def paired_changes(baseline: pd.DataFrame, variant: pd.DataFrame, metrics: tuple[str, ...]) -> dict[str, float]:
    """Change of each metric per scored token, variant minus baseline, over the variant's windows.

    baseline, variant: window, tokens and the sum of each metric over a window's scored tokens. The baseline may have
    more windows.
    """
    own = _paired(baseline, variant)
    tokens = variant.tokens.to_numpy(float)
    return {name: float((variant[name].to_numpy() - own[name].to_numpy()).sum() / tokens.sum()) for name in metrics}


def bootstrap_changes(
    baseline: pd.DataFrame, variant: pd.DataFrame, metrics: tuple[str, ...], *, samples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Percentile intervals of `paired_changes` under resampling of windows: metric -> mean, ci_2.5, ci_97.5.

    Windows are drawn with replacement, the same draws for all metrics; the ratio of sums is taken in each draw, so that
    windows count by their tokens. mean: of the draws.
    """
    own = _paired(baseline, variant)
    n = len(variant)
    drawn = np.random.default_rng([seed, n]).integers(0, n, size=(samples, n))
    # How often each window is drawn: (samples, n), so that resampling is one product.
    weight = np.zeros((samples, n))
    np.add.at(weight, (np.arange(samples)[:, None], drawn), 1.0)
    tokens = weight @ variant.tokens.to_numpy(float)
    result = {}
    for name in metrics:
        means = weight @ (variant[name].to_numpy() - own[name].to_numpy()) / tokens
        low, high = np.percentile(means, [2.5, 97.5])
        result[name] = {"mean": float(means.mean()), "ci_2.5": float(low), "ci_97.5": float(high)}
    return result


def _paired(baseline: pd.DataFrame, variant: pd.DataFrame) -> pd.DataFrame:
    own = baseline.set_index("window").loc[variant.window]
    if not np.array_equal(own.tokens.to_numpy(), variant.tokens.to_numpy()):
        raise ValueError("baseline and variant score different tokens")
    return own
