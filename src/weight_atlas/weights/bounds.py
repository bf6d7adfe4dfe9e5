"""Values that pile up at a bound, as clipping, a saturating conversion or a clamped optimizer leaves them."""

import numpy as np

# Distinct values next to a bound that say how many elements to expect at it, and how many values there must be in all:
# a type with a handful of values has no neighbours to compare with.
NEXT, FEWEST = 4, 16


def at_bound(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Elements at the smallest or the largest value, and the most at one of the four values next to it.

    values: distinct, ascending, exact ones or means of buckets; counts: of each. Of the two ends the one with more
    elements beside its neighbours. Unclipped tails thin out, so that the outermost value has about as many elements as
    its neighbours, up to twice as many where the spacing of floating-point numbers doubles. NaN for fewer than 16
    distinct values.
    """
    if len(values) < FEWEST:
        return float("nan"), float("nan")
    ends = [(int(counts[0]), int(counts[1 : NEXT + 1].max())), (int(counts[-1]), int(counts[-NEXT - 1 : -1].max()))]
    count, beside = max(ends, key=lambda end: end[0] / end[1])
    return float(count), float(beside)
