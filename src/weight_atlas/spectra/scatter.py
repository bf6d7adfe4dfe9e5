"""Standard deviations of the rank measures over Gaussian matrices, which a label or a trend has to exceed.

Sums over eigenvalues that repel each other have the same variance at any size (Lytova and Pastur, Central limit theorem
for linear eigenvalue statistics, 2009), so that large matrices are simulated by small ones of the same aspect ratio.
"""

from functools import lru_cache

import numpy as np

from weight_atlas.spectra.ranks import rank_measures

# Smaller side of the matrices that simulate larger ones.
SIMULATED = 64


@lru_cache(maxsize=4096)
def gaussian_scatter(rows: int, columns: int, draws: int = 100) -> dict[str, float]:
    """Standard deviations over Gaussian matrices of every measure of rank_measures; simulated with a fixed seed."""
    small, large = sorted((rows, columns))
    size = min(small, SIMULATED)
    if size == 0:
        return {}
    random = np.random.default_rng([size, large])
    return _deviations(_triangles(random, draws, size, large * size / small))


@lru_cache(maxsize=256)
def kernel_scatter(head_dim: int, left: int, right: int, draws: int = 100) -> dict[str, float]:
    """The same over kernels L^T R of independent Gaussian factors L (head_dim, left) and R (head_dim, right)."""
    inner = min(head_dim, left, right)
    size = min(inner, SIMULATED)
    if size == 0:
        return {}
    random = np.random.default_rng([size, left, right])
    longer = [max(width, head_dim) * size / inner for width in (left, right)]
    factors = [_triangles(random, draws, size, width) for width in longer]
    return _deviations(factors[0].transpose(0, 2, 1) @ factors[1])


def _triangles(random: np.random.Generator, draws: int, rows: int, columns: float) -> np.ndarray:
    """(draws, rows, rows) triangles with the singular values of Gaussian matrices (rows, columns), rows <= columns.

    By Bartlett's decomposition, whose cost does not depend on the longer side.
    """
    triangles = np.tril(random.standard_normal((draws, rows, rows)), -1)
    diagonal = np.arange(rows)
    triangles[:, diagonal, diagonal] = random.chisquare(columns - diagonal, (draws, rows)) ** 0.5
    return triangles


def _deviations(matrices: np.ndarray) -> dict[str, float]:
    measured = [rank_measures(sigma) for sigma in np.linalg.svd(matrices, compute_uv=False)]
    return {name: float(np.std([measures[name] for measures in measured], ddof=1)) for name in measured[0]}
