"""One compiled pass over two tensors: what changed, by how much, and where.

A block of patterns at a time is widened to float32, and stays in the cache for all that is counted and summed. As in
weights/kernels.py sums are made in a fixed order, and the interpreter lock is released.

Numba widens the results of integer arithmetic to 64 bits. Loops over blocks cast each back to its own type: a vector
register then holds 8 or 16 elements instead of 4.
"""

import numpy as np

from weight_atlas.weights.kernels import compiled, folded

BLOCK = 2_048  # elements that are looked at together; counts of them fit into 16 bits
LANES = 16  # sums side by side, as many as fill vector registers
# What is counted over a tensor: changed elements, those changed by more than one step of the stored type, changed
# signs where neither is zero, elements of each side that are not finite, elements whose values were counted; and the
# place of the largest change.
CHANGED, BEYOND, SIGNS, NOT_FINITE_A, NOT_FINITE_B, COUNTED, PLACE = range(7)
_SECOND, _THIRD, _FOURTH = np.uint64(LANES), np.uint64(2 * LANES), np.uint64(3 * LANES)
_MAGNITUDE, _EXPONENT, _SIGN = np.uint32(0x7FFF_FFFF), np.uint32(0x7F80_0000), np.uint32(0x8000_0000)
_HIGH = np.uint32(16)


@compiled
def compare_patterns(one, other, shift, segment, step, least_step, stride, largest, counts, sums, moved):
    """Compare two flat arrays of patterns of floats, segment by segment.

    one, other: uint32 patterns of float32, or uint16 ones of bfloat16 with shift 16. segment: elements that are summed
    together, a divisor of their number. step: spacing of the coarser stored type, over the power of two below a value;
    least_step: its least spacing. stride: values are counted in one of so many blocks. counts (7,) int64 and moved
    (65536,) int64 are added to, except for the place: of the largest change, the first of equal ones, where a change to
    or from what is not finite is the largest. largest: the pattern of the largest change so far, -1 before any;
    returned with what these arrays have. moved: elements of other less those of one, by the high 16 bits of their
    patterns. sums (segments, 4) float64: sums of squares of one, of other, and of their
    difference over the elements that are finite in both, and the number of changed elements.
    """
    bits = np.empty((2, BLOCK), np.uint32)
    floats = bits.view(np.float32)
    lanes = np.empty((4, LANES))  # the last for one block
    for number in range(sums.shape[0]):
        lanes[:] = 0.0
        changed = 0
        for start in range(number * segment, (number + 1) * segment, BLOCK):
            size = min(BLOCK, (number + 1) * segment - start)
            counted = start // BLOCK % stride == 0
            counts[COUNTED] += size * counted
            found, odd = _glanced(one, other, start, size)
            finite = odd < (_EXPONENT >> np.uint32(shift))
            changed += found
            _widen(one, start, size, shift, bits[0])
            if found == 0 and finite:
                _add_one(floats[0], size, lanes)
                continue
            _widen(other, start, size, shift, bits[1])
            if finite:
                counts[SIGNS] += _flipped(one, other, start, size)
            else:
                taken, top, place = _take_odd(bits, size, counts, moved, counted)
                found -= taken
                if taken and top > largest:
                    largest, counts[PLACE] = top, start + place
                counts[SIGNS] += _flipped(bits[0], bits[1], 0, size)
            _add_three(floats[0], floats[1], size, lanes)
            top, beyond = _measured(bits, size, step, least_step)
            counts[BEYOND] += beyond
            if top > largest and found:
                largest = top
                counts[PLACE] = start + _first(floats, top, size)
            if found and counted:
                _count_moved(bits, size, moved)
        for row in range(3):
            sums[number, row] = folded(lanes[row])
        sums[number, 3] = changed
        counts[CHANGED] += changed
    return largest


@compiled
def _glanced(one, other, start, size):
    """How many elements of a block differ, and its largest magnitude, of patterns as they are stored."""
    kind = one.dtype.type
    start = np.uint64(start)
    changed, odd, magnitude = kind(0), kind(0), kind(~kind(0)) >> kind(1)
    for i in range(start, start + np.uint64(size)):
        changed = kind(changed + kind(one[i] != other[i]))
        odd = max(odd, max(kind(one[i] & magnitude), kind(other[i] & magnitude)))
    return np.int64(changed), odd


@compiled
def _flipped(one, other, start, size):
    """How many signs of a block differ where neither side is zero, of patterns as they are stored."""
    kind = one.dtype.type
    start = np.uint64(start)
    flips, magnitude = kind(0), kind(~kind(0)) >> kind(1)
    for i in range(start, start + np.uint64(size)):
        least = min(kind(one[i] & magnitude), kind(other[i] & magnitude))
        flips = kind(flips + kind((kind(one[i] ^ other[i]) > magnitude) & (least != 0)))
    return np.int64(flips)


@compiled
def _widen(patterns, start, size, shift, out):
    # A product, since a shift by what is not known when this is compiled stays one of 64 bits.
    start, factor = np.uint64(start), np.uint32(1 << shift)
    for i in range(np.uint64(size)):
        out[i] = np.uint32(np.uint32(patterns[start + i]) * factor)


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
                    moved[x[i] >> _HIGH] -= 1
                if counted and not b:
                    moved[y[i] >> _HIGH] += 1
            x[i] = y[i] = 0
    return changed, np.int64(_MAGNITUDE), place


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
def _measured(bits, size, step, least_step):
    """Largest difference as an integer, and the number of elements that changed by more than a step."""
    one, other = bits[0], bits[1]
    step, least_step = np.float32(step), np.float32(least_step)
    top, beyond = np.uint32(0), np.uint32(0)
    for i in range(np.uint64(size)):
        x, y = np.uint32(one[i]), np.uint32(other[i])
        gap = np.float32(y.view(np.float32) - x.view(np.float32))
        gap = np.uint32(gap.view(np.uint32) & _MAGNITUDE)
        power = np.uint32(max(x & _EXPONENT, y & _EXPONENT))
        spacing = np.float32(max(np.float32(power.view(np.float32) * step), least_step))
        top = max(top, gap)
        # Floats that are not negative order as their bits do.
        beyond = np.uint32(beyond + np.uint32(gap > spacing.view(np.uint32)))
    return np.int64(top), np.int64(beyond)


@compiled
def _first(floats, wanted, size):
    """The first place whose difference has this pattern."""
    x, y = floats[0], floats[1]
    for i in range(size):
        gap = np.float32(abs(y[i] - x[i]))
        if gap.view(np.uint32) == wanted:
            return i
    return 0


@compiled
def _count_moved(bits, size, moved):
    """Count the values of a block in which something changed; what did not change cancels itself."""
    x, y = bits[0], bits[1]
    for i in range(np.uint64(size)):
        moved[np.uint64(x[i] >> _HIGH)] -= 1
        moved[np.uint64(y[i] >> _HIGH)] += 1


@compiled
def farthest(moved):
    """The largest distance of the running sum of counts from zero, by high halves of patterns in order of value."""
    total = largest = 0
    half = moved.size // 2
    for i in range(half):
        total += moved[moved.size - 1 - i]  # the sign is the highest bit: negative values run downwards
        largest = max(largest, abs(total))
    for i in range(half):
        total += moved[i]
        largest = max(largest, abs(total))
    return largest
