"""Effect sizes of a distribution's deviation from the normal one, beside their values for a normal sample.

A p-value would say nothing: with a million elements any deviation is significant.
"""

import numpy as np

from weight_atlas.weights.distribution import BINNED, edges

# Mean of sqrt(n) D over normal samples whose mean and standard deviation were fitted, by simulation.
_FITTED_KS = 0.635
# Beyond this many degrees of freedom a t distribution is the normal one for any sample there is.
_NU_RANGE = (0.1, 1000.0)


def ks_distance(values: np.ndarray, counts: np.ndarray, kind: str, mean: float, std: float) -> float:
    """Kolmogorov-Smirnov distance D to the normal distribution of this mean and standard deviation.

    The largest |F(x) - Phi(x)|, taken on both sides of every step of F; of a binned distribution at the edges of its
    buckets, where F is known exactly. NaN without spread.
    """
    from scipy.special import ndtr

    if not std > 0:
        return float("nan")
    cumulated = np.cumsum(counts) / counts.sum()
    before = np.concatenate([[0.0], cumulated[:-1]])
    lower, upper = (ndtr((edge - mean) / std) for edge in edges(values, kind))
    return float(max(np.abs(lower - before).max(), np.abs(upper - cumulated).max()))


def ks_distance_null(values: np.ndarray, n: int, kind: str, mean: float, std: float) -> float:
    """Approximate ks_distance of n normal numbers rounded to the values that occur here.

    Root of the sum of squares of two parts: chance, 0.635 / sqrt(n), and the steps of the grid of values.
    """
    from scipy.special import ndtr

    if not std > 0:
        return float("nan")
    chance = _FITTED_KS / n**0.5
    if kind == BINNED:
        return chance
    at, between = ndtr((values - mean) / std), ndtr(((values[1:] + values[:-1]) / 2 - mean) / std)
    grid = max(np.abs(at[:-1] - between).max(), np.abs(at[1:] - between).max())
    return float(np.hypot(chance, grid))


def qq_slope(values: np.ndarray, counts: np.ndarray, mean: float, std: float) -> float:
    """Slope of the standardised values against normal quantiles, by least squares: 1 if normal, below 1 otherwise.

    A value that covers the probabilities from a to b is compared with the mean normal quantile between them, which is
    (phi(z_a) - phi(z_b)) / (b - a). Both axes have unit variance, so the slope is also the correlation; its square is
    the Shapiro-Francia statistic. NaN without spread.
    """
    from scipy.special import ndtri

    if not std > 0:
        return float("nan")
    total = counts.sum()
    below = np.cumsum(counts)[:-1]
    # From the nearer end: probabilities close to 1 have lost their digits.
    z = np.where(below <= total / 2, ndtri(below / total), -ndtri((total - below) / total))
    density = np.concatenate([[0.0], np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), [0.0]])
    return float(((values - mean) / std * (density[:-1] - density[1:])).sum())


def student_nu(p1: float, p25: float, p75: float, p99: float) -> float:
    """Degrees of freedom of the Student t distribution with the same ratio (p99 - p1) / (p75 - p25).

    Robust: location and scale drop out, and single outliers do not enter. inf where the tails are no heavier than
    normal ones; NaN where the quartiles coincide.
    """
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    if not p75 > p25:
        return float("nan")
    wanted = (p99 - p1) / (p75 - p25)

    def excess(log_nu: float) -> float:
        nu = np.exp(log_nu)
        return float(np.log(stdtrit(nu, 0.99) / stdtrit(nu, 0.75)) - np.log(wanted))

    lowest, highest = np.log(_NU_RANGE)
    if excess(highest) >= 0:
        return float("inf")
    if excess(lowest) <= 0:
        return _NU_RANGE[0]
    return float(np.exp(brentq(excess, lowest, highest, xtol=1e-10)))
