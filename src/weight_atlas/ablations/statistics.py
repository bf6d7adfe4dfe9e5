"""Uncertainty of scores on the same items: Wilson intervals, McNemar's test, the paired bootstrap, severity."""

import numpy as np

# Drop of an accuracy, and what a drop of more than that is called.
SEVERITY_OF_DROP = ((0.5, "catastrophic"), (0.2, "severe"), (0.1, "moderate"), (0.05, "mild"))
RESAMPLES_AT_ONCE = 1_000_000


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson 1927): also sound near 0 and 1. (NaN, NaN) for n = 0."""
    from scipy.stats import norm

    if n == 0:
        return float("nan"), float("nan")
    z = float(norm.ppf(0.5 + confidence / 2))
    share, scale = successes / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # The ends are exact where rounding would miss them.
    low = 0.0 if successes == 0 else float(middle - half)
    return low, 1.0 if successes == n else float(middle + half)


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test on paired outcomes of 0 and 1: only items that changed count."""
    from scipy.stats import binomtest

    lost, won = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
    return float(binomtest(min(lost, won), lost + won, 0.5).pvalue) if lost + won else 1.0


def paired_bootstrap(
    difference: np.ndarray, weight: np.ndarray, *, resamples: int, seed: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Percentile interval of sum(difference) / sum(weight) over resampled items, and a two-sided p of no change.

    difference, weight: one number an item, paired; weights of 1 give a mean. Items are drawn with replacement.
    p: twice the share of resamples on the far side of zero, at least 1 / resamples; 1 where nothing differs.
    """
    difference, weight = np.asarray(difference, float), np.asarray(weight, float)
    if not difference.any():
        return 0.0, 0.0, 1.0
    rng, n = np.random.default_rng(seed), len(difference)
    values = []
    for count in _chunks(resamples, max(RESAMPLES_AT_ONCE // n, 1)):
        drawn = rng.integers(n, size=(count, n))
        values.append(difference[drawn].sum(1) / weight[drawn].sum(1))
    means = np.concatenate(values)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return float(low), float(high), float(min(1.0, max(2 * tail, 1 / resamples)))


def paired_t(difference: np.ndarray, weight: np.ndarray) -> float:
    """Two-sided p of no change of sum(weight * difference), by Student's t over pairs.

    weight: adds up to 1. The standard error is that of live.paired.paired_difference: p is below .05 where its interval
    leaves out zero. NaN for one pair; 1 where nothing differs.
    """
    from scipy.stats import t

    difference, weight, n = np.asarray(difference, float), np.asarray(weight, float), len(difference)
    if n < 2:
        return float("nan")
    if not difference.any():
        return 1.0
    mean = float((weight * difference).sum())
    error = np.sqrt(n / (n - 1) * float((weight**2 * (difference - mean) ** 2).sum()))
    return float(2 * t.sf(abs(mean) / error, n - 1)) if error else 0.0


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def severity_of_drop(drop: float) -> str:
    """The band of an accuracy drop: > .5 catastrophic, > .2 severe, > .1 moderate, > .05 mild, else minimal."""
    return next((name for bound, name in SEVERITY_OF_DROP if drop > bound), "minimal")


def chance_corrected_drop(before: float, after: float, chance: float) -> float:
    """Share of the accuracy above guessing that is lost: 1 where the model now guesses; NaN if it guessed before."""
    return (before - after) / (before - chance) if before > chance else float("nan")
