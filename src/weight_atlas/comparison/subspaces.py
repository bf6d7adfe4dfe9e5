"""How far the leading singular subspaces of two matrices agree, by their principal angles."""

from dataclasses import dataclass

import numpy as np
import torch

# Up to this smaller side subspaces are those of a full decomposition, beyond it of subspace iteration.
SMALL = 512
ITERATIONS = 8
OVERSAMPLING = 16
SEED = 0


@dataclass(frozen=True)
class Overlap:
    """Agreement of the leading k-dimensional singular subspaces of two matrices.

    left, right: mean squared cosine of the principal angles, 1 for the same subspace; left_null, right_null: of random
    subspaces, k over the dimension. angle: the largest of the angles on either side, in degrees.
    """

    k: int
    left: float
    right: float
    left_null: float
    right_null: float
    angle: float


def overlap(a: torch.Tensor, b: torch.Tensor, k: int) -> Overlap:
    """Compare the subspaces of the k largest singular values of two matrices (rows, columns) of one shape.

    Large matrices are iterated from the same random start: where both are the same, so are their subspaces, though one
    within a flat spectrum has not converged.
    """
    rows, columns = a.shape
    one, other = (_subspaces(matrix, k) for matrix in (a, b))
    cosines = [torch.linalg.svdvals(x.T @ y).clamp(0, 1).numpy() for x, y in zip(one, other, strict=True)]
    left, right = (float(np.mean(each**2)) for each in cosines)
    angle = np.degrees(np.arccos(min(float(each.min()) for each in cosines)))
    return Overlap(k, left, right, k / rows, k / columns, float(angle))


def _subspaces(matrix: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal bases (rows, k) and (columns, k) of the leading left and right singular subspaces, float64."""
    if min(matrix.shape) <= SMALL:
        left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
        return left[:, :k], right[:k].T
    values = matrix.float()
    random = torch.Generator().manual_seed(SEED)
    start = torch.randn(values.shape[1], k + OVERSAMPLING, generator=random)
    for _ in range(ITERATIONS):
        start = torch.linalg.qr(values.T @ (values @ start)).Q
    left, _, right = torch.linalg.svd(values @ start, full_matrices=False)
    return left[:, :k].double(), (start @ right[:k].T).double()
