"""Whether a distribution has two modes: a mixture of two normal distributions with a valley between them.

The dip finds modes of like weight in fewer numbers, the counts of a histogram small ones beside large ones: a valley is
taken for real where either tells it from chance.
"""

import math

import numpy as np

from weight_atlas.token_weights.dip import dip

_BINS = 256
_ROUNDS = 200
_TAIL = 0.005  # of each end, which is left out: a few far weights are no mode
# What a second component must gain by the Bayesian information criterion, and how deep the valley must be: the least
# density between the modes over the lower mode's, and in standard errors of the counts behind them.
BIC_GAIN = 10.0
VALLEY, ERRORS = 0.8, 4.0
LEAST_SHARE = 0.02
# Dip times sqrt(n) beyond which a valley is not of chance: of samples of the uniform distribution, the least clear of
# those with one mode, one in a thousand is above.
DIP = 0.75


def two_modes(ordered: np.ndarray) -> tuple[float, float, float] | None:
    """The two modes of sorted weights and the share below the valley between them; None where there is one mode.

    Two normal components, fitted by expectation maximisation to a histogram, must gain BIC_GAIN over one, and the
    histogram itself must have a valley between their means, which chance does not make: skewed and peaked distributions
    take two components, too.
    """
    low, high = np.quantile(ordered, (_TAIL, 1 - _TAIL))
    if not high > low or not math.isfinite(high - low):
        return None
    counts, edges = np.histogram(ordered, _BINS, (low, high))
    middles = (np.arange(_BINS) + 0.5) / _BINS  # in units of the range
    n = int(counts.sum())
    shares, means, sigmas, likelihood = _fitted(middles, counts)
    single = _single_likelihood(middles, counts)
    if 2 * (likelihood - single) - 3 * math.log(n) < BIC_GAIN or shares.min() < LEAST_SHARE:
        return None
    valley = _valley(counts, means, sigmas, 0.0 if dip(ordered) > DIP / math.sqrt(len(ordered)) else ERRORS)
    if valley is None:
        return None
    first, second = np.sort(means)
    width = high - low
    split = edges[valley]
    return float(low + first * width), float(low + second * width), float((ordered < split).mean())


def _single_likelihood(middles: np.ndarray, counts: np.ndarray) -> float:
    n = counts.sum()
    mean = (middles * counts).sum() / n
    variance = max(((middles - mean) ** 2 * counts).sum() / n, 1e-8)
    return float(-0.5 * n * (math.log(2 * math.pi * variance) + 1))


def _fitted(middles: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Shares, means, standard deviations and log-likelihood of two normal components, begun at the best split."""
    split = _best_split(middles, counts)
    parts = [slice(0, split), slice(split, None)]
    shares = np.array([counts[part].sum() for part in parts], dtype=float) / counts.sum()
    means = np.array([np.average(middles[part], weights=counts[part]) for part in parts])
    sigmas = np.array(
        [
            math.sqrt(np.average((middles[part] - mean) ** 2, weights=counts[part]) + 1e-6)
            for part, mean in zip(parts, means, strict=True)
        ]
    )
    likelihood = -math.inf
    for _ in range(_ROUNDS):
        density = shares * np.exp(-0.5 * ((middles[:, None] - means) / sigmas) ** 2) / (sigmas * math.sqrt(2 * math.pi))
        total = density.sum(axis=1).clip(1e-300)
        before, likelihood = likelihood, float((counts * np.log(total)).sum())
        if likelihood - before < 1e-6 * abs(likelihood):
            break
        weight = density / total[:, None] * counts[:, None]
        mass = weight.sum(axis=0).clip(1e-12)
        shares, means = mass / counts.sum(), (weight * middles[:, None]).sum(axis=0) / mass
        sigmas = np.sqrt((weight * (middles[:, None] - means) ** 2).sum(axis=0) / mass + 1e-6)
    return shares, means, sigmas, likelihood


def _best_split(middles: np.ndarray, counts: np.ndarray) -> int:
    """The bin at which two parts differ most between and least within (Otsu's threshold)."""
    mass = np.cumsum(counts)[:-1].astype(float)
    moment = np.cumsum(counts * middles)[:-1]
    total, whole = float(counts.sum()), float((counts * middles).sum())
    rest = total - mass
    with np.errstate(divide="ignore", invalid="ignore"):
        between = mass * rest * (moment / mass - (whole - moment) / rest) ** 2
    return int(np.nanargmax(np.where((mass > 0) & (rest > 0), between, np.nan))) + 1


def _valley(counts: np.ndarray, means: np.ndarray, sigmas: np.ndarray, errors: float) -> int | None:
    """The bin of the valley between two means, if the counts have one that is so many standard errors deep."""
    first, second = np.sort(means)
    between = second - first
    width = max(1, round(0.15 * between * _BINS))  # bins that are taken together
    box = np.convolve(counts, np.ones(width), mode="same")
    left, right = (int(np.clip(mean * _BINS, 0, _BINS - 1)) for mean in (first, second))
    if right - left < 3 * width or between < 2 * float(sigmas.min()):
        return None
    inside = box[left : right + 1]
    # A mode may lie beside the mean of its component: the highest on either side of the lowest place.
    lowest = int(inside[width:-width].argmin()) + width
    peak = min(box[: left + lowest].max(), box[left + lowest :].max())
    depth = peak - inside[lowest]
    if inside[lowest] > VALLEY * peak or depth < errors * math.sqrt(peak + inside[lowest]):
        return None
    return left + lowest
