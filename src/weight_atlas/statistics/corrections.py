"""Corrections of p values for their number."""

import numpy as np

from weight_atlas.statistics.order import ordered


def false_discovery_rates(log_p: np.ndarray) -> np.ndarray:
    """Logarithms of the false discovery rates (Benjamini and Hochberg 1995) of p values, given as natural logarithms.

    In logarithms, since p values of large vocabularies are smaller than any double; where none is, use
    scipy.stats.false_discovery_control.
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    if not len(log_p):
        return log_p
    count = last = len(log_p)
    result, least = np.empty(count), 0.0
    for order in ordered(log_p, last_first=True):
        ranks = np.arange(last - len(order) + 1, last + 1)
        scaled = log_p[order] + np.log(count) - np.log(ranks)
        smallest = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], least)
        result[order] = smallest
        last -= len(order)
        least = smallest[0] if len(order) else least
    return result
