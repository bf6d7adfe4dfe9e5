"""Compiled passes over the elements of a tensor.

They release the interpreter lock, so that threads run side by side, and sum in a fixed order (no fast-math), so that
the same tensor gives the same bits on every machine.
"""

import numba
import numpy as np

_SCAN = 4_096


def compiled(function):
    """Compile a function, and cache the machine code for other processes where the cache folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this file's folder nor the user's cache folder can be written
        return numba.njit(nogil=True)(function)


@compiled
def folded(lanes):
    """The sum of the lanes, a power of two of them, half onto half; they are overwritten."""
    half = lanes.size // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[half + lane]
        half //= 2
    return lanes[0]


@compiled
def count_patterns(patterns, counts):
    """Add to counts[p] the number of elements of a flat unsigned array that equal p."""
    for i in range(patterns.size):
        counts[patterns[i]] += 1


@compiled
def first_of(patterns, one, other):
    """Index of the first element of a flat unsigned array that equals one or other; -1 if there is none."""
    for start in range(0, patterns.size, _SCAN):
        block = patterns[start : start + _SCAN]
        # Without an early exit this loop runs on vector registers.
        hits = 0
        for i in range(block.size):
            hits |= (block[i] == one) | (block[i] == other)
        if hits:
            for i in range(block.size):
                if block[i] == one or block[i] == other:
                    return start + i
    return -1


@numba.njit(nogil=True, inline="always")
def _ordered(pattern):
    """Map float32 patterns to unsigned integers of the same order."""
    return ~pattern if pattern >> np.uint32(31) else pattern | np.uint32(0x80000000)


@compiled
def bucket_floats(values, patterns, counts, sums):
    """Count and sum finite values by the high 16 bits of their ordered float32 patterns (uint32).

    Returns all patterns or-ed together.
    """
    seen = np.uint32(0)
    for i in range(values.size):
        seen |= patterns[i]
        bucket = _ordered(patterns[i]) >> np.uint32(16)
        counts[bucket] += 1
        sums[bucket] += values[i]
    return seen


@compiled
def refine_floats(values, patterns, mean, scale, slots, low_counts):
    """Sums of |scaled value|, d, d^2, d^3, d^4 over finite values, d = (value - mean) * scale.

    Counts on the way, by the low 16 bits of the ordered patterns, the values of chosen buckets:
    slots[bucket] is the row in low_counts, or -1.
    """
    s0 = s1 = s2 = s3 = s4 = 0.0
    for i in range(values.size):
        x = np.float64(values[i])
        d = (x - mean) * scale
        square = d * d
        s0 += abs(x) * scale
        s1 += d
        s2 += square
        s3 += square * d
        s4 += square * square
        key = _ordered(patterns[i])
        slot = slots[key >> np.uint32(16)]
        if slot >= 0:
            low_counts[slot, key & np.uint32(0xFFFF)] += 1
    return s0, s1, s2, s3, s4
