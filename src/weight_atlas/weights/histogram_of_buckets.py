"""Histograms of types of 32 and 64 bits: two passes in chunks, moments in float64, percentiles by two levels of counts.

The first pass counts the high 16 bits of the float32 pattern, which orders the values into 65,536 buckets; the second
counts the low 16 bits within the buckets where a percentile lies, and sums central powers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from weight_atlas.weights.distribution import (
    BINNED,
    EXACT,
    PERCENTILES,
    Moments,
    from_power_sums,
    interpolate,
    moments,
    power_of_two,
    quantile_ranks,
    quantiles,
)
from weight_atlas.weights.histogram import NEAR_ZERO, Histogram

Blocks = Callable[[], Iterable[np.ndarray]]

_CHUNK = 1 << 18  # stays in the cache between the loops over it; a plain sum over it errs by less than 1e-13
_SMALL = 65_536  # up to here sorting the values is as cheap as bucketing them, and keeps each one
_BUCKETS = 65_536
_ZERO = 0x8000  # bucket of 0, the one after that of -0
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def wide_histogram(blocks: Blocks, name: str, n: int) -> Histogram:
    """Histogram of a tensor of a wide type with n elements, given as flat blocks in order.

    Up to 65,536 elements the distribution is exact; beyond, it is binned unless the values fit into bfloat16 anyway.
    Memory beside a block: about 30 MB.
    """
    tally = _Tally()
    if n <= _SMALL:
        return _small_histogram(blocks, tally)
    from weight_atlas.weights.kernels import bucket_floats

    counts, sums, all_bits = np.zeros(_BUCKETS, dtype=np.int64), np.zeros(_BUCKETS), 0
    for start, chunk in _chunks(blocks):
        values = tally.add(chunk, start)
        all_bits |= bucket_floats(values, _patterns(values), counts, sums)
    if not tally.finite:
        return tally.histogram()
    if tally.min == tally.max:  # rounded sums must not give a constant a spread
        return _exact_histogram(np.array([tally.min]), np.array([tally.finite]), tally)
    counts[_ZERO] -= tally.zeros - tally.negative_zeros
    counts[_ZERO - 1] -= tally.negative_zeros
    mean = sums.sum() / tally.finite
    if name == "F32":
        # Deviations from a mean with more digits than the values would all be rounded the same way.
        mean = float(np.float32(mean))
    shape, percentiles = _refined(blocks, tally, counts, mean)
    # The bucket of 0 starts with 0 itself, which gets a bin of its own.
    bins, bin_sums = np.insert(counts, _ZERO, tally.zeros), np.insert(sums, _ZERO, 0.0)
    present = bins > 0
    return replace(
        tally.histogram(),
        moments=shape,
        percentiles=percentiles,
        kind=EXACT if name == "F32" and all_bits & 0xFFFF == 0 else BINNED,
        values=bin_sums[present] / bins[present],
        counts=bins[present],
    )


@dataclass
class _Tally:
    """What is counted in the stored precision, chunk by chunk; absmax_index: first element of that magnitude."""

    n: int = 0
    nan: int = 0
    inf: int = 0
    zeros: int = 0
    negative_zeros: int = 0
    subnormal: int = 0
    near_zeros: np.ndarray = field(default_factory=lambda: np.zeros(len(NEAR_ZERO), dtype=np.int64))
    min: float = np.inf
    max: float = -np.inf
    absmax: float = -1.0
    absmax_index: int = -1

    @property
    def finite(self) -> int:
        return self.n - self.nan - self.inf

    def add(self, chunk: np.ndarray, start: int) -> np.ndarray:
        """Count a chunk that begins at index start of the tensor; return its finite values."""
        finite = np.isfinite(chunk)
        values = chunk if finite.all() else chunk[finite]
        nan = int(np.isnan(chunk).sum()) if len(values) < len(chunk) else 0
        self.n += len(chunk)
        self.nan += nan
        self.inf += len(chunk) - len(values) - nan
        if len(values):
            self._add_finite(values, chunk, start)
        return values

    def _add_finite(self, values: np.ndarray, chunk: np.ndarray, start: int) -> None:
        magnitude = np.abs(values)
        if (largest := magnitude.max()) > self.absmax:
            self.absmax, self.absmax_index = float(largest), start + int(np.flatnonzero(np.abs(chunk) == largest)[0])
        self.min, self.max = min(self.min, float(values.min())), max(self.max, float(values.max()))
        self.near_zeros += [np.count_nonzero(magnitude <= _floor(bound, chunk.dtype)) for bound in NEAR_ZERO.values()]
        zeros = int(np.count_nonzero(values == 0))
        self.zeros += zeros
        self.negative_zeros += int(np.signbit(values[values == 0]).sum()) if zeros else 0
        self.subnormal += int(np.count_nonzero(magnitude < np.finfo(chunk.dtype).smallest_normal)) - zeros

    def histogram(self) -> Histogram:
        """What has been counted, without a distribution yet."""
        empty = Histogram(
            n=self.n, nan=self.nan, inf=self.inf, values=np.zeros(0), counts=np.zeros(0, dtype=np.int64)
        )  # fmt: skip
        if not self.finite:
            return empty
        return replace(
            empty,
            zeros=self.zeros,
            negative_zeros=self.negative_zeros,
            near_zeros=tuple(self.near_zeros.tolist()),
            subnormal=self.subnormal,
            min=self.min,
            max=self.max,
            absmax=self.absmax,
            absmax_row=self.absmax_index,
        )


def _floor(bound: float, dtype: np.dtype) -> np.floating:
    """The largest number of a type that is not above bound."""
    rounded = dtype.type(bound)
    return rounded if float(rounded) <= bound else np.nextafter(rounded, dtype.type(0))


def _small_histogram(blocks: Blocks, tally: _Tally) -> Histogram:
    chunks = [tally.add(chunk, start).astype(np.float64) for start, chunk in _chunks(blocks)]
    if not tally.finite:
        return tally.histogram()
    return _exact_histogram(*np.unique(np.concatenate(chunks), return_counts=True), tally)


def _exact_histogram(values: np.ndarray, counts: np.ndarray, tally: _Tally) -> Histogram:
    return replace(
        tally.histogram(),
        moments=moments(values, counts),
        percentiles=tuple(quantiles(values, counts, np.array(PERCENTILES) / 100).tolist()),
        values=values + 0.0,  # turns -0 into 0
        counts=counts.astype(np.int64),
    )


def _chunks(blocks: Blocks) -> Iterator[tuple[int, np.ndarray]]:
    """Index of the first element, and elements in float32 where they are stored so, else in float64."""
    start = 0
    for block in blocks():
        for begin in range(0, len(block), _CHUNK):
            chunk = block[begin : begin + _CHUNK]
            yield start + begin, chunk if chunk.dtype == np.float32 else chunk.astype(np.float64)
        start += len(block)


def _patterns(values: np.ndarray) -> np.ndarray:
    """uint32 patterns of finite values in float32."""
    if values.dtype == np.float64:
        values = values.clip(-_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)
    return values.view(np.uint32)


def _refined(blocks: Blocks, tally: _Tally, counts: np.ndarray, mean: float) -> tuple[Moments, tuple[float, ...]]:
    """Second pass: moments and percentiles, given the counts of the buckets without the zeros."""
    from weight_atlas.weights.kernels import refine_floats

    lower, upper, weight = quantile_ranks(tally.finite, np.array(PERCENTILES) / 100)
    ranks = np.unique(np.concatenate([lower, upper]))
    last_rank = np.cumsum(np.insert(counts, _ZERO, tally.zeros)) - 1
    bin_of = np.searchsorted(last_rank, ranks)
    bucket = bin_of - (bin_of > _ZERO)
    wanted = np.unique(bucket[bin_of != _ZERO])
    slots = np.full(_BUCKETS, -1, dtype=np.int64)
    slots[wanted] = np.arange(len(wanted))
    low_counts = np.zeros((len(wanted), _BUCKETS), dtype=np.int64)
    scale, sums = power_of_two(tally.absmax), []
    for _, chunk in _chunks(blocks):
        values = chunk[np.isfinite(chunk)] if tally.finite < tally.n else chunk
        sums.append(refine_floats(values, _patterns(values), mean, scale, slots, low_counts))
    _leave_out_zeros(low_counts, slots, tally)

    order = np.zeros(len(ranks))
    for i in np.flatnonzero(bin_of != _ZERO):
        last_within = np.cumsum(low_counts[slots[bucket[i]]]) - 1
        low = np.searchsorted(last_within, ranks[i] - (last_rank[bin_of[i]] - last_within[-1]))
        order[i] = _number(int(bucket[i]) << 16 | int(low))
    below, above = (order[np.searchsorted(ranks, side)] for side in (lower, upper))
    l1, *powers = np.array(sums).sum(axis=0).tolist()
    shape = from_power_sums(tally.finite, mean * scale, powers, l1, scale)
    return shape, tuple(interpolate(below, above, weight).tolist())


def _leave_out_zeros(low_counts: np.ndarray, slots: np.ndarray, tally: _Tally) -> None:
    if slots[_ZERO] >= 0:
        low_counts[slots[_ZERO], 0] -= tally.zeros - tally.negative_zeros
    if slots[_ZERO - 1] >= 0:
        low_counts[slots[_ZERO - 1], -1] -= tally.negative_zeros


def _number(key: int) -> float:
    """The float32 number of an ordered pattern."""
    pattern = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.uint32(pattern).view(np.float32))
