"""One compiled pass over two tensors: what changed, by how much, and where.

A block of patterns at a time stays in the cache for all that is counted and summed. As in weights/kernels.py sums are
made in a fixed order, and the interpreter lock is released.

Elements are counted in integers as wide as the patterns, of which a vector register holds four times as many as of
float64. Numba widens the results of integer arithmetic to 64 bits: loops over blocks cast each back to its own type.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from weight_atlas.weights.kernels import compiled

BLOCK = 2_048  # elements that are looked at together; counts of them fit into 16 bits
_TOGETHER = 8  # squares that follow each other in one sum
_PROBE = 64  # elements after which blocks that differ everywhere are known to differ
# What is counted over a tensor: changed elements, those changed by more than one step of the stored type, changed
# signs where neither is zero, elements of each side that are not finite, elements whose values were counted; and the
# place of the largest change.
CHANGED, BEYOND, SIGNS, NOT_FINITE_A, NOT_FINITE_B, COUNTED, PLACE = range(7)
_MAGNITUDE, _EXPONENT, _SIGN = np.uint32(0x7FFF_FFFF), np.uint32(0x7F80_0000), np.uint32(0x8000_0000)
_HIGH = np.uint32(16)


@intrinsic
def _fma(_typing, a, b, c):
    """a * b + c, rounded once: the same bits on every machine, and one instruction on most."""
    double = types.float64
    return double(double, double, double), lambda _context, builder, _, arguments: builder.fma(*arguments)


@intrinsic
def _wide(_typing):
    """Let loops of this function use the widest vector registers, which compilers avoid where they are new."""

    def generate(context, builder, _signature, _arguments):
        # llvmlite knows no attributes with values, and writes out what is in the set.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def compare_patterns(one, other, origin, segment, own, step, least_step, stride, largest, counts, sums, moved):
    """Compare two flat arrays of patterns of floats, segment by segment.

    one, other: uint32 patterns of float32, or uint16 ones of bfloat16. origin: elements of the tensor before them.
    segment: elements that are summed together, a divisor of their number. own: whether both tensors are stored in the
    type of the patterns. step: spacing of the coarser stored type, over the power of two below a value; least_step: its
    least spacing. stride: values are counted in one of so many blocks. counts (7,) int64 and moved (65536,) int64 are
    added to, except for the place: in the tensor, of the largest change, the first of equal ones, where a change to or
    from what is not finite is the largest. largest: the pattern of the largest change so far, -1 before any; returned
    with what these arrays have. moved: elements of other less those of one, by the high 16 bits of their patterns. sums
    (segments, 4) float64: sums of squares of one, of other, and of their difference over the elements that are finite
    in both, and the number of changed elements.
    """
    _wide()
    part = np.empty((3, BLOCK // _TOGETHER + 1))
    for number in range(sums.shape[0]):
        row = sums[number]
        row[:] = 0.0
        for start in range(number * segment, (number + 1) * segment, BLOCK):
            size = min(BLOCK, (number + 1) * segment - start)
            counted = (origin + start) // BLOCK % stride == 0
            counts[COUNTED] += size * counted
            if _same(one, other, start, min(size, _PROBE)) and _same(one, other, start, size):
                _square(one, start, size, part)
                square = _total(part[0], size)
                if np.isfinite(square):
                    row[0] += square
                    row[1] += square
                    continue
            else:
                _squares(one, other, start, size, part)
                larger = _reaches(part[2], size, largest)
                a, b, d = _total(part[0], size), _total(part[1], size), _total(part[2], size)
                if np.isfinite(d):
                    row[0] += a
                    row[1] += b
                    row[2] += d
                    found, signs, beyond = _counted(one, other, start, size)
                    row[3] += found
                    counts[SIGNS] += signs
                    counts[BEYOND] += beyond if own else _beyond(one, other, start, size, step, least_step)
                    if larger:
                        largest = _placed(one, other, origin, start, size, largest, counts)
                    if counted:
                        _count_moved(one, other, start, size, moved)
                    continue
            largest = _looked_at(
                one, other, origin, start, size, step, least_step, counted, largest, counts, row, moved
            )
        counts[CHANGED] += np.int64(row[3])
    return largest


@compiled
def _bits(pattern, kind):
    """The pattern as float32 of one of this kind."""
    return np.uint32(pattern) if kind(~kind(0)) == _MAGNITUDE | _SIGN else np.uint32(np.uint32(pattern) << _HIGH)


@compiled
def _value(pattern, kind):
    return np.uint32(_bits(pattern, kind)).view(np.float32)


@compiled
def _same(one, other, start, size):
    _wide()
    kind = one.dtype.type
    start, apart = np.uint64(start), kind(0)
    for i in range(start, start + np.uint64(size)):
        apart = kind(apart | kind(one[i] ^ other[i]))
    return apart == 0


@compiled
def _counted(one, other, start, size):
    """How many elements of a block differ, in how many signs do where neither side is zero, and by more than a step.

    Patterns count the spacings of their type. From a power of two downwards they are half as wide, except from the
    least normal one, and from one sign to the other magnitudes add up.
    """
    _wide()
    kind = one.dtype.type
    start, unit, magnitude = np.uint64(start), kind(1), kind(kind(~kind(0)) >> kind(1))
    fraction = kind(0x7FFFFF) if kind(~kind(0)) == _MAGNITUDE | _SIGN else kind(0x7F)
    past_least_normal, sign = kind(fraction + kind(2)), kind(31) if fraction > kind(0x7F) else kind(15)
    changed, signs, beyond = kind(0), kind(0), kind(0)
    for i in range(start, start + np.uint64(size)):
        apart = kind(one[i] ^ other[i])
        a, b = kind(one[i] & magnitude), kind(other[i] & magnitude)
        high, low = max(a, b), min(a, b)
        changed = kind(changed + kind(apart != 0))
        flipped = kind(kind(0) - kind(apart >> sign))  # all bits, or none
        signs = kind(signs + kind(flipped & min(low, unit)))
        power = kind(kind(max(high, past_least_normal) & fraction) == 0)
        steps = kind(high - kind(kind(low ^ flipped) - flipped))
        beyond = kind(beyond + kind(steps > kind(unit + power)))
    return np.int64(changed), np.int64(signs), np.int64(beyond)


@compiled
def _beyond(one, other, start, size, step, least_step):
    """How many elements of a block differ by more than a step that is not that of their patterns' type."""
    kind = one.dtype.type
    start, step, least_step, beyond = np.uint64(start), np.float32(step), np.float32(least_step), np.uint32(0)
    for i in range(start, start + np.uint64(size)):
        x, y = np.uint32(_bits(one[i], kind)), np.uint32(_bits(other[i], kind))
        power = np.uint32(max(np.uint32(x & _EXPONENT), np.uint32(y & _EXPONENT)))
        spacing = max(np.float32(power.view(np.float32) * step), least_step)
        beyond = np.uint32(beyond + np.uint32(abs(np.float32(y.view(np.float32) - x.view(np.float32))) > spacing))
    return np.int64(beyond)


@compiled
def _square(one, start, size, part):
    """Squares of a block, summed as by _squares."""
    _wide()
    kind, start, many, square = one.dtype.type, np.uint64(start), np.uint64(size // _TOGETHER), part[0]
    for lane in range(many):
        total, i = 0.0, start + lane
        for _ in range(_TOGETHER):
            a = np.float64(_value(one[i], kind))
            total = _fma(a, a, total)
            i += many
        square[lane] = total
    square[many] = 0.0
    for i in range(start + np.uint64(_TOGETHER) * many, start + np.uint64(size)):
        a = np.float64(_value(one[i], kind))
        square[many] = _fma(a, a, square[many])


@compiled
def _squares(one, other, start, size, part):
    """Squares of a block's sides and of their difference, a few summed together.

    part (3, size // _TOGETHER + 1): the sums, the last of what is left over.
    """
    _wide()
    kind, start, many = one.dtype.type, np.uint64(start), np.uint64(size // _TOGETHER)
    first, second, third = part[0], part[1], part[2]
    for lane in range(many):
        x, y, z, i = 0.0, 0.0, 0.0, start + lane
        for _ in range(_TOGETHER):
            a, b = np.float64(_value(one[i], kind)), np.float64(_value(other[i], kind))
            x, y, z = _fma(a, a, x), _fma(b, b, y), _fma(b - a, b - a, z)
            i += many
        first[lane], second[lane], third[lane] = x, y, z
    part[:, many] = 0.0
    for i in range(start + np.uint64(_TOGETHER) * many, start + np.uint64(size)):
        a, b = np.float64(_value(one[i], kind)), np.float64(_value(other[i], kind))
        first[many] = _fma(a, a, first[many])
        second[many] = _fma(b, b, second[many])
        third[many] = _fma(b - a, b - a, third[many])


@compiled
def _total(part, size):
    """The sum of a block's sums, half onto half; they are overwritten."""
    _wide()
    count = size // _TOGETHER + 1
    while count > 1:
        half, odd = count // 2, count % 2
        for i in range(np.uint64(half)):
            part[i] += part[np.uint64(half) + i]
        if odd:
            part[half] = part[count - 1]
        count = half + odd
    return part[0]


@compiled
def _reaches(squares, size, largest):
    """Whether one of these sums of squares is large enough for a change larger than the largest so far."""
    _wide()
    value = np.float64(np.uint32(max(largest, 0)).view(np.float32))
    least, reached = value * value, 0
    for i in range(np.uint64(size // _TOGETHER + 1)):
        reached |= squares[i] >= least
    return reached != 0


@compiled
def _placed(one, other, origin, start, size, largest, counts):
    """Find the largest change of a block of finite values, and its first place if it is larger than those before."""
    kind = one.dtype.type
    first, top = np.uint64(start), np.uint32(0)
    for i in range(first, first + np.uint64(size)):
        gap = np.float32(_value(other[i], kind) - _value(one[i], kind))
        top = max(top, np.uint32(gap.view(np.uint32) & _MAGNITUDE))
    if np.int64(top) <= largest:
        return largest
    for i in range(start, start + size):
        gap = np.float32(_value(other[i], kind) - _value(one[i], kind))
        if np.uint32(gap.view(np.uint32) & _MAGNITUDE) == top:
            counts[PLACE] = origin + i
            break
    return np.int64(top)


@compiled
def _looked_at(one, other, origin, start, size, step, least_step, counted, largest, counts, row, moved):
    """Count and sum a block with values that are not finite, one by one."""
    kind = one.dtype.type
    for i in range(start, start + size):
        x, y = np.uint32(_bits(one[i], kind)), np.uint32(_bits(other[i], kind))
        a, b = np.float64(x.view(np.float32)), np.float64(y.view(np.float32))
        odd = not np.isfinite(a), not np.isfinite(b)
        counts[NOT_FINITE_A] += odd[0]
        counts[NOT_FINITE_B] += odd[1]
        if not (odd[0] or odd[1]):
            row[0] = _fma(a, a, row[0])
            row[1] = _fma(b, b, row[1])
            row[2] = _fma(b - a, b - a, row[2])
        if x == y:
            continue
        row[3] += 1
        power = np.uint32(max(x & _EXPONENT, y & _EXPONENT)).view(np.float32)
        gap = abs(b - a)
        top = np.int64(np.uint32(np.float32(gap).view(np.uint32) & _MAGNITUDE))
        if odd[0] or odd[1]:
            gap, top = np.inf, np.int64(_MAGNITUDE)
        counts[BEYOND] += gap == np.inf or gap > max(np.float64(power) * step, least_step)
        counts[SIGNS] += (x ^ y) >= _SIGN and a != 0 and b != 0
        if top > largest:
            largest, counts[PLACE] = top, origin + i
        if counted:
            moved[x >> _HIGH] -= not odd[0]
            moved[y >> _HIGH] += not odd[1]
    return largest


@compiled
def _count_moved(one, other, start, size, moved):
    """Count the values of a block in which something changed; what did not change cancels itself."""
    kind, start = one.dtype.type, np.uint64(start)
    for i in range(start, start + np.uint64(size)):
        moved[np.uint64(_bits(one[i], kind) >> _HIGH)] -= 1
        moved[np.uint64(_bits(other[i], kind) >> _HIGH)] += 1


@compiled
def looked_up(patterns, table, out):
    """Set out[i] to table[patterns[i]]; patterns: uint8."""
    for i in range(patterns.size):
        out[i] = table[patterns[i]]


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
