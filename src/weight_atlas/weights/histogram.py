"""Distribution of the values of a tensor, and their statistics, as one record."""

from dataclasses import asdict, dataclass

import numpy as np

from weight_atlas.weights.distribution import EXACT, NO_MOMENTS, PERCENTILES, Moments, percentile_column

NEAR_ZERO = {"near_zeros_1e_6": 1e-6, "near_zeros_1e_4": 1e-4, "near_zeros_1e_2": 1e-2}

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """The values of a tensor and their statistics, all of them over its finite elements.

    n: all elements. nan, inf: the elements that are left out. zeros: of either sign; negative_zeros: those of -0.
    near_zeros: |x| <= 1e-6, 1e-4, 1e-2, zeros included. subnormal: nonzero and below the smallest normal number of the
    type. absmax_row, absmax_col: position of the first element, in memory order, of the largest magnitude; a vector
    has no column, dimensions after the first count as columns. moments: in float64. percentiles: those of PERCENTILES,
    with linear interpolation between order statistics. kind: "exact" or "binned", of values (ascending, float64) and
    counts (int64); where values are means of buckets, everything else is still exact.
    """

    n: int
    nan: int = 0
    inf: int = 0
    zeros: int = 0
    negative_zeros: int = 0
    near_zeros: tuple[int, ...] = (0,) * len(NEAR_ZERO)
    subnormal: int = 0
    min: float = _NAN
    max: float = _NAN
    absmax: float = _NAN
    absmax_row: int | None = None
    absmax_col: int | None = None
    moments: Moments = NO_MOMENTS
    percentiles: tuple[float, ...] = (_NAN,) * len(PERCENTILES)
    kind: str = EXACT
    values: np.ndarray
    counts: np.ndarray

    def row(self) -> dict:
        """The histogram as a row of a table."""
        return {
            "n": self.n,
            **asdict(self.moments),
            "min": self.min,
            "max": self.max,
            "absmax": self.absmax,
            "absmax_row": self.absmax_row,
            "absmax_col": self.absmax_col,
            "zeros": self.zeros,
            "negative_zeros": self.negative_zeros,
            **dict(zip(NEAR_ZERO, self.near_zeros, strict=True)),
            "subnormal": self.subnormal,
            "nan": self.nan,
            "inf": self.inf,
            **{percentile_column(p): value for p, value in zip(PERCENTILES, self.percentiles, strict=True)},
            "distribution": self.kind,
            "values": self.values,
            "counts": self.counts,
        }
