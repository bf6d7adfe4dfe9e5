"""Schemes for whole tensors from the distribution of their values, without the weights.

With one scale for all, what a weight is rounded to depends on its value alone: the counts of values give every sum over
the elements exactly where all values that occur are known, as they are for types of 8 and 16 bits, and where they are
binned they show which range to clip to.
"""

from dataclasses import dataclass

import numpy as np

from weight_atlas.quantization.errors import Sums
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.quantization.rounding import Extent, Rows
from weight_atlas.weights.distribution import EXACT

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Values:
    """The distribution of a tensor's values: distinct ones or means of bins, ascending, and their counts.

    NaN and infinite elements are taken for zeros here and wherever weights are rounded. exact: whether the values are
    all that occur.
    """

    values: np.ndarray
    counts: np.ndarray
    low: float
    high: float
    not_finite: int
    exact: bool

    @classmethod
    def of(cls, row) -> "Values":
        """From a row of the table of histograms."""
        values, counts = np.asarray(row.values, dtype=np.float64), np.asarray(row.counts, dtype=np.float64)
        lost, low, high = int(row.nan + row.inf), float(row.min), float(row.max)
        if lost or not len(values):
            values, counts = np.append(values, 0.0), np.append(counts, lost)
            low, high = min(low, 0.0) if len(row.values) else 0.0, max(high, 0.0) if len(row.values) else 0.0
        return cls(values, counts, max(low, -LARGEST), min(high, LARGEST), lost, row.distribution == EXACT)


def extent_of(values: Values, schemes: list[Scheme]) -> Extent:
    """The extent of a tensor, with the ranges that clipped schemes for whole tensors shrink to."""
    clipped = [scheme for scheme in schemes if scheme.clipped and scheme.granularity == "tensor"]
    extent = Extent(values.low, values.high, {})
    return Extent(values.low, values.high, {scheme: _best_ratio(values, extent, scheme) for scheme in clipped})


def _best_ratio(values: Values, extent: Extent, scheme: Scheme) -> float:
    tried = (Extent(extent.low, extent.high, {scheme: ratio}) for ratio in scheme.ratios)
    errors = [sums_by_values(values, each, scheme).squared_error for each in tried]
    return scheme.ratios[int(np.argmin(errors))]


def sums_by_values(values: Values, extent: Extent, scheme: Scheme) -> Sums:
    """The sums of a scheme for whole tensors over all elements, from the counts of their values."""
    weights = np.clip(values.values, -LARGEST, LARGEST).astype(np.float32).reshape(1, -1)
    exact = weights[0].astype(np.float64)
    difference = exact - Rows(weights, extent).rounded(scheme)[0].astype(np.float64)
    return Sums(
        squared_error=float((values.counts * difference**2).sum()),
        product=float((values.counts * exact * difference).sum()),
        energy=float((values.counts * exact**2).sum()),
        n=int(values.counts.sum()),
    )
