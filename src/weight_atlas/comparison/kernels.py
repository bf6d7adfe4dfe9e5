"""One compiled pass over two tensors: what changed, by how much, and where.

A block of patterns at a time is widened to float32, and stays in the cache for all that is counted and summed. As in
weights/kernels.py sums are made in a fixed order, and the interpreter lock is released.
"""

import numpy as np

from weight_atlas.weights.kernels import compiled

BLOCK = 2_048  # elements that are looked at together
LANES = 16  # sums side by side, as many as fill vector registers
# What is counted over a tensor: changed elements, those changed by more than one step of the stored type, changed
# signs where neither is zero, elements of each side that are not finite; and the place of the largest change.
CHANGED, BEYOND, SIGNS, NOT_FINITE_A, NOT_FINITE_B, PLACE = range(6)
_MAGNITUDE, _EXPONENT, _SIGN = np.uint32(0x7FFF_FFFF), np.uint32(0x7F80_0000), np.uint32(0x8000_0000)


@compiled
def compare_patterns(one, other, shift, segment, step, least_step, largest, counts, sums, moved):
    """Compare two flat arrays of patterns of floats, segment by segment.

    one, other: uint32 patterns of float32, or uint16 ones of bfloat16 with shift 16. segment: elements that are summed
    together, a divisor of their number. step: spacing of the coarser stored type, over the power of two below a value;
    least_step: its least spacing. counts (6,) int64 and moved (65536,) int64 are added to, except for the place: of the
    largest change, the first of equal ones, where a change to or from what is not finite is the largest. largest: the
    pattern of the largest change so far, -1 before any; returned with what these arrays have. moved: elements of other
    less those of one, by the high 16 bits of their patterns in the order of their values. sums (segments, 4) float64:
    sums of squares of one, of other, and of their difference over the elements that are finite in both, and the number
    of changed elements.
    """
    bits = np.empty((4, BLOCK), np.uint32)
    floats = bits.view(np.float32)
    lanes = np.empty((3, LANES))
    for number in range(sums.shape[0]):
        lanes[:] = 0.0
        changed = 0
        for start in range(number * segment, (number + 1) * segment, BLOCK):
            size = min(BLOCK, (number + 1) * segment - start)
            differing, odd = _widened(one, other, start, size, shift, bits)
            if odd >= _EXPONENT:
                found, top, place = _take_odd(bits, size, counts, moved)
                changed += found
                if found and top > largest:
                    largest, counts[PLACE] = top, start + place
                differing = np.uint32(1)
            if differing == 0:
                _add_one(floats[0], size, lanes)
                continue
            _add_three(floats[0], floats[1], size, lanes)
            top, found, beyond, flips = _measured(bits, floats, size, step, least_step)
            changed += found
            counts[BEYOND] += beyond
            counts[SIGNS] += flips
            if top > largest and found:
                largest = top
                counts[PLACE] = start + _first(bits[2], top, size)
            if found:
                _count_moved(bits, size, moved)
        for row in range(3):
            sums[number, row] = _folded(lanes[row])
        sums[number, 3] = changed
        counts[CHANGED] += changed
    return largest


@compiled
def _widened(one, other, start, size, shift, bits):
    """Widen a block; returns the differing bits or-ed together, and the largest magnitude as an integer."""
    differing, odd = np.uint32(0), np.uint32(0)
    x, y, start, shift = bits[0], bits[1], np.uint64(start), np.uint32(shift)
    for i in range(np.uint64(size)):
        x[i] = np.uint32(one[start + i]) << shift
        y[i] = np.uint32(other[start + i]) << shift
    for i in range(np.uint64(size)):
        differing |= x[i] ^ y[i]
    for i in range(np.uint64(size)):
        odd = max(odd, max(x[i] & _MAGNITUDE, y[i] & _MAGNITUDE))
    return differing, odd


@compiled
def _take_odd(bits, size, counts, moved):
    """Count what is not finite in a block, and set both sides to 0 there; returns how many changed, and the first."""
    x, y = bits[0], bits[1]
    changed, place = 0, 0
    for i in range(size):
        a, b = (x[i] & _MAGNITUDE) >= _EXPONENT, (y[i] & _MAGNITUDE) >= _EXPONENT
        counts[NOT_FINITE_A] += a
        counts[NOT_FINITE_B] += b
        if a or b:
            if x[i] != y[i]:
                place = i if changed == 0 else place
                changed += 1
                counts[BEYOND] += 1
                counts[SIGNS] += (x[i] ^ y[i]) >= _SIGN
                if not a:
                    moved[_place_of(x[i])] -= 1
                if not b:
                    moved[_place_of(y[i])] += 1
            x[i] = y[i] = 0
    return changed, np.int64(_MAGNITUDE), place


@compiled
def _place_of(pattern):
    """The high 16 bits of a pattern, as integers of the same order as the values."""
    return (pattern ^ (np.uint32(np.int32(pattern) >> np.int32(31)) | _SIGN)) >> np.uint32(16)


@compiled
def _add_one(x, size, lanes):
    """Add a block in which nothing changed."""
    whole = size - size % LANES
    square, same = lanes[0], lanes[1]
    for start in range(np.uint64(0), np.uint64(whole), np.uint64(LANES)):
        for lane in range(np.uint64(LANES)):
            a = np.float64(x[start + lane])
            square[lane] += a * a
            same[lane] += a * a
    for lane in range(np.uint64(size - whole)):
        a = np.float64(x[np.uint64(whole) + lane])
        square[lane] += a * a
        same[lane] += a * a


@compiled
def _add_three(x, y, size, lanes):
    whole = size - size % LANES
    first, second, third = lanes[0], lanes[1], lanes[2]
    for start in range(np.uint64(0), np.uint64(whole), np.uint64(LANES)):
        for lane in range(np.uint64(LANES)):
            a, b = np.float64(x[start + lane]), np.float64(y[start + lane])
            d = b - a
            first[lane] += a * a
            second[lane] += b * b
            third[lane] += d * d
    for lane in range(np.uint64(size - whole)):
        a, b = np.float64(x[np.uint64(whole) + lane]), np.float64(y[np.uint64(whole) + lane])
        d = b - a
        first[lane] += a * a
        second[lane] += b * b
        third[lane] += d * d


@compiled
def _measured(bits, floats, size, step, least_step):
    """Largest difference as an integer, and numbers of elements that changed, by more than a step, and in sign.

    The patterns of the differences are left in bits[2].
    """
    x, y, z, power = bits[0], bits[1], bits[2], bits[3]
    a, b, d, spacing = floats[0], floats[1], floats[2], floats[3]
    step, least_step = np.float32(step), np.float32(least_step)
    for i in range(np.uint64(size)):
        d[i] = b[i] - a[i]
    top, changed, flips, beyond = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
    for i in range(np.uint64(size)):
        z[i] &= _MAGNITUDE
        power[i] = max(x[i] & _EXPONENT, y[i] & _EXPONENT)
        top = max(top, z[i])
    for i in range(np.uint64(size)):
        changed += np.uint32(x[i] != y[i])
        both = np.uint32((x[i] & _MAGNITUDE) != 0) & np.uint32((y[i] & _MAGNITUDE) != 0)
        flips += ((x[i] ^ y[i]) >> np.uint32(31)) & both
    for i in range(np.uint64(size)):
        beyond += np.uint32(d[i] > max(spacing[i] * step, least_step))
    return np.int64(top), np.int64(changed), np.int64(beyond), np.int64(flips)


@compiled
def _first(patterns, wanted, size):
    for i in range(size):
        if patterns[i] == wanted:
            return i
    return 0


@compiled
def _count_moved(bits, size, moved):
    """Count the values of a block in which something changed; what did not change cancels itself."""
    x, y, from_place, to_place = bits[0], bits[1], bits[2], bits[3]
    for i in range(np.uint64(size)):
        from_place[i] = _place_of(x[i])
        to_place[i] = _place_of(y[i])
    for i in range(size):
        moved[from_place[i]] -= 1
        moved[to_place[i]] += 1


@compiled
def _folded(lanes):
    """The sum of the lanes, half onto half; they are overwritten."""
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[half + lane]
        half //= 2
    return lanes[0]
