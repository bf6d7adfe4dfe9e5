"""Statistics of token weights: of all tokens, of kept and masked ones, and of each class of tokens."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from weight_atlas.weights.distribution import PERCENTILES, moments, percentile_column, quantiles

# |w| below this counts as effectively zero.
NEAR_ZERO = 0.01
# Sets of tokens that are no class of their texts.
ALL, KEPT, MASKED, SPECIAL = "all", "kept", "masked", "special"
BINS = 100


def statistics(weights: np.ndarray) -> dict[str, Any]:
    """Statistics of one set of weights (n,), in float64; those that are NaN or infinite are counted and left out.

    n, not_finite, mean, median, std (population), skew, kurtosis (excess), min, max, percentiles, mean_magnitude,
    max_magnitude, zeros, sparsity (share with |w| < NEAR_ZERO) and sparsity_null, that of a normal distribution of the
    same mean and standard deviation.
    """
    finite = np.sort(weights[np.isfinite(weights)])
    counts = np.ones(len(finite), dtype=np.int64)
    found = moments(finite, counts)
    n = len(finite)
    missing = math.nan
    return {
        "n": len(weights),
        "not_finite": len(weights) - n,
        "mean": found.mean,
        "median": float(quantiles(finite, counts, np.array([0.5]))[0]),
        "std": found.std,
        "skew": found.skew,
        "kurtosis": found.kurtosis,
        "min": float(finite[0]) if n else missing,
        "max": float(finite[-1]) if n else missing,
        **{
            percentile_column(percentile): float(value)
            for percentile, value in zip(
                PERCENTILES, quantiles(finite, counts, np.array(PERCENTILES) / 100), strict=True
            )
        },
        "mean_magnitude": found.l1 / n if n else missing,
        "max_magnitude": float(np.abs(finite[[0, -1]]).max()) if n else missing,
        "zeros": int((finite == 0).sum()),
        "sparsity": float((np.abs(finite) < NEAR_ZERO).mean()) if n else missing,
        "sparsity_null": _normal_share(found.mean, found.std) if n else missing,
    }


def _normal_share(mean: float, std: float) -> float:
    """Share of a normal distribution within NEAR_ZERO of 0."""
    if std == 0:
        return float(abs(mean) < NEAR_ZERO)
    return float(ndtr((NEAR_ZERO - mean) / std) - ndtr((-NEAR_ZERO - mean) / std))


def statistics_by_set(tokens: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """A row of statistics for each set of tokens that has any: column `tokens`, then those of `statistics`.

    tokens: of token_table. classes: its boolean columns that are sets. A token may be in several sets; those of classes
    are of kept tokens.
    """
    rows = [{"tokens": name, **statistics(weights)} for name, weights in _sets(tokens, classes) if len(weights)]
    columns = ["tokens", *statistics(np.empty(0))]
    return pd.DataFrame(rows, columns=columns)


def _sets(tokens: pd.DataFrame, classes: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    weights = tokens["weight"].to_numpy()
    yield ALL, weights
    masked = tokens["masked"].to_numpy(bool)
    if masked.any():
        yield KEPT, weights[~masked]
        yield MASKED, weights[masked]
    for name in classes:
        yield name, weights[tokens[name].to_numpy(bool) & ~masked]


def histogram(weights: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of equal bins over the range of the finite weights; no bins where there are none."""
    finite = weights[np.isfinite(weights)]
    if not len(finite):
        return np.empty(0, dtype=np.int64), np.zeros(1)
    # A quarter of it, since the range of very large numbers is no number.
    quarter = finite / 4
    low, high = float(quarter.min()), float(quarter.max())
    if high - low <= bins * np.spacing(max(abs(low), abs(high))):  # equal weights have a bin around them
        pad = max(abs(low) * 1e-3, 1e-3)
        low, high = low - pad, high + pad
    counts, edges = np.histogram(quarter, bins, (low, high))
    return counts, edges * 4
