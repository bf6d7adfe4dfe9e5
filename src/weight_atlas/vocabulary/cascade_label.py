"""The course of an edit's effect through the layers, as one word."""

from collections.abc import Sequence

import numpy as np


def cascade_label(kl: Sequence[float], ratio: float = 2.0, smallest: float = 1e-4) -> str:
    """Class of the course of an edit from its layer to the last, by its KL in nats at each layer.

    dampening: the last is less than 1 / ratio of the first; accelerating: the last is more than ratio times the
    first, and the second half of the layers adds more than ratio times what the first half adds; amplifying: it grows
    otherwise; stable: none of these, or below `smallest` at every layer.
    """
    series = np.asarray(kl, dtype=float)
    if len(series) < 2 or series.max() < smallest:
        return "stable"
    start, end = max(series[0], smallest), series[-1]
    if end * ratio < start:
        return "dampening"
    if end <= ratio * start:
        return "stable"
    middle = series[(len(series) - 1) // 2]
    early, late = max(middle - series[0], 0.0), end - middle
    return "accelerating" if len(series) > 2 and late > ratio * early else "amplifying"
