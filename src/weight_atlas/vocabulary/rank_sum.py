"""The permutation distribution of the rank sum, accurate far into its tail, for classes of one to 100,000 tokens.

U is the number of pairs of a member and another token in which the member has the larger effect (Mann and Whitney
1947). When m of m + n tokens are members at random, the generating function of U is a Gaussian binomial coefficient,
prod_i (1 - q^(n+i)) / (1 - q^i) over i = 1..m, so that its cumulants are known exactly. The tail follows from them by
the saddlepoint approximation of Lugannani and Rice (1980) with the correction for whole numbers of Daniels (1987),
whose relative error stays small where the normal approximation is wrong by orders of magnitude.
"""

from functools import cache

import numpy as np

# Sums over at most so many members are taken term by term, longer ones as integrals with as many nodes.
TERMS = 400


def log_p_value(u: float, m: int, n: int) -> float:
    """Natural logarithm of the two-sided p value of U = u for m members and n other tokens, 1 <= m, n.

    Ties, which count as halves in u, make it conservative: the distribution is that without ties. At the end of the
    tail it can be too small by a fifth; the last value, 2 / C(m + n, m), is exact. Raises ValueError for an impossible
    u.
    """
    from scipy.optimize import brentq
    from scipy.special import gammaln, log_ndtr

    if not 0 <= u <= m * n:
        raise ValueError(f"{m} members and {n} others have no U of {u}")
    # The distribution is symmetric about m n / 2; half a step back is the correction for whole numbers.
    distance = abs(u - m * n / 2) - 0.5
    if distance <= 0:
        return 0.0
    last = min(float(np.log(2) + gammaln(m + 1) + gammaln(n + 1) - gammaln(m + n + 1)), 0.0)
    if distance + 0.5 == m * n / 2:
        return last
    sums = _Cumulants(min(m, n), max(m, n))
    lower = upper = distance / sums.variance  # the root for a normal distribution
    while sums.first(upper) < distance:
        upper *= 2
    while sums.first(lower) > distance:
        lower /= 2
    t = (
        brentq(lambda t: sums.first(t) - distance, lower, upper, xtol=1e-12 * lower, rtol=1e-12)
        if lower < upper
        else lower
    )
    w = np.sqrt(2 * max(t * distance - sums.generating(t), 0.0))
    if w < 1e-4:
        return 0.0
    v = 2 * np.sinh(t / 2) * np.sqrt(sums.second(t))
    log_density = -0.5 * w * w - 0.5 * np.log(2 * np.pi)
    # P = 1 - Phi(w) + phi(w) (1/v - 1/w), its factor phi(w) taken out; two sides.
    mills = np.exp(log_ndtr(-w) - log_density)
    return float(min(max(log_density + np.log(2 * (mills + 1 / v - 1 / w)), last), 0.0))


class _Cumulants:
    """The generating function of cumulants of U - m n / 2 and its first two derivatives at t > 0, m <= n.

    K(t) = sum_i g(t (n + i)) - g(t i) with g(x) = log(sinh(x / 2) / (x / 2)).
    """

    def __init__(self, m: int, n: int):
        place, self.weight = _members(m)
        # Rows n + i and i of the sum.
        self.places, self.signs = np.stack([n + place, place]), np.array([[1.0], [-1.0]])
        self.variance = m * n * (m + n + 1) / 12

    def generating(self, t: float) -> float:
        x = t * self.places
        # Against overflow: log sinh(x/2) = x/2 + log(1 - e^-x) - log 2.
        return self._sum(np.where(x < 1e-3, x * x / 24, x / 2 + np.log(-np.expm1(-x)) - np.log(x)))

    def first(self, t: float) -> float:
        x = t * self.places
        return self._sum(self.places * np.where(x < 1e-3, x / 12, 0.5 / np.tanh(x / 2) - 1 / x))

    def second(self, t: float) -> float:
        x = t * self.places
        with np.errstate(over="ignore"):
            exact = 1 / (x * x) - 0.25 / np.sinh(x / 2) ** 2
        return self._sum(self.places**2 * np.where(x < 1e-2, 1 / 12 - x * x / 240, exact))

    def _sum(self, values: np.ndarray) -> float:
        return float((self.signs * values * self.weight).sum())


@cache
def _members(m: int) -> tuple[np.ndarray, np.ndarray]:
    """Places 1..m with weights of one, or nodes and weights with which sums over them are integrals."""
    if m <= TERMS:
        return np.arange(1.0, m + 1), np.ones(m)
    # The sum of a smooth function is nearly its integral from 1/2 to m + 1/2 (midpoint rule).
    nodes, weights = np.polynomial.legendre.leggauss(TERMS)
    return 0.5 + m * (nodes + 1) / 2, weights * m / 2
