"""Rows of float32 rounded by a scheme and read back, by the compiled kernels: what quantizers.quantized() gives."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from weight_atlas.errors import AtlasError
from weight_atlas.quantization import kernels
from weight_atlas.quantization.formats import E4M3_LARGEST, FORMATS, FP4_LEVELS, NF4_LEVELS
from weight_atlas.quantization.quantizers import Scheme

_NF4 = np.array(NF4_LEVELS, dtype=np.float32)
Range = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Extent:
    """What a scheme must know of a whole matrix before it can round its first row.

    low, high: its smallest and largest weight. ratios: of clipped schemes for whole tensors, the share of that range
    that has the least error; see by_histogram.
    """

    low: float
    high: float
    ratios: dict[Scheme, float]

    @cached_property
    def absmax(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    def range_of(self, scheme: Scheme) -> tuple[float, float]:
        """What a scheme for whole tensors rounds between."""
        ratio = np.float32(self.ratios.get(scheme, 1.0))
        return float(np.float32(self.low) * ratio), float(np.float32(self.high) * ratio)


class Rows:
    """Some rows of a matrix, float32 (rows, cols), and the ranges of their groups, found once for each size."""

    def __init__(self, weights: np.ndarray, extent: Extent):
        self.weights, self.extent = np.ascontiguousarray(weights, dtype=np.float32), extent
        self._ranges: dict[int, Range] = {}
        self._rounded = np.empty_like(self.weights)

    def rounded(self, scheme: Scheme) -> np.ndarray:
        """The rows after quantization and back; the memory is used again for the next scheme."""
        low, high, group = self._range(scheme)
        ratios = scheme.ratios if scheme.granularity != "tensor" else (1.0,)
        known, out = FORMATS[scheme.format], self._rounded
        if scheme.integer:
            tried = np.array(ratios, dtype=np.float32)
            symmetric = scheme.symmetric
            kernels.round_integers(self.weights, group, low, high, known.bits, symmetric, scheme.full, tried, out)
        elif scheme.format == "nf4":
            kernels.round_levels(self.weights, group, low, high, _NF4, out)
        else:
            scales = self._scales(scheme.format, np.maximum(np.abs(low), np.abs(high)))
            largest = np.float32(known.largest)
            kernels.round_floats(self.weights, group, scales, known.mantissa, known.least_exponent, largest, out)
        return out

    def _range(self, scheme: Scheme) -> tuple[np.ndarray, np.ndarray, int]:
        """Ranges of the groups (rows, groups), and the length of one."""
        rows, cols = self.weights.shape
        kind = scheme.granularity.partition(":")[0]
        if kind == "tensor":
            least, most = self.extent.range_of(scheme)
            return np.full((rows, 1), least, np.float32), np.full((rows, 1), most, np.float32), max(cols, 1)
        if kind == "block":
            raise AtlasError(f"{scheme.name}: blocks run across rows", remedy="give group:N, tensor or channel")
        group = min(scheme.block or cols, max(cols, 1))
        if group not in self._ranges:
            low, high = np.empty((2, rows, -(-cols // group)), dtype=np.float32)
            kernels.group_ranges(self.weights, group, low, high)
            self._ranges[group] = low, high
        return *self._ranges[group], group

    def _scales(self, format_: str, peaks: np.ndarray) -> np.ndarray:
        """Scales of small floats from the largest magnitudes of groups, as formats.py has them; 0 for groups of 0."""
        match format_:
            case "mxfp4":
                exponents = np.clip(np.frexp(peaks)[1] - 3, -127, 127)
                return np.where(peaks > 0, np.ldexp(np.float32(1), exponents), np.float32(0)).astype(np.float32)
            case "nvfp4":
                largest = np.float32(FP4_LEVELS[-1])
                whole = np.float32(self.extent.absmax) / np.float32(FP4_LEVELS[-1] * E4M3_LARGEST)
                own = peaks / largest / (whole if whole > 0 else np.float32(1))
                kernels.round_floats(own, own.shape[1], np.ones((len(own), 1), np.float32), 3, -6,
                                     np.float32(E4M3_LARGEST), own)  # fmt: skip
                return own * whole
        return peaks / np.float32(FORMATS[format_].largest)
