"""Histograms of types of 8 and 16 bits: one pass counts their bit patterns, then exact arithmetic on the counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from weight_atlas.weights.counting import count_patterns, first_of
from weight_atlas.weights.distribution import PERCENTILES, moments, quantiles
from weight_atlas.weights.record import NEAR_ZERO, Histogram

_EIGHT_BITS = (
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.int8,
    torch.uint8,
    torch.bool,
)
TYPES = (*_EIGHT_BITS, torch.bfloat16, torch.float16, torch.int16, torch.uint16)


@dataclass(frozen=True)
class _Patterns:
    """Meaning of the bit patterns of a type: values and masks; the finite ones by value, and by falling magnitude."""

    values: np.ndarray
    ascending: np.ndarray
    descending: np.ndarray
    nan: np.ndarray
    inf: np.ndarray
    zero: np.ndarray
    negative_zero: np.ndarray
    subnormal: np.ndarray


def pattern_histogram(blocks: Iterable[torch.Tensor], dtype: torch.dtype) -> Histogram:
    """Histogram of a tensor of one of TYPES, given as flat contiguous blocks in order; 2 MB of memory beside one."""
    known = _patterns(dtype)
    by_pattern = np.zeros(len(known.values), dtype=np.int64)
    n, absmax, where = 0, float("nan"), -1
    larger = known.descending  # than the largest so far
    for block in blocks:
        raw = _raw(block)
        count_patterns(raw, by_pattern)
        if (hits := np.flatnonzero(by_pattern[larger])).size:
            absmax = float(np.abs(known.values[larger[hits[0]]]))
            largest = larger[hits][np.abs(known.values[larger[hits]]) == absmax].astype(raw.dtype)
            where = n + int(first_of(raw, largest[0], largest[-1]))
            larger = larger[: hits[0]]
        n += len(raw)
    found = {
        "n": n,
        "nan": int(by_pattern[known.nan].sum()),
        "inf": int(by_pattern[known.inf].sum()),
        "zeros": int(by_pattern[known.zero].sum()),
        "negative_zeros": int(by_pattern[known.negative_zero].sum()),
        "subnormal": int(by_pattern[known.subnormal].sum()),
    }
    if where < 0:
        return Histogram(**found, values=np.zeros(0), counts=np.zeros(0, dtype=np.int64))
    present = known.ascending[by_pattern[known.ascending] > 0]
    values, start = np.unique(known.values[present], return_index=True)
    counts = np.add.reduceat(by_pattern[present], start)
    return Histogram(
        **found,
        near_zeros=tuple(int(counts[np.abs(values) <= bound].sum()) for bound in NEAR_ZERO.values()),
        min=float(values[0]),
        max=float(values[-1]),
        absmax=absmax,
        absmax_row=where,
        moments=moments(values, counts),
        percentiles=tuple(quantiles(values, counts, np.array(PERCENTILES) / 100).tolist()),
        values=values + 0.0,  # turns -0 into 0
        counts=counts,
    )


def _raw(flat: torch.Tensor) -> np.ndarray:
    """The bit patterns of a flat tensor, without a copy."""
    if flat.dtype in _EIGHT_BITS:
        return flat.view(torch.uint8).numpy()
    return flat.view(torch.int16).numpy().view(np.uint16)


@cache
def _patterns(dtype: torch.dtype) -> _Patterns:
    if dtype in _EIGHT_BITS:
        codes = torch.arange(256, dtype=torch.int16).to(torch.uint8)
    else:
        codes = torch.from_numpy(np.arange(65_536, dtype=np.uint16).view(np.int16))
    values = (codes != 0 if dtype == torch.bool else codes.view(dtype)).double().numpy()
    zero, negative = values == 0, np.signbit(values)
    finite = np.flatnonzero(np.isfinite(values))
    tiny = torch.finfo(dtype).smallest_normal if dtype.is_floating_point else 0.0
    return _Patterns(
        values=values,
        ascending=finite[np.argsort(values[finite], kind="stable")],
        descending=finite[np.argsort(-np.abs(values[finite]), kind="stable")],
        nan=np.isnan(values),
        inf=np.isinf(values),
        zero=zero,
        negative_zero=zero & negative,
        subnormal=~zero & (np.abs(values) < tiny),
    )
