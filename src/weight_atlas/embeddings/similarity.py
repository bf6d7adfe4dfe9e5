"""How alike the attention heads of a layer are, whatever basis each uses inside.

A head acts through its kernel A = left^T right (see spectra/attention_kernels.py), which a change of basis inside the
head leaves as it is, unlike its weights. For kernels of norm one

    cos(A_i, A_j) = <A_i, A_j> / (|A_i| |A_j|),   <A_i, A_j> = sum((left_i left_j^T) * (right_i right_j^T))
    d(i, j)^2 = 2 - 2 cos(A_i, A_j)

from products of (head_dim, d) factors alone: the (d, d) kernels are never formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from weight_atlas.inventory_row import Load
from weight_atlas.spectra.attention_factors import Block, head_factors


@dataclass(frozen=True)
class Likeness:
    """The heads of one layer and circuit compared with each other.

    cosines: (h, h), 1 on the diagonal. head, kv_head: (h,), which heads these are. width: head_dim; left, right: the
    widths of the two factors, d_model for most.
    """

    cosines: np.ndarray
    head: np.ndarray
    kv_head: np.ndarray
    width: int
    left: int
    right: int

    @property
    def distances(self) -> np.ndarray:
        """(h, h), from 0 for kernels that are multiples of each other to 2 for opposite ones; sqrt 2 if unrelated."""
        return np.sqrt(np.clip(2 - 2 * self.cosines, 0, None))

    @property
    def chance(self) -> np.ndarray:
        """(h, h), standard deviation of the cosine of independent Gaussian heads; see chance_of."""
        shared = self.kv_head[:, None] == self.kv_head[None, :]
        return np.where(shared, chance_of(self.width, self.left, self.right, shared=True),
                        chance_of(self.width, self.left, self.right, shared=False))  # fmt: skip


def chance_of(width: int, left: int, right: int, *, shared: bool) -> float:
    """Standard deviation of the cosine of two kernels of Gaussian factors (width, left) and (width, right).

    Of independent factors <A_i, A_j> is a sum of width^2 products of inner products, each of variance left and right,
    and |A|^2 is near width left right: 1 / sqrt(left right). Heads of a group that shares its right factor
    (grouped-query attention) have right^2 in place of right for the width pairs of a row with itself:
    sqrt((1 / width + 1 / right) / left).
    """
    return float(((1 / width + 1 / right) / left) ** 0.5 if shared else (left * right) ** -0.5)


def likeness(block: Block, circuit: str, load: Load) -> Likeness | None:
    """Compare the heads of one attention module; None where a kernel is zero or not finite in all but one head.

    Heads without a kernel are left out. Memory: the factors of all heads of the layer, twice.
    """
    heads = [(head, kv, left, right) for head, kv, left, right in head_factors(block, circuit, load)]
    heads = [each for each in heads if np.isfinite(each[2]).all() and np.isfinite(each[3]).all()]
    products = _products(heads)
    sizes = np.diagonal(products) if len(heads) else np.empty(0)
    kept = np.flatnonzero(sizes > 0)
    if len(kept) < 2:
        return None
    norms = np.sqrt(sizes[kept])
    cosines = np.clip(products[np.ix_(kept, kept)] / norms[:, None] / norms[None, :], -1, 1)
    np.fill_diagonal(cosines, 1)
    left, right = heads[kept[0]][2:]
    head, kv_head = (np.array([heads[place][part] for place in kept]) for part in (0, 1))
    return Likeness(cosines, head, kv_head, len(left), left.shape[1], right.shape[1])


def _products(heads: Sequence[tuple[int, int, np.ndarray, np.ndarray]]) -> np.ndarray:
    """(h, h) of <A_i, A_j>, of factors scaled to a largest entry of 1, so that no product overflows or vanishes."""
    lefts = [_scaled(left) for _, _, left, _ in heads]
    rights = {kv: _scaled(right) for _, kv, _, right in heads}
    shared: dict[tuple[int, int], np.ndarray] = {}
    found = np.empty((len(heads), len(heads)))
    for row, column in combinations_with_replacement(range(len(heads)), 2):
        pair = heads[row][1], heads[column][1]
        if pair not in shared:
            shared[pair] = rights[pair[0]] @ rights[pair[1]].T
        product = ((lefts[row] @ lefts[column].T) * shared[pair]).sum()
        found[row, column] = found[column, row] = product
    return found


def _scaled(factor: np.ndarray) -> np.ndarray:
    return factor / (np.abs(factor).max(initial=0.0) or 1.0)
