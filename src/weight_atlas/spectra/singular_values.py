"""The full spectrum of one matrix in float64: by its Gram matrix, or directly where that would be wrong.

The Gram matrix of the smaller side squares the singular values, so its eigenvalues carry an absolute error near
GRAM_ERROR * eps * sigma_1^2: sigma_i is then right to a relative GRAM_ERROR * eps / 2 * (sigma_1 / sigma_i)^2. That is
better than a float32 SVD everywhere, and several times cheaper than a float64 SVD, but it loses singular values below
about 1e-8 sigma_1 altogether. `spectrum` therefore checks the result and takes the direct route where a value that
carries information would be wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from weight_atlas.spectra.spectrum_rows import rounding_floor

EPS = float(np.finfo(np.float64).eps)
# Twice to forty times the error seen at the small end, in units of eps * sigma_1^2, over shapes up to 1500 x 4000.
GRAM_ERROR = 2.0
# Largest relative error of a reported value above the rounding floor.
TOLERANCE = 1e-6
# Below this share of sigma_1 the Gram route sees only its own noise: rank-deficient and singular matrices.
GRAM_NOISE = 1e-7
# Squared Frobenius norms by the Gram route and by summing the squares must agree.
ENERGY_TOLERANCE = 1e-11


@dataclass(frozen=True)
class Spectrum:
    """Singular values of one matrix.

    sigma: (min(rows, columns),) float64, descending; empty where the matrix is empty or not finite.
    method: "gram", "direct", "zero", "empty" or "not finite".
    error_bound: no sigma is off by more than error_bound * sigma[0]; the relative error of sigma[i] is at most
        error_bound * sigma[0] / sigma[i].
    frobenius: Frobenius norm from the entries themselves, independent of sigma.
    zero_rows, zero_columns: numbers of rows and columns of zeros.
    """

    sigma: np.ndarray
    method: str
    error_bound: float
    frobenius: float
    zero_rows: int = 0
    zero_columns: int = 0


def spectrum(weight: torch.Tensor) -> Spectrum:
    """Singular values of a matrix of any floating type, on the CPU.

    Memory beside the matrix: about 2.5 n^2 numbers in float64, with n its smaller side.
    """
    if 0 in weight.shape:
        return Spectrum(np.empty(0), "empty", 0.0, 0.0)
    gram, frobenius, zero_rows, zero_columns = _gram(weight)
    if not np.isfinite(frobenius):
        return Spectrum(np.empty(0), "not finite", float("nan"), frobenius)
    judged = _judged(np.linalg.eigvalsh(gram), weight, frobenius)
    return replace(judged, zero_rows=zero_rows, zero_columns=zero_columns)


def spectra_of_equal_shapes(weights: list[torch.Tensor], device: str) -> list[Spectrum]:
    """Singular values of matrices of one shape, with their Gram matrices decomposed as one batch on a device.

    Matrices that need the direct route are computed on the CPU.
    """
    grams, norms, zeros = [], [], []
    for weight in weights:
        matrix = weight.to(device).double()
        norms.append(float(torch.linalg.vector_norm(matrix)))
        zeros.append([int((~matrix.any(dim=dim)).sum()) for dim in (1, 0)])
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        grams.append(matrix @ matrix.T)
    batch = torch.nan_to_num(torch.stack(grams), nan=0.0, posinf=0.0, neginf=0.0)
    squares = torch.linalg.eigvalsh(batch).cpu().numpy() if 0 not in weights[0].shape else [None] * len(weights)
    return [
        replace(_judged(eigenvalues, weight, norm), zero_rows=zero_rows, zero_columns=zero_columns)
        if eigenvalues is not None and np.isfinite(norm)
        else spectrum(weight)
        for eigenvalues, weight, norm, (zero_rows, zero_columns) in zip(squares, weights, norms, zeros, strict=True)
    ]


def relative_rounding(dtype: torch.dtype) -> float:
    """Root mean square of the relative rounding error of a floating type; 0 for others.

    For a significand spread evenly on a logarithmic scale: eps / sqrt 12 * sqrt(3 / (8 ln 2)), with eps the spacing at
    one: 1.66e-3 for bfloat16, 2.07e-4 for float16, 2.5e-8 for float32.
    """
    if not dtype.is_floating_point:
        return 0.0
    return torch.finfo(dtype).eps / 12**0.5 * (3 / (8 * np.log(2))) ** 0.5


def _judged(squares: np.ndarray, weight: torch.Tensor, frobenius: float) -> Spectrum:
    """The spectrum from the eigenvalues (ascending) of the Gram matrix, or the direct one where they are not exact."""
    sigma = np.sqrt(np.clip(squares[::-1], 0, None))
    if frobenius == 0:
        return Spectrum(np.zeros_like(sigma), "zero", 0.0, 0.0)
    floor = rounding_floor(weight.shape[0], weight.shape[1], frobenius, relative_rounding(weight.dtype))
    blurred = sigma[0] * (GRAM_ERROR * EPS / 2 / TOLERANCE) ** 0.5
    wrong = np.any((sigma >= floor) & (sigma < blurred))
    lost = sigma[-1] < GRAM_NOISE * sigma[0]
    unequal = abs(float(squares.sum()) - frobenius**2) > ENERGY_TOLERANCE * frobenius**2
    if wrong or lost or unequal:
        return _direct(weight, frobenius)
    bound = max(GRAM_ERROR * EPS / 2 * sigma[0] / sigma[-1], _direct_bound(sigma.size))
    return Spectrum(sigma, "gram", float(bound), frobenius)


def _direct(weight: torch.Tensor, frobenius: float) -> Spectrum:
    """Singular values without squaring: QR of the tall orientation block by block, then the SVD of the triangle."""
    triangle: np.ndarray = np.empty((0, min(weight.shape)))
    for block in _blocks(weight):
        stacked = np.concatenate([triangle, block])
        triangle = np.asarray(np.linalg.qr(stacked, mode="r")) if len(stacked) > stacked.shape[1] else stacked
    sigma = np.linalg.svd(triangle, compute_uv=False)
    return Spectrum(sigma, "direct", _direct_bound(sigma.size), frobenius)


def _direct_bound(count: int) -> float:
    return 4 * EPS * max(count, 4) ** 0.5


def _gram(weight: torch.Tensor) -> tuple[np.ndarray, float, int, int]:
    """Gram matrix of the smaller side and Frobenius norm in float64, and the numbers of rows and columns of zeros."""
    small, energy, empty = min(weight.shape), 0.0, 0
    gram, product = np.zeros((small, small)), np.empty((small, small))
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _blocks(weight):
            gram += np.matmul(block.T, block, out=product)
            energies = np.einsum("ij,ij->i", block, block)
            energy += float(energies.sum())
            empty += int((energies == 0).sum())
    sides = empty, int((np.diag(gram) == 0).sum())
    rows, columns = sides if weight.shape[0] >= weight.shape[1] else sides[::-1]
    return gram, energy**0.5, rows, columns


def _blocks(weight: torch.Tensor) -> Iterator[np.ndarray]:
    """Rows of the tall orientation in float64, in blocks, so that no whole copy in float64 is made.

    All blocks share one buffer: each overwrites the one before.
    """
    tall = weight if weight.shape[0] >= weight.shape[1] else weight.T
    step = min(len(tall), max(512, tall.shape[1] // 2))
    buffer = torch.empty(step, tall.shape[1], dtype=torch.float64)
    for start in range(0, tall.shape[0], step):
        rows = tall[start : start + step]
        yield buffer[: len(rows)].copy_(rows).numpy()
