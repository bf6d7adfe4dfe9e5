"""The change of each attention head, and heads that changed places."""

from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from weight_atlas.comparison.elementwise import Difference

# Below this cosine a head is looked for among the others; and at this one it is the other.
CHANGED, SAME = 0.9, 0.9


def head_rows(found: Difference, shape: tuple[int, ...], heads: int, by_columns: bool) -> list[dict[str, Any]]:
    """The sums of every head: head, square_a, square_b, square_d, changed, n.

    by_columns: heads are columns of the matrix, as those of W_O, rather than rows; the sums are of rows then in as many
    parts.
    """
    parts = (
        found.sums.reshape(shape[0], heads, 4).sum(axis=0) if by_columns else found.sums.reshape(heads, -1, 4).sum(1)
    )
    names = ["square_a", "square_b", "square_d"]
    count = int(np.prod(shape)) // heads
    return [
        {"head": head, **dict(zip(names, map(float, row), strict=False)), "changed": int(row[3]), "n": count}
        for head, row in enumerate(parts)
    ]


def places(a: torch.Tensor, b: torch.Tensor, heads: int, by_columns: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each head of b, the head of a that it comes from, and their cosine; the assignment of the largest cosines."""
    flat = [_flat(matrix, heads, by_columns) for matrix in (a, b)]
    one, other = (matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-30) for matrix in flat)
    cosines = other @ one.T
    _, origin = linear_sum_assignment(-cosines)
    return origin, cosines[np.arange(heads), origin]


def _flat(matrix: torch.Tensor, heads: int, by_columns: bool) -> np.ndarray:
    values = matrix.float()
    cut = values.unflatten(1, (heads, -1)).transpose(0, 1) if by_columns else values.unflatten(0, (heads, -1))
    return np.nan_to_num(cut.reshape(heads, -1).numpy())
