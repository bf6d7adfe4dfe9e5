"""Compiled rounding of rows of float32 to number formats and back, and the errors of it.

Every loop over elements writes one element for one, so that it runs on vector registers; sums go over halves of a
buffer, in an order that depends on its length alone. Nothing may be reassociated (no fast-math): the same weights give
the same bits on every machine.
"""

import math

import numpy as np

from weight_atlas.weights.kernels import compiled

# Added to a float32 of magnitude below 2^22 and taken off again, it leaves the nearest integer, ties to even.
_INTEGER = np.float32(1.5 * 2**23)
_SIGN = np.uint32(0x80000000)


@compiled
def total(buffer, size):
    """Sum of the first `size` elements, which are overwritten."""
    while size > 1:
        half = (size + 1) // 2
        for i in range(size - half):
            buffer[i] += buffer[half + i]
        size = half
    return buffer[0] if size else 0.0


@compiled
def group_ranges(x, group, low, high):
    """Smallest and largest weight of each group of a row of x (rows, cols) into low, high (rows, groups)."""
    rows, cols = x.shape
    for r in range(rows):
        # As integers in the order of the floats: comparing floats must mind NaN, and does not run on vector registers.
        codes = x[r].view(np.int32)
        for g in range(low.shape[1]):
            least, most = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
            for j in range(g * group, min((g + 1) * group, cols)):
                key = codes[j] ^ ((codes[j] >> np.int32(31)) & np.int32(0x7FFFFFFF))
                least, most = min(least, key), max(most, key)
            ends = np.array([least, most], dtype=np.int32)
            for end in range(2):
                ends[end] ^= (ends[end] >> np.int32(31)) & np.int32(0x7FFFFFFF)
            floats = ends.view(np.float32)
            low[r, g], high[r, g] = floats[0] + np.float32(0), floats[1] + np.float32(0)


@compiled
def _symmetric_group(x, q, peak, reach, least, most):
    step = peak / reach
    if not step > 0:
        step = np.float32(1)
    for j in range(x.size):
        scaled = min(max(x[j] / step, least), most)
        q[j] = ((scaled + _INTEGER) - _INTEGER) * step


@compiled
def _asymmetric_group(x, q, low, high, most):
    span = high - low
    step = span / most if span < np.inf else high / most - low / most
    if not step > 0:
        step = np.float32(1)
    for j in range(x.size):
        scaled = min(max((x[j] - low) / step, np.float32(0)), most)
        q[j] = ((scaled + _INTEGER) - _INTEGER) * step + low


@compiled
def round_integers(x, group, low, high, bits, symmetric, full, ratios, q):
    """Round groups of x (rows, cols) to integers of some bits between multiples of low and high (rows, groups).

    symmetric: about zero, 2^bits - 1 levels, or all 2^bits if full; else 2^bits from low to high. ratios: float32; of
    several, each group has the one with the least squared error, the first of equal ones.
    """
    rows, cols = x.shape
    most = np.float32(2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)
    lowest = np.float32(-(2 ** (bits - 1))) if full else -most
    reach = np.float32((2**bits - 1) / 2) if full else most
    squares = np.empty(min(group, cols), dtype=np.float64)
    for r in range(rows):
        for g in range(low.shape[1]):
            start, end = g * group, min((g + 1) * group, cols)
            here, out = x[r, start:end], q[r, start:end]
            least, best = low[r, g], high[r, g]
            if ratios.size > 1:
                chosen, error = 0, np.inf
                for k in range(ratios.size):
                    _integer_group(here, out, least * ratios[k], best * ratios[k], reach, lowest, most, symmetric)
                    for j in range(here.size):
                        difference = np.float64(here[j]) - np.float64(out[j])
                        squares[j] = difference * difference
                    now = total(squares, here.size)
                    if now < error:
                        chosen, error = k, now
                least, best = least * ratios[chosen], best * ratios[chosen]
            _integer_group(here, out, least, best, reach, lowest, most, symmetric)


@compiled
def _integer_group(x, q, low, high, reach, lowest, most, symmetric):
    if symmetric:
        _symmetric_group(x, q, max(abs(low), abs(high)), reach, lowest, most)
    else:
        _asymmetric_group(x, q, low, high, most)


@compiled
def round_levels(x, group, low, high, levels, q):
    """Round each group of x, over its largest magnitude, to the nearest of some levels (float32, ascending)."""
    rows, cols = x.shape
    middles = (levels[1:] + levels[:-1]) / np.float32(2)
    scaled = np.empty(min(group, cols), dtype=np.float32)
    for r in range(rows):
        for g in range(low.shape[1]):
            start, end = g * group, min((g + 1) * group, cols)
            here, out = x[r, start:end], q[r, start:end]
            scale = max(abs(low[r, g]), abs(high[r, g]))
            if not scale > 0:
                scale = np.float32(1)
            for j in range(here.size):
                scaled[j], out[j] = here[j] / scale, levels[0]
            for k in range(middles.size):
                middle, level = middles[k], levels[k + 1]
                for j in range(here.size):
                    before = out[j]
                    out[j] = level if scaled[j] > middle else before
            for j in range(here.size):
                out[j] *= scale


@compiled
def round_floats(x, group, scales, mantissa, least_exponent, largest, q):
    """Round x / scale to a small float and back; scales: float32 (rows, groups), 0 for groups that become zeros.

    The format has `mantissa` bits after the leading one, 2^least_exponent as its smallest normal number and `largest`
    as its largest number, beyond which it saturates; to nearest, ties to even, subnormal numbers included.
    """
    rows, cols = x.shape
    width = min(group, cols)
    size, rounded = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    codes, patterns = size.view(np.uint32), rounded.view(np.uint32)
    shift = np.uint32(23 - mantissa)
    half, kept = np.uint32((1 << (22 - mantissa)) - 1), np.uint32(0xFFFFFFFF << (23 - mantissa) & 0xFFFFFFFF)
    smallest = np.float32(2.0**least_exponent)
    # Its last bit weighs as much as the subnormal numbers' step.
    coarse = np.float32(2.0 ** (23 + least_exponent - mantissa))
    for r in range(rows):
        for g in range(scales.shape[1]):
            start, end = g * group, min((g + 1) * group, cols)
            here, out, scale = x[r, start:end], q[r, start:end], scales[r, g]
            if not scale > 0:
                out[:] = 0
                continue
            for j in range(here.size):
                size[j] = min(abs(here[j] / scale), largest)
            for j in range(here.size):
                patterns[j] = (codes[j] + half + ((codes[j] >> shift) & np.uint32(1))) & kept
            for j in range(here.size):
                fine = (size[j] + coarse) - coarse
                out[j] = math.copysign((fine if size[j] < smallest else rounded[j]) * scale, here[j])


@compiled
def error_sums(x, q, sums):
    """Of every row: sum (x - q)^2, sum x (x - q) and sum x^2 into sums (rows, 3), float64."""
    rows, cols = x.shape
    squares, products = np.empty(cols, dtype=np.float64), np.empty(cols, dtype=np.float64)
    for r in range(rows):
        for j in range(cols):
            weight = np.float64(x[r, j])
            difference = weight - np.float64(q[r, j])
            squares[j] = difference * difference
            products[j] = weight * difference
        sums[r, 0], sums[r, 1] = total(squares, cols), total(products, cols)
        for j in range(cols):
            weight = np.float64(x[r, j])
            squares[j] = weight * weight
        sums[r, 2] = total(squares, cols)


@compiled
def weighted_sums(x, q, importance, sums):
    """Of every row: sum h (x - q)^2 and sum h x^2 over the columns into sums (rows, 2), h: importance (cols,)."""
    rows, cols = x.shape
    squares, energies = np.empty(cols, dtype=np.float64), np.empty(cols, dtype=np.float64)
    for r in range(rows):
        for j in range(cols):
            weight = np.float64(x[r, j])
            difference = weight - np.float64(q[r, j])
            squares[j] = difference * difference * importance[j]
            energies[j] = weight * weight * importance[j]
        sums[r, 0], sums[r, 1] = total(squares, cols), total(energies, cols)
