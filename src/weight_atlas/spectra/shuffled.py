"""A permutation null of spectra: the largest singular values of a matrix whose elements are shuffled.

Shuffling keeps the values and destroys where they stand. What sticks out of the random bulk before and after it is a
matter of the values alone, such as one element that is far larger than all others, or a mean that is not zero; what
sticks out only before it is a matter of positions: correlated rows or columns, or some that are larger than others.
This is Horn's parallel analysis (A rationale and test for the number of factors in factor analysis, 1965) with a
permutation in place of Gaussian samples, except that the energy of correlations, which shuffling spreads over all
elements, does not raise the bar for others: only what sticks out of the shuffled matrix's own bulk counts against them.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from weight_atlas.spectra.marchenko_pastur import fit_bulk
from weight_atlas.spectra.spectrum_rows import SpectrumRow, nonzero_shape, squared_floor

if TYPE_CHECKING:
    import torch

# Largest singular values of the shuffled matrix that are kept. Where all of them stick out, spikes below the last are
# not told apart, and are not called correlated.
KEPT = 8
# Up to this many rows or columns all singular values are computed, else the largest by Lanczos's method.
SMALL = 512
# Of Lanczos's method: singular values come out right to about its square, far below the scatter from one permutation to
# the next.
TOLERANCE = 1e-2
# How far a singular value must lie above another, in standard deviations of an element: noise moves an outlying one by
# about one of them, and the edge of a bulk by less.
MARGIN = 4.0
# Elements that are brought to float32 at a time.
BLOCK = 1 << 18
SEED = 0
SHUFFLED = ["shuffled_lambda_max", "correlated_spikes", "spikes_of"]


def has_spikes(sigma: np.ndarray, shape: tuple[int, int], floor: float) -> bool:
    """Whether eigenvalues of a matrix stick out of its random bulk (see Bulk).

    sigma: its singular values, descending. shape: its rows and columns with an element other than zero. floor: the
    rounding floor.
    """
    values = sigma[::-1] ** 2
    values = values[values > squared_floor(floor, values)]
    return bool(values.size) and fit_bulk(values, len(values), max(shape)).spikes > 0


def shuffled_sigma(weight: "torch.Tensor") -> np.ndarray:
    """The largest singular values, at most KEPT, of a matrix (rows, columns) with its elements shuffled; descending.

    Rows and columns of zeros are left out first, since they belong to no random matrix. float64, from elements in
    float32. One permutation is drawn, the same for equal shapes. Memory: four bytes for each element.
    """
    from scipy.sparse.linalg import LinearOperator, svds

    elements, scale = _elements(weight)
    random = np.random.default_rng(SEED)
    random.shuffle(elements.reshape(-1))
    small = min(elements.shape)
    if small <= SMALL:
        return scale * np.linalg.svd(elements.astype(np.float64), compute_uv=False)[:KEPT]
    operator = LinearOperator(
        elements.shape, matvec=lambda x: elements @ x, rmatvec=lambda y: elements.T @ y, dtype=np.float32
    )
    start = random.standard_normal(small).astype(np.float32)
    found = svds(operator, k=KEPT, tol=TOLERANCE, v0=start, return_singular_vectors=False)
    return scale * np.sort(found.astype(np.float64))[::-1]


def against_shuffled(row: SpectrumRow, spikes: int) -> dict[str, Any]:
    """What shuffling the elements leaves of a matrix's spikes; nothing where it has none.

    shuffled_lambda_max: the largest eigenvalue (squared singular value) of the shuffled matrix. correlated_spikes: how
    many spikes have no counterpart after shuffling: the largest surplus, over all bounds, of spikes above a bound over
    outliers of the shuffled matrix above it. spikes_of: "positions" if all are, "values" if none is, else "both".
    """
    shuffled = np.asarray(row.shuffled, dtype=float)
    if not spikes or not shuffled.size:
        return {}
    shape = nonzero_shape(row)
    outliers = shuffled[: _outliers(shuffled, row.frobenius, shape)]
    bounds = outliers + MARGIN * row.frobenius / (shape[0] * shape[1]) ** 0.5
    if len(outliers) < KEPT:
        bounds = np.append(bounds, 0.0)
    sigma = np.asarray(row.sigma)[:spikes]
    surplus = [int((sigma > bound).sum()) - above for above, bound in enumerate(bounds)]
    correlated = max([0, *surplus])
    kind = "positions" if correlated == spikes else "both" if correlated else "values"
    return {"shuffled_lambda_max": float(shuffled[0]) ** 2, "correlated_spikes": correlated, "spikes_of": kind}


def _outliers(shuffled: np.ndarray, frobenius: float, shape: tuple[int, int]) -> int:
    """How many singular values of a shuffled matrix stick out of its bulk, whose elements hold the rest of the energy.

    A bulk of elements with standard deviation s ends at s (sqrt rows + sqrt columns); MARGIN more of s is scatter.
    """
    rest = np.clip(frobenius**2 - np.cumsum(shuffled**2), 0, None)
    edges = (rest / (shape[0] * shape[1])) ** 0.5 * (shape[0] ** 0.5 + shape[1] ** 0.5 + MARGIN)
    return int(np.flatnonzero(shuffled > edges).max(initial=-1)) + 1


def _elements(weight: "torch.Tensor") -> tuple[np.ndarray, float]:
    """The rows and columns with an element other than zero, over the largest element, and that one."""
    step = max(1, BLOCK // max(1, weight.shape[1]))
    blocks = weight.split(step)
    scale = max(float(block.double().abs().max()) for block in blocks)
    elements = np.empty(tuple(weight.shape), np.float32)
    for start, block in zip(range(0, len(weight), step), blocks, strict=True):
        elements[start : start + step] = (block.double() / scale).numpy()
    rows, columns = elements.any(axis=1), elements.any(axis=0)
    if not (rows.all() and columns.all()):
        elements = np.ascontiguousarray(elements[rows][:, columns])
    return elements, scale
