"""Setting low weights to zero: which tokens that takes, and how much of the corpus and of the weight is kept."""

import math

import numpy as np
import pandas as pd

PERCENTILES = (1, 5, 10, 25, 50, 75, 90)
MAGNITUDE, WEIGHT = "magnitude", "weight"


def sizes(weights: np.ndarray, prune_by: str) -> np.ndarray:
    """By what pruning orders weights: |w| for "magnitude", w for "weight"; NaN counts as the lowest."""
    size = np.abs(weights) if prune_by == MAGNITUDE else weights.astype(float)
    return np.where(np.isnan(size), -np.inf, size)


def limit_of(weights: np.ndarray, kept: np.ndarray, percentile: float, prune_by: str) -> float:
    """The percentile of the kept tokens' sizes; weights below it are pruned."""
    size = sizes(weights, prune_by)[kept]
    return float(np.quantile(size[np.isfinite(size)], percentile / 100)) if np.isfinite(size).any() else -math.inf


def pruned(weights: np.ndarray, kept: np.ndarray, percentile: float, prune_by: str) -> np.ndarray:
    """The weights with those below the percentile, and those of masked tokens, set to zero."""
    low = sizes(weights, prune_by) < limit_of(weights, kept, percentile, prune_by)
    return np.where(low | ~kept, 0.0, weights)


def pruning_study(tokens: pd.DataFrame) -> pd.DataFrame:
    """What pruning at percentiles keeps: prune_by, percentile, limit, tokens (pruned), share (of kept tokens), weight.

    weight: share of the sum of |w| that stays. With counts in the table also corpus, the share of the occurrences whose
    tokens stay, with its null, that of as many random tokens on average, and best, that of the most frequent ones.
    """
    kept = ~tokens["masked"].to_numpy(bool)
    weights = tokens["weight"].to_numpy()
    counts = tokens["count"].to_numpy() if "count" in tokens else None
    return pd.DataFrame(
        [
            _kept_at(weights, kept, counts, percentile, prune_by)
            for prune_by in (MAGNITUDE, WEIGHT)
            for percentile in PERCENTILES
        ]
    )


def _kept_at(
    weights: np.ndarray, kept: np.ndarray, counts: np.ndarray | None, percentile: float, prune_by: str
) -> dict[str, object]:
    limit = limit_of(weights, kept, percentile, prune_by)
    low = kept & (sizes(weights, prune_by) < limit)
    stays = kept & ~low
    magnitude = np.where(np.isfinite(weights), np.abs(weights), 0.0)
    magnitude = magnitude / max(magnitude.max(initial=0.0), np.finfo(float).tiny)
    row: dict[str, object] = {
        "prune_by": prune_by,
        "percentile": float(percentile),
        "limit": limit,
        "tokens": int(low.sum()),
        "share": _ratio(low.sum(), kept.sum()),
        "weight": _ratio(magnitude[stays].sum(), magnitude[kept].sum()),
    }
    if counts is not None:
        total = counts[kept].sum()
        descending = np.sort(counts[kept])[::-1]
        row["corpus"] = _ratio(counts[stays].sum(), total)
        row["corpus_null"] = _ratio(stays.sum(), kept.sum())
        row["corpus_best"] = _ratio(descending[: int(stays.sum())].sum(), total)
    return row


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
