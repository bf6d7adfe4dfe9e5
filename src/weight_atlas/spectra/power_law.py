"""Power law fitted to the tail of a spectrum: exact search for the threshold, goodness of fit, log-normal alternative.

Method: Clauset, Shalizi and Newman, Power-law distributions in empirical data, 2009. For every threshold xmin the
exponent is the maximum-likelihood one; the chosen threshold is the one whose tail lies closest to its fit in the
Kolmogorov-Smirnov distance. Suffix sums give all exponents at once, and a lower bound on the distance, from a few
points of the tail, rules out most thresholds before their distance is computed; the result is that of the full search.
"""

from dataclasses import dataclass

import numpy as np

# Points of the tail in the two rounds of bounds.
SAMPLES = (48, 400)
# Distances closer than this are compared by the full formula.
CLOSE = 1e-11


@dataclass(frozen=True)
class PowerLaw:
    """p(x) ~ x^-alpha for x >= xmin.

    distance: Kolmogorov-Smirnov distance of the tail from its fit; error: standard error of alpha, (alpha - 1) / sqrt
    tail; tail: number of values from xmin on.
    """

    alpha: float
    xmin: float
    distance: float
    error: float
    tail: int


def fit_power_law(values: np.ndarray, min_tail: int = 2) -> PowerLaw | None:
    """The power law closest to a tail of at least min_tail values, or None where no tail allows one.

    values: (n,) positive, ascending. alpha = 1 + t / sum ln(x / xmin) over the t values of a tail; distance =
    max |F_fit(x_k) - k / t|, k = 0 .. t - 1, the convention of WeightWatcher.
    """
    count = len(values)
    if count < max(2, min_tail):
        return None
    logs = np.log(values) - np.log(values[-1])
    starts = np.arange(count - max(2, min_tail) + 1)
    tails = count - starts
    excess = np.cumsum(logs[::-1])[::-1][starts] - tails * logs[starts]
    usable = starts[excess > 0]
    if not len(usable):
        return None
    slopes = np.zeros(count)
    slopes[usable] = tails[usable] / excess[usable]
    best = _closest(logs, usable, slopes)
    fits = [_exact(values, start) for start in best]
    return min(fits, key=lambda fit: (fit.distance, fit.xmin))


def bootstrap_p(values: np.ndarray, fit: PowerLaw, *, repeats: int, seed: int, min_tail: int = 2) -> float:
    """Share of samples of the fit that lie at least as far from their own fit: small where the data are no power law.

    Below xmin the samples are drawn from the data, above it from the fit; each sample is fitted anew.
    """
    random = np.random.default_rng(seed)
    body, count = values[: len(values) - fit.tail], len(values)
    further = 0
    for _ in range(repeats):
        above = random.binomial(count, fit.tail / count) if len(body) else count
        drawn = fit.xmin * (1 - random.random(above)) ** (-1 / (fit.alpha - 1))
        drawn = np.sort(np.concatenate([drawn, random.choice(body, count - above)]) if above < count else drawn)
        again = fit_power_law(drawn, min_tail)
        further += again is None or again.distance >= fit.distance
    return further / repeats


def lognormal_ratio(tail: np.ndarray) -> tuple[float, float]:
    """(R, p) of the power law against the log-normal cut off at xmin = tail[0].

    R is Vuong's normalised log-likelihood ratio: R > 0 favours the power law. p is the probability of a ratio as large
    if both fitted equally well. tail: (t,) ascending.
    """
    from scipy.special import erfc, log_ndtr

    logs = np.log(tail / tail[0])
    count, mean, spread = len(logs), logs.mean(), logs.std()
    if spread == 0 or mean == 0:
        return float("nan"), float("nan")
    mu, sigma = _truncated_normal(mean, spread)
    power = np.log(1 / mean) - (1 + 1 / mean) * logs
    density = -logs - np.log(sigma * (2 * np.pi) ** 0.5) - (logs - mu) ** 2 / (2 * sigma**2) - log_ndtr(mu / sigma)
    difference = power - density
    scale = difference.std()
    if scale < 1e-12:
        return 0.0, 1.0
    ratio = float(difference.sum() / (count**0.5 * scale))
    return ratio, float(erfc(abs(ratio) / 2**0.5))


def _closest(logs: np.ndarray, starts: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """The thresholds with the smallest distance, up to CLOSE."""
    limit = np.inf
    for samples in SAMPLES:
        bounds = _bounds(logs, starts, slopes, samples)
        order = np.argsort(bounds, kind="stable")
        starts, bounds = starts[order], bounds[order]
        limit = min(limit, _distance(logs, starts[0], slopes[starts[0]]))
        kept = bounds <= limit + CLOSE
        starts, bounds = starts[kept], bounds[kept]
    distances = np.full(len(starts), np.inf)
    for place, start in enumerate(starts):
        if bounds[place] > limit + CLOSE:
            break
        distances[place] = _distance(logs, start, slopes[start])
        limit = min(limit, distances[place])
    return np.sort(starts[distances <= limit + CLOSE])


def _bounds(logs: np.ndarray, starts: np.ndarray, slopes: np.ndarray, samples: int) -> np.ndarray:
    """Largest deviation of each tail from its fit over a few of its points: a lower bound on its distance."""
    tails = len(logs) - starts
    bounds = np.zeros(len(starts))
    step = max(1, 2_000_000 // samples)
    for first in range(0, len(starts), step):
        part = slice(first, first + step)
        ranks = np.linspace(0, 1, samples) * (tails[part, None] - 1)
        ranks = ranks.astype(np.int64)
        rises = logs[starts[part, None] + ranks] - logs[starts[part], None]
        fitted = -np.expm1(-slopes[starts[part], None] * rises)
        bounds[part] = np.abs(fitted - ranks / tails[part, None]).max(axis=1)
    return bounds


def _distance(logs: np.ndarray, start: int, slope: float) -> float:
    tail = logs[start:]
    fitted = -np.expm1(-slope * (tail - tail[0]))
    return float(np.abs(fitted - np.arange(len(tail)) / len(tail)).max())


def _exact(values: np.ndarray, start: int) -> PowerLaw:
    """The fit of one tail, with all sums taken over that tail alone (no suffix sums)."""
    tail, logs = values[start:], np.log(values[start:])
    count = len(tail)
    alpha = 1 + count / (np.sum(logs) - count * logs[0])
    fitted = 1 - (tail / tail[0]) ** (1 - alpha)
    distance = np.abs(fitted - np.arange(count) / count).max()
    return PowerLaw(float(alpha), float(tail[0]), float(distance), float((alpha - 1) / count**0.5), count)


def _truncated_normal(mean: float, spread: float) -> tuple[float, float]:
    """Maximum-likelihood (mu, sigma) of a normal cut off below zero, from the observed mean and standard deviation.

    Where no maximum exists (the data are closest to an exponential, mu -> -inf) the search ends at a steep normal,
    which is that exponential to within the accuracy of the comparison.
    """
    from scipy.optimize import minimize
    from scipy.special import log_ndtr

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss at (mu / spread, ln(sigma / spread)), and its gradient."""
        mu, sigma = point[0] * spread, np.exp(point[1]) * spread
        z, squares = mu / sigma, ((mean - mu) ** 2 + spread**2) / sigma**2
        below = log_ndtr(z)
        hazard = np.exp(-(z**2) / 2 - below) / (2 * np.pi) ** 0.5
        gradient = [spread * ((mu - mean) / sigma + hazard) / sigma, 1 - squares - hazard * z]
        return np.log(sigma) + squares / 2 + below, np.array(gradient)

    found = [
        minimize(loss, start, method="L-BFGS-B", jac=True, bounds=[(-500, 500), (-10, 10)])
        for start in ([mean / spread, 0.0], [0.0, 0.5], [-30.0, 1.7])
    ]
    best = min(found, key=lambda result: result.fun)
    return float(best.x[0] * spread), float(np.exp(best.x[1]) * spread)
