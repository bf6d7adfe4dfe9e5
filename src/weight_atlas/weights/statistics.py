"""Statistics of each tensor, from the table of value histograms alone."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import count_outside, percentile_column, quantiles
from weight_atlas.weights.histogram import NEAR_ZERO
from weight_atlas.weights.normality import ks_distance, ks_distance_null, qq_slope, student_nu

# Shares of normal numbers outside the quartiles by more than 1.5 and 3 times their distance.
OUTLIER_NULL, EXTREME_NULL = 0.006976603131, 2.34194e-06
# Percentiles of magnitudes.
MAGNITUDES = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)
# Distinct values next to a bound that say how many elements to expect at it, and how many values there must be in all:
# a type with a handful of values has no neighbours to compare with.
NEXT, FEWEST = 4, 16


def weight_statistics(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One row per tensor: the statistics that a table of histograms holds, and those that follow from it.

    parts: of histograms. Adds to their columns, in place of values and counts: rms; ks_distance to the fitted normal
    and its null, qq_slope, student_nu (see normality.py); outlier_share and extreme_share, the shares outside the
    quartiles by more than 1.5 and 3 interquartile ranges, with their nulls; at_bound, the elements at an outermost
    value, with its null (see at_bound); shares beside the counts of zeros and near-zeros; mean_magnitude and
    percentiles of magnitudes (abs_p50; exact where the distribution is); entropy of the values in bits, with its null;
    dynamic_range = absmax / mean |w|, with its null; flags ("nan", "inf",
    "nan inf" or ""). A null is what a normal sample of the same size would show.
    """
    return pd.concat([_statistics(part) for part in parts], ignore_index=True)


def _statistics(part: pd.DataFrame) -> pd.DataFrame:
    table = part.drop(columns=["values", "counts"])
    finite = (table["n"] - table["nan"] - table["inf"]).to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        derived = table.assign(rms=table["l2"] / np.sqrt(finite))
        shape = pd.DataFrame([_shape(row) for row in part.itertuples(index=False)], index=table.index)
        dynamic_range = table["absmax"] / (table["l1"] / finite)
        shares = derived[["zeros", *NEAR_ZERO]].div(finite, axis=0).add_suffix("_share")
        mean_magnitude = table["l1"] / finite
    return derived.join([shares, shape]).assign(
        mean_magnitude=mean_magnitude,
        dynamic_range=dynamic_range,
        dynamic_range_null=[dynamic_range_null(int(n)) for n in finite],
        flags=[
            " ".join(flag for flag, count in (("nan", a), ("inf", b)) if count) for a, b in table[["nan", "inf"]].values
        ],
    )


def _shape(row: Any) -> dict[str, float]:
    """Statistics that need the distribution itself, not only its moments."""
    values, counts, kind = row.values, row.counts, row.distribution
    n = int(counts.sum())
    magnitudes, where = np.unique(np.abs(values), return_inverse=True)
    of_magnitudes = quantiles(magnitudes, np.bincount(where, counts, len(magnitudes)), np.array(MAGNITUDES) / 100)
    reach = row.p75 - row.p25

    def share_beyond(reaches: float) -> float:
        if not n:
            return float("nan")
        return count_outside(values, counts, kind, row.p25 - reaches * reach, row.p75 + reaches * reach) / n

    piled, beside = at_bound(values, counts)
    return {
        "ks_distance": ks_distance(values, counts, kind, row.mean, row.std),
        "ks_distance_null": ks_distance_null(values, n, kind, row.mean, row.std),
        "qq_slope": qq_slope(values, counts, row.mean, row.std),
        "student_nu": student_nu(row.p1, row.p25, row.p75, row.p99),
        "outlier_share": share_beyond(1.5),
        "outlier_share_null": OUTLIER_NULL,
        "extreme_share": share_beyond(3.0),
        "extreme_share_null": EXTREME_NULL,
        "at_bound": piled,
        "at_bound_null": beside,
        **{f"abs_{percentile_column(p)}": value for p, value in zip(MAGNITUDES, of_magnitudes, strict=True)},
        "entropy": entropy(counts),
        "entropy_null": entropy_null(values, row.mean, row.std),
    }


def entropy(counts: np.ndarray) -> float:
    """Entropy in bits of the distinct values (of a binned distribution: of its bins), -sum p log2 p."""
    if not counts.sum():
        return float("nan")
    shares = counts / counts.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def entropy_null(values: np.ndarray, mean: float, std: float) -> float:
    """The same of normal numbers of this mean and spread that are rounded to the nearest of the values that occur."""
    from scipy.special import ndtr

    if not std > 0:
        return float("nan")
    cumulated = np.concatenate([[0.0], ndtr(((values[1:] + values[:-1]) / 2 - mean) / std), [1.0]])
    shares = np.diff(cumulated)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def dynamic_range_null(n: int) -> float:
    """absmax / mean |w| of n normal numbers: the median of their largest magnitude over sqrt(2 / pi)."""
    from scipy.special import ndtri

    if n < 1:
        return float("nan")
    one_sided_tail = -np.expm1(np.log(0.5) / n) / 2
    return float(-ndtri(one_sided_tail) / np.sqrt(2 / np.pi))


def at_bound(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Elements at the smallest or the largest value, and the most at one of the four values next to it.

    Values pile up at a bound where clipping, a saturating conversion or a clamped optimizer leaves them. values:
    distinct, ascending, exact ones or means of buckets; counts: of each. Of the two ends the one with more elements
    beside its neighbours. Unclipped tails thin out, so that the outermost value has about as many elements as its
    neighbours, up to twice as many where the spacing of floating-point numbers doubles. NaN for fewer than 16 distinct
    values.
    """
    if len(values) < FEWEST:
        return float("nan"), float("nan")
    ends = [(int(counts[0]), int(counts[1 : NEXT + 1].max())), (int(counts[-1]), int(counts[-NEXT - 1 : -1].max()))]
    count, beside = max(ends, key=lambda end: end[0] / end[1])
    return float(count), float(beside)
