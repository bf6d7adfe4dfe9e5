"""Singular values of the difference of two matrices, which is never formed as a whole."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from weight_atlas.comparison.sources import Source, Update, Updated
from weight_atlas.spectra.singular_values import EPS, GRAM_ERROR, relative_rounding

BLOCK = 1 << 22  # elements of a difference in float64 that are made together


@dataclass(frozen=True)
class DeltaSpectrum:
    """Singular values of b - a.

    sigma: (min(rows, columns),) float64, descending; empty where an element is not finite. method: "gram", "factors",
    "zero" or "not finite". error_bound: no sigma is off by more than error_bound * sigma[0]. frobenius: of b - a.
    rounding: what rounding both sides to their stored types gives each entry, over the rms of b - a.
    """

    sigma: np.ndarray
    method: str
    error_bound: float
    frobenius: float
    rounding: float
    zero_rows: int = 0
    zero_cols: int = 0


def delta_spectrum(a: Source, b: Source, norm: float) -> DeltaSpectrum:
    """Singular values of b - a. norm: the larger Frobenius norm of both over the elements that changed, for
    what rounding leaves.

    An adapter's update without magnitudes has the singular values of a small matrix made of its factors; all others are
    the roots of the eigenvalues of the Gram matrix of the smaller side, which are right to 1.5e-8 of the largest: what
    is smaller lies under the rounding of 16-bit types by far.
    """
    factors = _factors(a, b)
    if factors is not None:
        return _of_factors(*factors, min(a.shape))
    small = min(a.shape)
    gram, product = np.zeros((small, small)), np.empty((small, small))
    energy, empty = 0.0, 0
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _blocks(a, b):
            gram += np.matmul(block.T, block, out=product)
            energies = np.einsum("ij,ij->i", block, block)
            energy += float(energies.sum())
            empty += int((energies == 0).sum())
    frobenius = energy**0.5
    if not np.isfinite(frobenius):
        return DeltaSpectrum(np.empty(0), "not finite", float("nan"), frobenius, 0.0)
    if frobenius == 0:
        return DeltaSpectrum(np.zeros(small), "zero", 0.0, 0.0, 0.0)
    sigma = np.sqrt(np.clip(np.linalg.eigvalsh(gram)[::-1], 0, None))
    sides = empty, int((np.diag(gram) == 0).sum())
    zero_rows, zero_cols = sides if a.shape[0] >= a.shape[1] else sides[::-1]
    rounding = max(relative_rounding(side.dtype) for side in (a, b)) * norm / frobenius
    return DeltaSpectrum(sigma, "gram", float((GRAM_ERROR * EPS) ** 0.5), frobenius, rounding, zero_rows, zero_cols)


def _blocks(a: Source, b: Source) -> Iterator[np.ndarray]:
    """b - a in its tall orientation, a few rows at a time, in float64."""
    tall = a.shape[0] >= a.shape[1]
    length, width = max(a.shape), min(a.shape)
    step = max(min(length, width), BLOCK // width)
    everything = slice(None)
    for start in range(0, length, step):
        some = slice(start, start + step)
        chosen = (some, everything) if tall else (everything, some)
        block = b.part(*chosen) - a.part(*chosen)
        yield (block if tall else block.T).numpy()


def _factors(a: Source, b: Source) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Factors (rows, r) and (r, columns) of b - a where it is made of adapters' updates; None where it is not."""
    if isinstance(a, Update) and isinstance(b, Update):
        return torch.cat([b.scale * b.up, -a.scale * a.up], dim=1), torch.cat([b.down, a.down])
    for base, changed, sign in ((a, b, 1.0), (b, a, -1.0)):
        if isinstance(changed, Updated) and changed.base is base and changed.magnitudes is None:
            return sign * changed.update.scale * changed.update.up, changed.update.down
    return None


def _of_factors(up: torch.Tensor, down: torch.Tensor, count: int) -> DeltaSpectrum:
    """Of up down by QR of both: Q_1 R_1 (Q_2 R_2)^T has the singular values of R_1 R_2^T."""
    if not (torch.isfinite(up).all() and torch.isfinite(down).all()):
        return DeltaSpectrum(np.empty(0), "not finite", float("nan"), float("nan"), 0.0)
    left, right = (torch.linalg.qr(matrix, mode="r").R for matrix in (up, down.T))
    found = torch.linalg.svdvals(left @ right.T).numpy()[:count]
    sigma = np.zeros(count)
    sigma[: len(found)] = found
    method = "factors" if sigma.size and sigma[0] > 0 else "zero"
    zero_rows, zero_cols = int((~up.any(dim=1)).sum()), int((~down.any(dim=0)).sum())
    bound = 4 * EPS * max(len(found), 4) ** 0.5
    return DeltaSpectrum(sigma, method, bound, float(np.linalg.norm(sigma)), 0.0, zero_rows, zero_cols)
