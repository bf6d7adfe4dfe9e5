"""Matrices whose rows or columns are those of another in another order, such as the neurons of a layer."""

from collections import Counter
from hashlib import blake2b

import torch

from weight_atlas.comparison.elementwise import Difference

# Sums of the same squares in another order differ by less; matrices with other values by more.
SAME_NORM = 1e-9


def reordered(a: torch.Tensor, b: torch.Tensor, found: Difference) -> str:
    """ "rows" or "columns" where those of b are all those of a, bit for bit, in another order; "" elsewhere.

    a, b: matrices of one shape; found: what differs between them. Matrices of other norms or types are not looked at.
    """
    square_a, square_b = found.square_a, found.square_b
    if not found.changed or a.dtype != b.dtype or not abs(square_b - square_a) <= SAME_NORM * square_a:
        return ""
    for word, one, other in (("rows", a, b), ("columns", a.T, b.T)):
        if _rows(one) == _rows(other):
            return word
    return ""


def _rows(matrix: torch.Tensor) -> Counter[bytes]:
    values = matrix.contiguous().view(torch.uint8).numpy()
    return Counter(blake2b(row.tobytes(), digest_size=16).digest() for row in values)
