"""Spectra of the kernels of attention heads, from their factors alone.

A head sees its input x through two bilinear forms: scores x_i^T A x_j with A = W_Q,h^T W_K,h (the QK circuit), and
what it writes, A x with A = W_O,h W_V,h (the OV circuit); see Elhage et al., A mathematical framework for transformer
circuits, 2021. Both are d x d of rank at most k = head_dim, A = left^T right with left and right (k, d), so everything
follows from k x k matrices: with G the Gram matrices of the two factors and M = right left^T,

    singular values of A = those of R_left R_right^T, with R^T R = G the Cholesky factors of the two Gram matrices
    eigenvalues of A     = those of M, and d - k zeros
    |A|^2 = sum(G_left * G_right),  tr A^2 = sum(M * M^T),  |A - A^T| / |A| = sqrt(2 - 2 tr A^2 / |A|^2)

A decomposition of the d x d matrix gives the same numbers, and d - k values of rounding error beside them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from weight_atlas.spectra.ranks import components_for, rank_measures

# Where the pivots of a Cholesky factor span more than this, QR is used instead: Cholesky squares the condition number.
PIVOT_RATIO = 1e-3
MILESTONES = (0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Kernel:
    """Spectrum of one kernel.

    singular_values: (min(k, d),) descending. eigenvalues: (min(k, d),) complex, largest modulus first; none if the two
    sides have different widths. frobenius: |A|. asymmetry: |A - A^T| / |A|, sqrt 2 for a generic kernel of low rank.
    """

    singular_values: np.ndarray
    eigenvalues: np.ndarray
    frobenius: float
    asymmetry: float


def kernel(left: np.ndarray, right: np.ndarray) -> Kernel:
    """Spectrum of A = left^T right; left: (k, d_left), right: (k, d_right), float64."""
    gram_left, gram_right = left @ left.T, right @ right.T
    energy = float((gram_left * gram_right).sum())
    core = triangle(left, gram_left) @ triangle(right, gram_right).T
    singular = np.linalg.svd(core, compute_uv=False)
    norm = max(energy, 0.0) ** 0.5
    if left.shape[1] != right.shape[1]:
        return Kernel(singular, np.empty(0, dtype=complex), norm, float("nan"))
    small = right @ left.T
    # Of the two products with these eigenvalues, the smaller one has no zeros beside them.
    eigenvalues = np.linalg.eigvals(small if len(left) <= left.shape[1] else left.T @ right)
    symmetric = float((small * small.T).sum())
    asymmetry = max(0.0, 2 - 2 * symmetric / energy) ** 0.5 if energy > 0 else float("nan")
    return Kernel(singular, _by_modulus(eigenvalues), norm, asymmetry)


def kernel_measures(spectrum: Kernel) -> dict[str, float]:
    """Measures of one kernel.

    erank, erank_energy, stable_rank and n50 .. n99 as for any matrix, from the singular values. eigen_erank and
    eigen_n50 .. eigen_n99: the same of the eigenvalues' moduli and their squares. complex_share, positive_share: share
    of the eigenvalues that are not real, and of those with a positive real part. positivity: sum of the eigenvalues
    over the sum of their moduli, 1 for a kernel that copies, -1 for one that inverts. spectral_radius: largest modulus.
    """
    sigma, values = spectrum.singular_values, spectrum.eigenvalues
    modulus = np.abs(values)
    ranks, eigen = rank_measures(sigma), rank_measures(modulus)
    total, count = modulus.sum(), len(values)
    return {
        "sigma_max": float(sigma[0]) if len(sigma) else float("nan"),
        "frobenius": spectrum.frobenius,
        **{name: ranks[name] for name in ("erank", "erank_energy", "stable_rank", *_counts(""))},
        "asymmetry": spectrum.asymmetry,
        "spectral_radius": float(modulus[0]) if count else float("nan"),
        "eigen_erank": eigen["erank"],
        **{name: eigen[name.removeprefix("eigen_")] for name in _counts("eigen_")},
        "complex_share": float((values.imag != 0).mean()) if count else float("nan"),
        "positive_share": float((values.real > 0).mean()) if count else float("nan"),
        "positivity": float(values.real.sum() / total) if total > 0 else float("nan"),
    }


@lru_cache(maxsize=64)
def gaussian_kernel(head_dim: int, left: int, right: int, samples: int = 4) -> dict[str, float]:
    """Means of the measures over kernels of independent Gaussian factors (head_dim, left) and (head_dim, right).

    Simulated with a fixed seed; a few samples are enough, since the measures average over the spectrum. A and -A are
    equally likely, so that the means of positive_share and positivity are known exactly.
    """
    random = np.random.default_rng([head_dim, left, right])
    drawn = []
    for _ in range(samples):
        factors = [random.standard_normal((head_dim, width)) / width**0.5 for width in (left, right)]
        drawn.append(kernel_measures(kernel(*factors)))
    means = {name: float(np.mean([measures[name] for measures in drawn])) for name in drawn[0]}
    return {**means, "positive_share": 0.5, "positivity": 0.0}


def cumulative_energy(values: np.ndarray) -> np.ndarray:
    """Share of the sum of squares in the largest values; values: (n,), largest modulus first."""
    energy = np.cumsum(np.abs(values) ** 2)
    return energy / energy[-1]


def milestones(values: np.ndarray) -> dict[float, int]:
    """Number of the largest values that hold 50, 75, 90, 95 and 99 % of the sum of squares."""
    cumulative = cumulative_energy(values)
    return {share: components_for(cumulative, share) for share in MILESTONES}


def triangle(factor: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """R with R^T R = factor factor^T, R upper triangular; |factor^T M| = |R M| for every M. gram: factor factor^T."""
    if factor.shape[0] <= factor.shape[1]:
        try:
            lower = np.linalg.cholesky(gram)
        except np.linalg.LinAlgError:
            lower = np.zeros((1, 1))
        pivots = np.diag(lower)
        if pivots.min() > PIVOT_RATIO * pivots.max():
            return lower.T
    return np.asarray(np.linalg.qr(factor.T, mode="r"))


def _by_modulus(values: np.ndarray) -> np.ndarray:
    values = values.astype(complex)
    return values[np.lexsort((-values.imag, -values.real, -np.abs(values)))]


def _counts(prefix: str) -> list[str]:
    return [f"{prefix}n{round(100 * share)}" for share in MILESTONES]
