"""The paired bootstrap: intervals of a ratio of sums by resampling documents (scipy.stats.bootstrap)."""

from dataclasses import dataclass

import numpy as np

# Resampled values that exist at one time.
VALUES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Resampled:
    """A ratio of sums over resamples: their mean, the ends of the percentile interval, and a two-sided p of zero."""

    mean: float
    low: float
    high: float
    p: float


def bootstrap_ratio(
    difference: np.ndarray,
    weight: np.ndarray,
    *,
    resamples: int,
    seed: int | list[int],
    confidence: float = 0.95,
) -> Resampled:
    """Resample sum(difference) / sum(weight) over items drawn with replacement; the same seed draws the same items.

    difference, weight: one number an item, (n,), paired; weights of 1 give a mean, tokens count documents by size.
    p: twice the share of resamples on the far side of zero, at least 1 / resamples; 1 where nothing differs. A single
    item has no spread.
    """
    difference, weight = np.asarray(difference, float), np.asarray(weight, float)
    if not difference.any():
        return Resampled(0.0, 0.0, 0.0, 1.0)
    if len(difference) == 1:
        value = float(difference[0] / weight[0])
        return Resampled(value, value, value, 1 / resamples)
    from scipy.stats import bootstrap

    outcome = bootstrap(
        (difference, weight),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(VALUES_AT_ONCE // len(difference), 1),
        method="percentile",
        confidence_level=confidence,
        rng=np.random.default_rng(seed),
    )
    drawn, interval = outcome.bootstrap_distribution, outcome.confidence_interval
    tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
    p = float(min(1.0, max(2 * tail, 1 / resamples)))
    return Resampled(float(drawn.mean()), float(interval.low), float(interval.high), p)


def _ratio(difference: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    return difference.sum(axis) / weight.sum(axis)
