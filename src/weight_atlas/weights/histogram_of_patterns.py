"""Histograms of types of 8 and 16 bits: one pass counts their bit patterns, then exact arithmetic on the counts."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from weight_atlas.weights.distribution import PERCENTILES, moments, quantiles
from weight_atlas.weights.histogram import NEAR_ZERO, Histogram
from weight_atlas.weights.stored_types import patterns

# Up to so many elements numpy counts in less time than it takes to load the compiled kernels.
_FEW = 1 << 19


def pattern_histogram(blocks: Iterable[np.ndarray], name: str) -> Histogram:
    """Histogram of a tensor of a narrow type, given as flat blocks of its patterns in order.

    Memory beside a block: 2 MB.
    """
    known = patterns(name)
    by_pattern = np.zeros(len(known.values), dtype=np.int64)
    n, absmax, absmax_index = 0, float("nan"), -1
    larger = known.descending  # patterns of a larger magnitude than any seen so far
    for raw in blocks:
        _count(raw, by_pattern)
        if (hits := np.flatnonzero(by_pattern[larger])).size:
            absmax = float(np.abs(known.values[larger[hits[0]]]))
            largest = larger[hits][np.abs(known.values[larger[hits]]) == absmax].astype(raw.dtype)
            absmax_index = n + _first(raw, largest[0], largest[-1])
            larger = larger[: hits[0]]
        n += len(raw)
    not_finite = Histogram(
        n=n,
        nan=int(by_pattern[known.nan].sum()),
        inf=int(by_pattern[known.inf].sum()),
        values=np.zeros(0),
        counts=np.zeros(0, dtype=np.int64),
    )
    if absmax_index < 0:
        return not_finite
    present = known.ascending[by_pattern[known.ascending] > 0]
    values, start = np.unique(known.values[present], return_index=True)
    counts = np.add.reduceat(by_pattern[present], start)
    return replace(
        not_finite,
        zeros=int(by_pattern[known.zero].sum()),
        negative_zeros=int(by_pattern[known.negative_zero].sum()),
        subnormal=int(by_pattern[known.subnormal].sum()),
        near_zeros=tuple(int(counts[np.abs(values) <= bound].sum()) for bound in NEAR_ZERO.values()),
        min=float(values[0]),
        max=float(values[-1]),
        absmax=absmax,
        absmax_row=absmax_index,
        moments=moments(values, counts),
        percentiles=tuple(quantiles(values, counts, np.array(PERCENTILES) / 100).tolist()),
        values=values + 0.0,  # turns -0 into 0
        counts=counts,
    )


def _count(raw: np.ndarray, counts: np.ndarray) -> None:
    if raw.size <= _FEW:
        counts += np.bincount(raw, minlength=len(counts))
    else:
        from weight_atlas.weights.kernels import count_patterns

        count_patterns(raw, counts)


def _first(raw: np.ndarray, one: np.integer, other: np.integer) -> int:
    """Index of the first element that is one or other."""
    if raw.size <= _FEW:
        return int(np.argmax((raw == one) | (raw == other)))
    from weight_atlas.weights.kernels import first_of

    return int(first_of(raw, one, other))
