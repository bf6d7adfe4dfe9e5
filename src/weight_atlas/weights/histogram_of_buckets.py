"""Histograms of types of 32 and 64 bits: two passes in chunks, moments in float64, percentiles by two levels of counts.

The first pass counts the high 16 bits of the float32 pattern, which orders the values into 65,536 buckets; the second
counts the low 16 bits within the buckets where a percentile lies, and sums central powers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

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
from weight_atlas.weights.record import NEAR_ZERO, Histogram

Blocks = Callable[[], Iterable[np.ndarray]]

_CHUNK = 1 << 18  # stays in the cache between the loops over it; a plain sum of so many errs by less than 1e-13
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

    counts, sums, seen = np.zeros(_BUCKETS, dtype=np.int64), np.zeros(_BUCKETS), 0
    for start, chunk in _chunks(blocks):
        values = tally.add(chunk, start)
        seen |= bucket_floats(values, _patterns(values), counts, sums)
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
    return tally.histogram(
        moments=shape,
        percentiles=percentiles,
        kind=EXACT if name == "F32" and seen & 0xFFFF == 0 else BINNED,
        values=bin_sums[present] / bins[present],
        counts=bins[present],
    )


@dataclass
class _Tally:
    """What is counted in the stored precision, chunk by chunk."""

    found: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("n", "nan", "inf", "zeros", "negative_zeros", "subnormal"), 0)
    )
    near_zeros: np.ndarray = field(default_factory=lambda: np.zeros(len(NEAR_ZERO), dtype=np.int64))
    min: float = np.inf
    max: float = -np.inf
    absmax: float = -1.0
    where: int = -1

    @property
    def finite(self) -> int:
        return self.found["n"] - self.found["nan"] - self.found["inf"]

    @property
    def zeros(self) -> int:
        return self.found["zeros"]

    @property
    def negative_zeros(self) -> int:
        return self.found["negative_zeros"]

    def add(self, chunk: np.ndarray, start: int) -> np.ndarray:
        """Count a chunk that begins at index start of the tensor; return its finite values."""
        finite = np.isfinite(chunk)
        values = chunk if finite.all() else chunk[finite]
        nan = int(np.isnan(chunk).sum()) if len(values) < len(chunk) else 0
        self._count(n=len(chunk), nan=nan, inf=len(chunk) - len(values) - nan)
        if not len(values):
            return values
        magnitude = np.abs(values)
        if (largest := magnitude.max()) > self.absmax:
            self.absmax, self.where = float(largest), start + int(np.flatnonzero(np.abs(chunk) == largest)[0])
        self.min, self.max = min(self.min, float(values.min())), max(self.max, float(values.max()))
        self.near_zeros += [np.count_nonzero(magnitude <= _floor(bound, chunk.dtype)) for bound in NEAR_ZERO.values()]
        zeros = np.count_nonzero(values == 0)
        self._count(
            zeros=zeros,
            negative_zeros=int(np.signbit(values[values == 0]).sum()) if zeros else 0,
            subnormal=np.count_nonzero(magnitude < np.finfo(chunk.dtype).smallest_normal) - zeros,
        )
        return values

    def _count(self, **more: int) -> None:
        for name, number in more.items():
            self.found[name] += int(number)

    def histogram(self, **rest: object) -> Histogram:
        if not self.finite:
            return Histogram(**self.found, values=np.zeros(0), counts=np.zeros(0, dtype=np.int64))
        return Histogram(
            **self.found,
            near_zeros=tuple(self.near_zeros.tolist()),
            min=self.min,
            max=self.max,
            absmax=self.absmax,
            absmax_row=self.where,
            **rest,
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
    return tally.histogram(
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
    place = np.searchsorted(last_rank, ranks)
    bucket = place - (place > _ZERO)
    wanted = np.unique(bucket[place != _ZERO])
    slots = np.full(_BUCKETS, -1, dtype=np.int64)
    slots[wanted] = np.arange(len(wanted))
    low_counts = np.zeros((len(wanted), _BUCKETS), dtype=np.int64)
    scale, sums = power_of_two(tally.absmax), []
    for _, chunk in _chunks(blocks):
        values = chunk[np.isfinite(chunk)] if tally.finite < tally.found["n"] else chunk
        sums.append(refine_floats(values, _patterns(values), mean, scale, slots, low_counts))
    _leave_out_zeros(low_counts, slots, tally)

    order = np.zeros(len(ranks))
    for i in np.flatnonzero(place != _ZERO):
        last_within = np.cumsum(low_counts[slots[bucket[i]]]) - 1
        low = np.searchsorted(last_within, ranks[i] - (last_rank[place[i]] - last_within[-1]))
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
