"""Shares of right answers: their interval, their change on the same items, and what of it lies above guessing."""

import numpy as np


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson 1927): also sound near 0 and 1. (NaN, NaN) for n = 0."""
    from scipy.stats import binomtest

    if n == 0:
        return float("nan"), float("nan")
    interval = binomtest(int(successes), n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test on paired outcomes of 0 and 1: only items that changed count."""
    from scipy.stats import binomtest

    lost, won = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
    return float(binomtest(min(lost, won), lost + won, 0.5).pvalue) if lost + won else 1.0


def chance_corrected_drop(before: float, after: float, chance: float) -> float:
    """Share of the accuracy above guessing that is lost: 1 where the model now guesses; NaN if it guessed before."""
    return (before - after) / (before - chance) if before > chance else float("nan")
