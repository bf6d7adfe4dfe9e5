"""A distribution as its distinct values, ascending, and their counts; its moments, quantiles and shares.

Two kinds. Exact: the values are all that occur. Binned: each value is the mean of a bucket of float32 numbers that
share the high 16 bits of their pattern, so that a bucket is at most 1/128 of its value wide.
"""

from dataclasses import dataclass

import numpy as np

PERCENTILES = (0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
EXACT, BINNED = "exact", "binned"


def percentile_column(percentile: float) -> str:
    """Column name of a percentile: 0.1 -> p0_1, 5.0 -> p5."""
    return f"p{percentile:g}".replace(".", "_")


@dataclass(frozen=True)
class Moments:
    """mean, std (population), skew, kurtosis (excess), l1 and l2 norm; skew and kurtosis are NaN without spread."""

    mean: float
    std: float
    skew: float
    kurtosis: float
    l1: float
    l2: float


_NAN = float("nan")
NO_MOMENTS = Moments(mean=_NAN, std=_NAN, skew=_NAN, kurtosis=_NAN, l1=0.0, l2=0.0)


def moments(values: np.ndarray, counts: np.ndarray) -> Moments:
    """Moments of a distribution in float64, by two passes over its distinct values."""
    n = int(counts.sum())
    if n == 0:
        return NO_MOMENTS
    scale = power_of_two(np.abs(values[[0, -1]]).max())
    scaled = values * scale
    mean = float((scaled * counts).sum() / n)
    if len(values) == 1:
        mean = float(scaled[0])
    deviation = scaled - mean
    square = deviation * deviation
    terms = (deviation, square, square * deviation, square * square)
    powers = [float((term * counts).sum()) for term in terms]
    return from_power_sums(n, mean, powers, float((np.abs(scaled) * counts).sum()), scale)


def power_of_two(absmax: float) -> float:
    """A factor that brings values of this magnitude near 1 without rounding them: no power of them overflows."""
    return 2.0 ** -int(np.clip(np.frexp(absmax)[1], -1000, 1000))


def from_power_sums(n: int, mean: float, powers: list[float], l1: float, scale: float) -> Moments:
    """Moments from the sums of d, d^2, d^3, d^4 with d = scaled value - mean; all arguments but n are scaled."""
    # The mean itself is rounded: its error, the mean of d, is taken out of the higher powers.
    shift, s2, s3, s4 = (power / n for power in powers)
    m2 = max(s2 - shift**2, 0.0)
    m3 = s3 - 3 * shift * s2 + 2 * shift**3
    m4 = s4 - 4 * shift * s3 + 6 * shift**2 * s2 - 3 * shift**4
    mean += shift
    spread = m2 > 0
    return Moments(
        mean=mean / scale,
        std=m2**0.5 / scale,
        skew=m3 / m2**1.5 if spread else float("nan"),
        kurtosis=m4 / m2**2 - 3 if spread else float("nan"),
        l1=l1 / scale,
        l2=(n * (m2 + mean**2)) ** 0.5 / scale,
    )


def quantile_ranks(n: int, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks (from 0) below and above each quantile of n sorted numbers, and the weight of the upper one.

    The definition with linear interpolation at (n - 1) p (Hyndman and Fan's type 7; numpy's default).
    """
    position = (n - 1) * np.asarray(probabilities, dtype=np.float64)
    lower = np.floor(position).astype(np.int64)
    return lower, np.minimum(lower + 1, n - 1), position - lower


def interpolate(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Points between two order statistics, monotone in the weight."""
    step = above - below
    return np.where(weight < 0.5, below + step * weight, above - step * (1 - weight))


def quantiles(values: np.ndarray, counts: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Quantiles of a distribution, with linear interpolation between order statistics; NaN for an empty one."""
    n = int(counts.sum())
    if n == 0:
        return np.full(len(probabilities), np.nan)
    last_rank = np.cumsum(counts) - 1
    lower, upper, weight = quantile_ranks(n, probabilities)
    below, above = (values[np.searchsorted(last_rank, rank)] for rank in (lower, upper))
    return interpolate(below, above, weight)


def edges(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of each value: the value itself where the distribution is exact, else its bucket."""
    if kind == EXACT:
        return values, values
    pattern = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    inner, outer = (bits.view(np.float32).astype(np.float64) for bits in (pattern, pattern + np.uint32(0x10000)))
    outer = np.where(values == 0, 0.0, np.clip(outer, -np.finfo(np.float32).max, np.finfo(np.float32).max))
    return np.minimum(inner, outer), np.maximum(inner, outer)


def count_outside(values: np.ndarray, counts: np.ndarray, kind: str, low: float, high: float) -> float:
    """Number of elements below low or above high; a bucket that contains a bound counts in proportion."""
    lower, upper = edges(values, kind)
    width = np.where(upper > lower, upper - lower, 1.0)
    beyond = np.where(upper > lower, (low - lower) / width, values < low).clip(0, 1)
    beyond += np.where(upper > lower, (upper - high) / width, values > high).clip(0, 1)
    return float((counts * beyond).sum())


def merge(parts: list[tuple[np.ndarray, np.ndarray]], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Merge distributions; kind: BINNED if any of them is."""
    values = np.concatenate([values for values, _ in parts])
    counts = np.concatenate([counts for _, counts in parts])
    if kind == EXACT:
        distinct, where = np.unique(values, return_inverse=True)
        return distinct, np.bincount(where, counts, len(distinct)).astype(np.int64)
    # Means of one bucket differ from tensor to tensor: bring them together, zeros apart from the numbers beside them.
    lower, upper = edges(values, kind)
    _, where = np.unique(np.where(values > 0, upper, lower), return_inverse=True)
    total = np.bincount(where, counts)
    return np.bincount(where, values * counts) / total, total.astype(np.int64)
