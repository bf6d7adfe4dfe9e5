"""The shape of a distribution of token weights: Gaussian-like, bimodal, uniform, a spike, heavy tails.

Effect sizes decide, not p-values, which mean nothing at hundreds of thousands of tokens. Each has a limit that samples
of the healthy shapes stay clear of.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from weight_atlas.token_weights.dip import dip
from weight_atlas.token_weights.modes import DIP, two_modes

GAUSSIAN, UNIFORM, BIMODAL = "Gaussian-like", "uniform", "bimodal"
SPIKE, HEAVY = "delta spike", "heavy tail"
SKEWED, PEAKED, OTHER, FEW = "skewed", "peaked", "other", "too few tokens"

FEWEST = 200  # weights below which there is no shape
SPIKE_SHARE = 0.5
# Share of exactly equal weights that are taken for untouched, so that the shape is that of the others.
RESTING = 0.05
# Of a normal distribution the outer hundredth has an index of 9, of Laplace's 5, of Student's t with 3 degrees of
# freedom 3, with 2 degrees 2.
TAIL_INDEX, TAIL_SHARE = 2.75, 0.01
# Kolmogorov distance up to which a distribution is like the one fitted to it, beside what chance adds: a uniform one
# has .09 to the normal distribution of its quartiles, an exponential one .20.
NEAR, CHANCE = 0.05, 0.8
SKEW = 0.2  # of quartiles and outer percentiles: (right - left) / (right + left)
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Shape:
    """shape: one of the names above. The rest is what it was told by, NaN where that means nothing.

    n: weights that it is the shape of, without those at rest. resting, resting_share: the value that many weights share
    exactly, and their share of all; NaN and 0 where there is none. spike_share: of weights within a narrow window.
    tail_index: Hill's, of the outer hundredth. normal_distance, uniform_distance: Kolmogorov's, to the fitted
    distributions. dip: Hartigan's, and dip_of_chance: what it reaches in samples of one mode. low_mode, high_mode,
    low_share: of two modes, where there are two.
    """

    shape: str
    n: int
    resting: float = math.nan
    resting_share: float = 0.0
    spike_share: float = math.nan
    tail_index: float = math.nan
    normal_distance: float = math.nan
    uniform_distance: float = math.nan
    dip: float = math.nan
    dip_of_chance: float = math.nan
    low_mode: float = math.nan
    high_mode: float = math.nan
    low_share: float = math.nan


def shape_of(weights: np.ndarray, initial: float | None) -> Shape:
    """The shape of finite weights (n,). initial: the value before training, at which untouched weights rest."""
    ordered = np.sort(weights[np.isfinite(weights)])
    if len(ordered) < FEWEST:
        return Shape(FEW, len(ordered))
    resting, share = resting_value(ordered, initial)
    spike = spike_share(ordered)
    if spike > SPIKE_SHARE:
        return Shape(SPIKE, len(ordered), resting, share, spike)
    moved = ordered if share == 0 else ordered[ordered != resting]
    if len(moved) < FEWEST:
        return Shape(FEW, len(moved), resting, share, spike)
    index = tail_index(moved)
    normal, uniform = _distances(moved)
    modes = two_modes(moved)
    name = _named(moved, index, normal, uniform, bimodal=modes is not None)
    low, high, part = modes or (math.nan, math.nan, math.nan)
    dips = (dip(moved), DIP / math.sqrt(len(moved)))
    return Shape(name, len(moved), resting, share, spike, index, normal, uniform, *dips, low, high, part)


def _named(ordered: np.ndarray, index: float, normal: float, uniform: float, *, bimodal: bool) -> str:
    if bimodal:
        return BIMODAL
    n = len(ordered)
    if index * (1 + 1 / math.sqrt(_outer(n))) < TAIL_INDEX:  # a standard error below it
        return HEAVY
    near = NEAR + CHANCE / math.sqrt(n)
    if uniform < min(near, normal):
        return UNIFORM
    if normal < near:
        return GAUSSIAN
    if abs(_skewness(ordered)) > SKEW:
        return SKEWED
    q1, q25, q75, q99 = np.quantile(ordered, (0.01, 0.25, 0.75, 0.99))
    # Of a normal distribution 3.45.
    return PEAKED if q99 - q1 > 4.5 * (q75 - q25) else OTHER


def _skewness(ordered: np.ndarray) -> float:
    low, middle, high = np.quantile(ordered, (0.05, 0.5, 0.95))
    return float((high + low - 2 * middle) / (high - low)) if high > low else 0.0


def resting_value(ordered: np.ndarray, initial: float | None) -> tuple[float, float]:
    """The exact value that a good part of sorted weights share, and their share; (NaN, 0) where none is shared so.

    initial: taken where any weight has it.
    """
    if initial is not None:
        share = float((ordered == initial).mean())
        if share > 0:
            return float(initial), share
    values, counts = np.unique(ordered, return_counts=True)
    most = int(counts.argmax())
    share = float(counts[most] / len(ordered))
    return (float(values[most]), share) if share > RESTING and counts[most] > 1 else (math.nan, 0.0)


def spike_share(ordered: np.ndarray) -> float:
    """Largest share of sorted weights within one window of a hundredth of their quartiles' distance.

    The window is at least a thousandth of the median wide: weights that differ by less have not moved.
    """
    q25, q50, q75 = np.quantile(ordered, (0.25, 0.5, 0.75))
    window = max(0.01 * float(q75 - q25), 1e-3 * abs(float(q50)))
    ends = np.searchsorted(ordered, ordered + window, side="right")
    return float((ends - np.arange(len(ordered))).max() / len(ordered))


def tail_index(ordered: np.ndarray) -> float:
    """Hill's estimate of the exponent of the tail of |w - median|, from its outer hundredth, at least ten weights.

    P(|w - median| > x) falls like x^-index; the smaller, the heavier. Of the outermost tenth, at least one, it is only
    used that they lie further out: a single far weight is an outlier and no tail. B. M. Hill, Annals of Statistics 3
    (1975).
    """
    distance = np.sort(np.abs(ordered - np.median(ordered)))
    outer = _outer(len(distance))
    beyond = max(1, outer // 10)
    edge = distance[-outer - 1]
    if edge == 0:
        return math.nan
    logs = np.log(distance[-outer:-beyond] / edge)
    total = float(logs.sum() + beyond * logs[-1])
    return (outer - beyond) / total if total > 0 else math.inf


def _outer(n: int) -> int:
    return max(10, math.ceil(TAIL_SHARE * n))


def _distances(ordered: np.ndarray) -> tuple[float, float]:
    """Kolmogorov distances of sorted weights to a normal and to a uniform distribution fitted by quantiles.

    Quartiles fit the normal distribution and the outer percentiles the uniform one, so that a few far weights do not
    move either.
    """
    q1, q25, q50, q75, q99 = np.quantile(ordered, (0.01, 0.25, 0.5, 0.75, 0.99))
    sigma = float(q75 - q25) / 1.349
    width = float(q99 - q1) / 0.98
    normal = ndtr((ordered - q50) / sigma) if sigma > 0 else np.full(len(ordered), np.nan)
    uniform = ((ordered - (q1 + q99) / 2) / width + 0.5).clip(0, 1) if width > 0 else np.full(len(ordered), np.nan)
    return _kolmogorov(normal), _kolmogorov(uniform)


def _kolmogorov(cdf: np.ndarray) -> float:
    n = len(cdf)
    return float(max((np.arange(1, n + 1) / n - cdf).max(), (cdf - np.arange(n) / n).max()))


def robust_sigma(weights: np.ndarray) -> float:
    """1.4826 times the median distance from the median: of a normal distribution its standard deviation."""
    return MAD_TO_SIGMA * float(np.median(np.abs(weights - np.median(weights)))) if len(weights) else math.nan
