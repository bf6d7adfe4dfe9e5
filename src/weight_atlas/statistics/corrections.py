"""Corrections of p values for their number."""

import numpy as np


def false_discovery_rates(log_p: np.ndarray) -> np.ndarray:
    """Logarithms of the false discovery rates (Benjamini and Hochberg 1995) of p values, given as natural logarithms.

    In logarithms, since p values of large vocabularies are smaller than any double; where none is, use
    scipy.stats.false_discovery_control.
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    if not len(log_p):
        return log_p
    order = np.argsort(log_p, kind="stable")
    scaled = log_p[order] + np.log(len(log_p)) - np.log(np.arange(1, len(log_p) + 1))
    result = np.empty(len(log_p))
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 0.0)
    return result
