"""The null of a composition score: the same two heads, one of them turned at random in the residual stream.

With G and H the Gram matrices R^T R of a side that reads and of one that writes, each of trace 1, the squared score is
x = tr(G U H U^T), U the rotation between them. Over all rotations of a space of D dimensions

    E x = 1 / D,    Var x = 2 a b / ((D - 1) (D + 2)),    third cumulant near 8 a' b' / D^3,

with a = tr (G - 1/D)^2, a' = tr (G - 1/D)^3 and b, b' likewise: the first two exactly, since the symmetric matrices
without trace are one irreducible representation of the rotations, of dimension (D - 1) (D + 2) / 2. A gamma law with
these three moments (Pearson type III) gives the upper tail, as for weighted sums of chi-squares.
"""

from dataclasses import dataclass

import numpy as np

# Ranks of both sides so even that no rotation changes the score by more than this share.
FIXED = 1e-9


@dataclass(frozen=True)
class Shape:
    """Traces of powers of the Gram matrices of unit norm of some heads: second, third, each (heads,)."""

    second: np.ndarray
    third: np.ndarray


def shape_of(sides: np.ndarray) -> Shape:
    """The shape of sides (heads, k, d) of unit norm."""
    gram = sides @ sides.transpose(0, 2, 1)
    square = gram @ gram
    return Shape(np.einsum("hii->h", square), np.einsum("hij,hji->h", square, gram))


def upper_tail(squares: np.ndarray, reads: Shape, writes: Shape, dimensions: int) -> np.ndarray:
    """Chance that a random orientation gives a squared score as large; squares: (readers, writers)."""
    from scipy.special import gammaincc

    D = dimensions
    if D < 2:
        return np.ones_like(squares)
    mean = 1 / D
    (a, a3), (b, b3) = _traceless(reads, D), _traceless(writes, D)
    variance = 2 * np.outer(a, b) / ((D - 1) * (D + 2))
    third = 8 * np.outer(a3, b3) / D**3
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = (squares - mean) / variance**0.5
        # The skewness of a sum of chi-squares is positive; near 0 the law is Gaussian, and this gamma law close to it.
        skew = np.maximum(third / variance**1.5, 1e-3)
        degrees = 4 / skew**2
        tail = gammaincc(degrees, np.maximum(degrees + 2 * deviation / skew, 0))
    fixed = variance**0.5 <= FIXED * mean
    return np.where(fixed, np.where(squares > mean * (1 + 1e-6), 0.0, 1.0), tail)


def _traceless(shape: Shape, D: int) -> tuple[np.ndarray, np.ndarray]:
    second = np.maximum(shape.second - 1 / D, 0)
    return second, np.maximum(shape.third - 3 * shape.second / D + 2 / D**2, 0)
