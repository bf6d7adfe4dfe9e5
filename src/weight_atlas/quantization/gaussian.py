"""What quantizing a Gaussian matrix of the same shape would cost: the null of every error.

By simulation with fixed numbers. What a row loses depends on its length alone, and for a scheme with one scale for all
on the largest magnitude of the whole matrix, whose distribution is known: P(max <= m) = (2 Phi(m) - 1)^n. So a sample
of rows of that length stands for a matrix of any height.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from weight_atlas.quantization import kernels
from weight_atlas.quantization.errors import Sums, decibels
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.quantization.rounding import Extent, Rows

_SAMPLE, _FEW = 1 << 18, 1 << 14  # elements, of which a few show where to clip, and how far the largest one counts
_MOST_ROWS = 1 << 14  # of very short ones
_SIGMAS = (0.15865525393145707, 0.8413447460685429)  # one standard deviation below and above the median


@dataclass(frozen=True)
class Null:
    """A scheme on a Gaussian matrix of some shape.

    sqnr_db and error: its standard deviation from one such matrix to the next, the simulation's own included, in dB.
    cosine. worst_row: the median of the largest relative error of a row.
    """

    sqnr_db: float
    error: float
    cosine: float
    worst_row: float


@cache
def gaussian_rows(cols: int, elements: int = _SAMPLE) -> np.ndarray:
    """A sample of standard normal rows, float32, the same for ever: quantiles of a fixed stream of uniform numbers."""
    from scipy.special import ndtri

    rows = min(max(1, elements // cols), _MOST_ROWS)
    uniform = np.random.PCG64(20240607).random_raw((rows, cols))  # the stream of a bit generator never changes
    return ndtri(((uniform >> np.uint64(11)) + 0.5) * 2.0**-53).astype(np.float32)


def largest_of(n: float, probability: float = 0.5) -> float:
    """The quantile of the largest magnitude of n standard normal numbers."""
    from scipy.special import ndtri

    return float(-ndtri(-math.expm1(math.log(probability) / n) / 2))


def gaussian_nulls(shape: tuple[int, int], schemes: Sequence[Scheme]) -> dict[Scheme, Null]:
    """The null of each scheme for a matrix of this shape, (rows, cols)."""
    return _nulls(shape[0], shape[1], tuple(schemes))


@cache
def _nulls(rows: int, cols: int, schemes: tuple[Scheme, ...]) -> dict[Scheme, Null]:
    middle, *ends = (largest_of(rows * cols, probability) for probability in (0.5, *_SIGMAS))
    nulls = {}
    for scheme in schemes:
        if _knows_the_whole(scheme):
            sums = _sums_in_matrix(gaussian_rows(cols), middle, scheme)
            low, high = (_sums_in_matrix(gaussian_rows(cols, _FEW), end, scheme) for end in ends)
            spread = abs(Sums.of(high, cols).sqnr_db - Sums.of(low, cols).sqnr_db) / 2
        else:
            sums, spread = _sums_of_rows(cols, scheme), 0.0
        nulls[scheme] = _null(sums, rows, cols, spread)
    return nulls


def _null(sums: np.ndarray, rows: int, cols: int, spread: float) -> Null:
    from scipy.special import ndtri

    pooled, ratios = Sums.of(sums, cols), np.sqrt(sums[:, 0] / sums[:, 2])
    scatter = _scatter(sums) * math.sqrt(1 / rows + 1 / len(sums))
    worst = float(np.quantile(ratios, 0.5 ** (1 / rows)))
    if rows > len(sums):  # beyond what so many rows show
        worst = max(worst, ratios.mean() + ratios.std() * float(ndtri(0.5 ** (1 / rows))))
    return Null(pooled.sqnr_db, math.hypot(scatter, spread), pooled.cosine, worst)


def _knows_the_whole(scheme: Scheme) -> bool:
    return scheme.granularity == "tensor" or scheme.format == "nvfp4"


@cache
def _sums_of_rows(cols: int, scheme: Scheme) -> np.ndarray:
    return _sums(gaussian_rows(cols), Extent(0.0, 0.0, {}), scheme)


def _sums_in_matrix(sample: np.ndarray, largest: float, scheme: Scheme) -> np.ndarray:
    """Row sums of a sample as part of a matrix with this largest magnitude."""
    whole = Extent(-largest, largest, {})
    if scheme.clipped:
        few = np.clip(gaussian_rows(sample.shape[1], _FEW), -largest, largest)
        tried = [Extent(-largest, largest, {scheme: ratio}) for ratio in scheme.ratios]
        errors = [_sums(few, extent, scheme)[:, 0].sum() for extent in tried]
        whole = tried[int(np.argmin(errors))]
    return _sums(np.clip(sample, -largest, largest), whole, scheme)


def _sums(weights: np.ndarray, extent: Extent, scheme: Scheme) -> np.ndarray:
    rows, sums = Rows(weights, extent), np.empty((len(weights), 3))
    kernels.error_sums(rows.weights, rows.rounded(scheme), sums)
    return sums


def _scatter(sums: np.ndarray) -> float:
    """Standard deviation of one row's SQNR about that of all, in dB, to first order."""
    if not sums[:, 0].any():
        return 0.0
    relative = (sums[:, 0] - sums[:, 2] * sums[:, 0].sum() / sums[:, 2].sum()) / sums[:, 0].mean()
    return float(10 / math.log(10) * relative.std())


@cache
def kept_gain(rows: int, cols: int, scheme: Scheme, kept: int) -> float:
    """dB that a Gaussian matrix gains where its `kept` columns with the largest magnitudes stay in 16 bits."""
    sample = gaussian_rows(cols)
    before, after = (largest_of(rows * cols), _largest_but(rows, cols, kept))
    others = sample.copy()
    others[:, np.argsort(-np.abs(sample).max(axis=0), kind="stable")[:kept]] = 0
    energy = float((sample.astype(np.float64) ** 2).sum())
    errors = [_sums_in_matrix(*part, scheme)[:, 0].sum() for part in ((sample, before), (others, after))]
    return decibels(energy, float(errors[1])) - decibels(energy, float(errors[0]))


def _largest_but(rows: int, cols: int, kept: int) -> float:
    """The median magnitude of the largest element outside the `kept` columns with the largest ones."""
    if kept >= cols:
        return 0.0
    # Median rank of the (kept + 1)-th largest of cols maxima (Benard), each the largest of `rows` numbers.
    share = 1 - (kept + 0.7) / (cols + 0.4)
    return largest_of(rows, share)
