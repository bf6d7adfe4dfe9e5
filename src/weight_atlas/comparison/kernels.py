"""One compiled pass over two tensors: what changed, by how much, and where.

A block of patterns at a time is widened to float32, and stays in the cache for all that is counted and summed. As in
weights/kernels.py sums are made in a fixed order, and the interpreter lock is released.
"""

import numpy as np

from weight_atlas.weights.kernels import compiled

BLOCK = 2_048  # elements that are looked at together
LANES = 16  # sums side by side, as many as fill vector registers
# What is counted over a tensor: changed elements, those changed by more than one step of the stored type, changed
# signs where neither is zero, elements of each side that are not finite, elements whose values were counted; and the
# place of the largest change.
CHANGED, BEYOND, SIGNS, NOT_FINITE_A, NOT_FINITE_B, COUNTED, PLACE = range(7)
_SECOND, _THIRD, _FOURTH = np.uint64(LANES), np.uint64(2 * LANES), np.uint64(3 * LANES)
_MAGNITUDE, _EXPONENT, _SIGN = np.uint32(0x7FFF_FFFF), np.uint32(0x7F80_0000), np.uint32(0x8000_0000)


@compiled
def compare_patterns(one, other, shift, segment, step, least_step, stride, largest, counts, sums, moved):
    """Compare two flat arrays of patterns of floats, segment by segment.

    one, other: uint32 patterns of float32, or uint16 ones of bfloat16 with shift 16. segment: elements that are summed
    together, a divisor of their number. step: spacing of the coarser stored type, over the power of two below a value;
    least_step: its least spacing. stride: values are counted in one of so many blocks. counts (7,) int64 and moved
    (65536,) int64 are added to, except for the place: of the largest change, the first of equal ones, where a change to
    or from what is not finite is the largest. largest: the pattern of the largest change so far, -1 before any;
    returned with what these arrays have. moved: elements of other less those of one, by the high 16 bits of their
    patterns in the order of their values. sums (segments, 4) float64: sums of squares of one, of other, and of their
    difference over the elements that are finite in both, and the number of changed elements.
    """
    bits = np.empty((4, BLOCK), np.uint32)
    floats = bits.view(np.float32)
    lanes = np.empty((4, LANES))  # the last for one block
    for number in range(sums.shape[0]):
        lanes[:] = 0.0
        changed = 0
        for start in range(number * segment, (number + 1) * segment, BLOCK):
            size = min(BLOCK, (number + 1) * segment - start)
            counted = start // BLOCK % stride == 0
            counts[COUNTED] += size * counted
            differing, odd = _glanced(one, other, start, size)
            if differing == 0 and odd < (_EXPONENT >> np.uint32(shift)):
                _widen(one, start, size, shift, bits[0])
                _add_one(floats[0], size, lanes)
                continue
            _widen(one, start, size, shift, bits[0])
            _widen(other, start, size, shift, bits[1])
            if odd >= (_EXPONENT >> np.uint32(shift)):
                found, top, place = _take_odd(bits, size, counts, moved, counted)
                changed += found
                if found and top > largest:
                    largest, counts[PLACE] = top, start + place
            _add_three(floats[0], floats[1], size, lanes)
            top, found, beyond, flips = _measured(bits, floats, size, step, least_step)
            changed += found
            counts[BEYOND] += beyond
            counts[SIGNS] += flips
            if top > largest and found:
                largest = top
                counts[PLACE] = start + _first(bits[2], top, size)
            if found and counted:
                _count_moved(bits, size, moved)
        for row in range(3):
            sums[number, row] = _folded(lanes[row])
        sums[number, 3] = changed
        counts[CHANGED] += changed
    return largest


@compiled
def _glanced(one, other, start, size):
    """The differing bits of a block or-ed together, and its largest magnitude, of patterns as they are stored."""
    kind = one.dtype.type
    start = np.uint64(start)
    differing, odd, magnitude = kind(0), kind(0), kind(~kind(0)) >> kind(1)
    for i in range(np.uint64(size)):
        differing |= one[start + i] ^ other[start + i]
        odd = max(odd, max(one[start + i] & magnitude, other[start + i] & magnitude))
    return differing, odd


@compiled
def _widen(patterns, start, size, shift, out):
    start, shift = np.uint64(start), np.uint32(shift)
    for i in range(np.uint64(size)):
        out[i] = np.uint32(patterns[start + i]) << shift


@compiled
def _take_odd(bits, size, counts, moved, counted):
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
                if counted and not a:
                    moved[_place_of(x[i])] -= 1
                if counted and not b:
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
    whole = size - size % (4 * LANES)
    part = lanes[3]
    part[:] = 0.0
    for start in range(np.uint64(0), np.uint64(whole), np.uint64(4 * LANES)):
        for lane in range(np.uint64(LANES)):
            a, b = np.float64(x[start + lane]), np.float64(x[start + _SECOND + lane])
            c, d = np.float64(x[start + _THIRD + lane]), np.float64(x[start + _FOURTH + lane])
            part[lane] += (a * a + b * b) + (c * c + d * d)
    for i in range(whole, size):
        part[i % LANES] += np.float64(x[i]) * np.float64(x[i])
    lanes[0] += part
    lanes[1] += part


@compiled
def _add_three(x, y, size, lanes):
    """Add a block; four elements of each lane at a time, so that sums stay in registers."""
    whole = size - size % (4 * LANES)
    first, second, third = lanes[0], lanes[1], lanes[2]
    for start in range(np.uint64(0), np.uint64(whole), np.uint64(4 * LANES)):
        for lane in range(np.uint64(LANES)):
            a, b = np.float64(x[start + lane]), np.float64(x[start + _SECOND + lane])
            c, d = np.float64(x[start + _THIRD + lane]), np.float64(x[start + _FOURTH + lane])
            e, f = np.float64(y[start + lane]), np.float64(y[start + _SECOND + lane])
            g, h = np.float64(y[start + _THIRD + lane]), np.float64(y[start + _FOURTH + lane])
            first[lane] += (a * a + b * b) + (c * c + d * d)
            second[lane] += (e * e + f * f) + (g * g + h * h)
            third[lane] += ((e - a) * (e - a) + (f - b) * (f - b)) + ((g - c) * (g - c) + (h - d) * (h - d))
    for i in range(whole, size):
        a, b = np.float64(x[i]), np.float64(y[i])
        first[i % LANES] += a * a
        second[i % LANES] += b * b
        third[i % LANES] += (b - a) * (b - a)


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
        power[i] = max(x[i] & _EXPONENT, y[i] & _EXPONENT)
    for i in range(np.uint64(size)):
        spacing[i] = max(spacing[i] * step, least_step)
    top, changed, beyond, flips = np.uint32(0), 0, 0, 0
    # A loop for each: together they do not fit into vector registers.
    for i in range(np.uint64(size)):
        z[i] &= _MAGNITUDE
        top = max(top, z[i])
    for i in range(np.uint64(size)):
        changed += x[i] != y[i]
    for i in range(np.uint64(size)):
        beyond += z[i] > power[i]  # floats that are not negative order as their bits do
    for i in range(np.uint64(size)):
        flips += ((x[i] ^ y[i]) >= _SIGN) & ((x[i] & _MAGNITUDE) != 0) & ((y[i] & _MAGNITUDE) != 0)
    return np.int64(top), changed, beyond, flips


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
