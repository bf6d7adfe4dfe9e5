"""Null values of the rank measures: those of a matrix of independent Gaussian entries of the same shape.

Shares of r = min(m, n) follow from the Marchenko-Pastur law at the aspect ratio alone (Marchenko and Pastur, 1967); the
largest singular value uses its finite-size mean (Johnstone, On the distribution of the largest eigenvalue in principal
components analysis, 2001).
"""

from functools import lru_cache

import numpy as np

ENERGY_SHARES = (0.5, 0.75, 0.9, 0.95, 0.99)
# Mean of the Tracy-Widom law of real matrices.
TRACY_WIDOM_MEAN = -1.2065335745820
# exp(1.537): the mean logarithm of the condition number of a square Gaussian matrix is log n + 1.537 (Edelman, 1988).
SQUARE_CONDITION = 4.65


@lru_cache(maxsize=4096)
def gaussian_shares(rows: int, columns: int) -> dict[str, float]:
    """Rank measures of a Gaussian matrix as shares of min(rows, columns), and its condition number (not a share).

    The measures: erank, erank_energy, rank_1pct, n50 .. n99, stable_rank, numerical_rank.
    """
    small, large = sorted((rows, columns))
    if small == 0:
        return {}
    squares, weights = marchenko_pastur_law(small / large)
    sigma = np.sqrt(squares)
    mean, energy = weights @ sigma, weights @ squares
    cumulative = np.cumsum((weights * squares)[::-1]) / energy
    counted = np.cumsum(weights[::-1])
    shares = {
        "erank": mean * np.exp(-(weights @ _x_log_x(sigma)) / mean),
        "erank_energy": energy * np.exp(-(weights @ _x_log_x(squares)) / energy),
        "rank_1pct": float(weights[sigma > 0.01 * sigma.max()].sum()),
        "stable_rank": large / _largest_square(small, large),
        "numerical_rank": 1.0,
        # A count of whole components exceeds the share by half a component on average.
        **{f"n{round(100 * share)}": np.interp(share, cumulative, counted) + 0.5 / small for share in ENERGY_SHARES},
    }
    shares = {name: min(1.0, max(float(value), 1 / small)) for name, value in shares.items()}
    return {**shares, "condition": gaussian_condition(small, large)}


def gaussian_condition(rows: int, columns: int) -> float:
    """Typical condition number of a Gaussian matrix: 4.65 n where square, the ratio of the two edges where not."""
    small, large = sorted((rows, columns))
    if small <= 1:
        return 1.0
    hard = SQUARE_CONDITION * small
    return hard if small == large else min(hard, (large**0.5 + small**0.5) / (large**0.5 - small**0.5))


def _largest_square(small: int, large: int) -> float:
    """Mean of the largest squared singular value, entries of variance one."""
    if small == 1:
        return float(large)
    centre = ((large - 1) ** 0.5 + small**0.5) ** 2
    width = centre**0.5 * ((large - 1) ** -0.5 + small**-0.5) ** (1 / 3)
    return max(float(large), centre + TRACY_WIDOM_MEAN * width)


def marchenko_pastur_law(aspect: float, points: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (squared singular values over the longer side, ascending) and weights of the law at r / max(m, n).

    The cosine substitution removes the square roots at both edges, and the pole at zero of the square case.
    """
    low, high = (1 - aspect**0.5) ** 2, (1 + aspect**0.5) ** 2
    angle = (np.arange(points) + 0.5) * np.pi / points
    squares = (high + low) / 2 - (high - low) / 2 * np.cos(angle)
    weights = np.sin(angle) ** 2 / squares
    return squares, weights / weights.sum()


def _x_log_x(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1.0))
