"""The dip of a sample: how far its distribution is from the nearest that has one mode.

J. A. Hartigan and P. M. Hartigan, The Dip Test of Unimodality, Annals of Statistics 13 (1985).
"""

import numpy as np

from weight_atlas.weights.kernels import compiled


def dip(ordered: np.ndarray) -> float:
    """Least distance, over all unimodal distributions, of distribution functions to that of sorted numbers (n,).

    They are continuous: the dip is half the share of the most frequent number at least. That of n equally spread
    numbers is 1 / (2 n), of two equal heaps 1/4; 0 for no numbers.
    """
    if not len(ordered):
        return 0.0
    values, counts = np.unique(ordered, return_counts=True)
    upper = np.cumsum(counts).astype(np.float64)
    return float(_dip(values.astype(np.float64), upper - counts, upper)) / (2 * len(ordered))


@compiled
def _hull(x, y, first, last, sign, knots):
    """Write the knots of the greatest convex minorant (sign 1) or least concave majorant (-1) of points; how many."""
    count = 0
    for at in range(first, last + 1):
        while count > 1:
            before, middle = knots[count - 2], knots[count - 1]
            turn = (y[middle] - y[before]) * (x[at] - x[middle]) - (y[at] - y[middle]) * (x[middle] - x[before])
            if sign * turn < 0:
                break
            count -= 1
        knots[count] = at
        count += 1
    return count


@compiled
def _between(x, y, left, right, at):
    """The height of a chord at a point."""
    if left == right:
        return y[left]
    return y[left] + (y[right] - y[left]) * ((x[at] - x[left]) / (x[right] - x[left]))


@compiled
def _widest(x, lower, upper, below, above, minorant, majorant):
    """The largest distance of majorant and minorant at the knots of either: it, and the knots on both sides of it.

    below, above: how many knots each has.
    """
    distance, left, right = -1.0, 0, 0
    place = 0
    for knot in range(below):
        at = minorant[knot]
        while place < above - 1 and majorant[place + 1] <= at:
            place += 1
        following = place if majorant[place] == at else place + 1
        height = _between(x, upper, majorant[place], majorant[following], at) - lower[at]
        if height > distance:
            distance, left, right = height, at, majorant[following]
    place = 0
    for knot in range(above):
        at = majorant[knot]
        while place < below - 1 and minorant[place + 1] <= at:
            place += 1
        following = place if minorant[place] == at else place + 1
        height = upper[at] - _between(x, lower, minorant[place], minorant[following], at)
        if height > distance:
            distance, left, right = height, minorant[place], at
    return distance, left, right


@compiled
def _furthest(x, hull, points, knots, count, first, last, sign):
    """The largest distance of points from the hull of others between two of its knots."""
    distance = 0.0
    for knot in range(count - 1):
        if knots[knot] < first or knots[knot + 1] > last:
            continue
        for at in range(knots[knot], knots[knot + 1] + 1):
            chord = _between(x, hull, knots[knot], knots[knot + 1], at)
            distance = max(distance, sign * (points[at] - chord))
    return distance


@compiled
def _dip(x, lower, upper):
    """Twice the dip times n. lower, upper: numbers below each of the distinct ones, and up to it."""
    # A continuous distribution is half a step of the sample's away from it, at least.
    first, last, found = 0, len(x) - 1, (upper - lower).max()
    minorant, majorant = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    while True:
        below = _hull(x, lower, first, last, 1, minorant)
        above = _hull(x, upper, first, last, -1, majorant)
        distance, left, right = _widest(x, lower, upper, below, above, minorant, majorant)
        if distance <= found:
            return found
        found = max(found, _furthest(x, lower, upper, minorant, below, first, left, 1))
        found = max(found, _furthest(x, upper, lower, majorant, above, right, last, -1))
        if left == first and right == last:
            return found
        first, last = left, right
