"""What changed between two tensors of one shape, element by element, in one pass over both."""

from dataclasses import dataclass, field

import numpy as np
import torch

from weight_atlas.comparison.kernels import (
    BEYOND,
    CHANGED,
    COUNTED,
    NOT_FINITE_A,
    NOT_FINITE_B,
    PLACE,
    SIGNS,
    compare_patterns,
    farthest,
    looked_up,
)
from weight_atlas.comparison.sources import Source

# Elements that are looked at together, and of those that are brought to another type: few enough for the cache.
CHUNK, CONVERTED = 1 << 22, 1 << 18
# Of large tensors the values of one of several blocks are counted, at most of so many, so that at least these are:
# counting takes longer than all else together.
STRIDE, COUNTED_AT_LEAST = 8, 1 << 19
# Mean of sqrt(n m / (n + m)) times the distance of two samples of one distribution (Kolmogorov): sqrt(pi / 2) ln 2.
KOLMOGOROV_MEAN = 0.8687
# How the elements of a tensor fall into rows of sums: rows shorter than this are summed as one.
SHORT = 64


@dataclass
class Difference:
    """What changed from one tensor, a, to another, b.

    n: elements. changed: whose bits differ, as values of a wider type where the stored types do. beyond_step: of those
    the ones that differ by more than the spacing of the coarser stored type at the larger of both magnitudes. signs:
    signs that differ where neither value is zero. square_a, square_b, square_d: sums of squares, of b - a in the last,
    over the elements that are finite on both sides. largest: the largest |b - a|, infinite where one of both is not
    finite; place: of it, in memory order (-1: nothing changed), with value_a, value_b. ks: distance between the
    distributions of values, see ks_distance, from `counted` of them. sums: (segments, 4), see compare_patterns, a
    row of the tensor or a part of it each.
    """

    n: int = 0
    changed: int = 0
    beyond_step: int = 0
    signs: int = 0
    not_finite_a: int = 0
    not_finite_b: int = 0
    square_a: float = 0.0
    square_b: float = 0.0
    square_d: float = 0.0
    largest: float = 0.0
    place: int = -1
    value_a: float = float("nan")
    value_b: float = float("nan")
    ks: float = float("nan")
    counted: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def relative(self) -> float:
        """|b - a| / |a|; infinite where a is zero and b is not, NaN where both are."""
        with np.errstate(all="ignore"):
            return float(np.sqrt(np.float64(self.square_d) / np.float64(self.square_a)))

    @property
    def cosine(self) -> float:
        """a . b / (|a| |b|), NaN where one of them is zero; exact near 1, since it comes from the difference."""
        product = (self.square_a * self.square_b) ** 0.5
        if not product > 0:
            return float("nan")
        apart = (self.square_d - (self.square_a**0.5 - self.square_b**0.5) ** 2) / (2 * product)
        return float(np.clip(1 - apart, -1, 1))

    @property
    def ks_null(self) -> float:
        """Mean distance between two independent samples of one distribution with as many elements as were counted."""
        return KOLMOGOROV_MEAN * (2 / self.counted) ** 0.5 if self.counted else float("nan")


def ks_distance(moved: np.ndarray, n: int) -> float:
    """Kolmogorov-Smirnov distance of two distributions of n values, from their differences.

    moved (65536,): how many more of the second have these high 16 bits of float32: exact for bfloat16 and 8-bit floats;
    wider types have at most 1/128 of a power of two in a bin, so that it is a lower bound.
    """
    return farthest(moved) / n if n else float("nan")


def segment_of(shape: tuple[int, ...], width: int | None = None) -> int:
    """Elements that are summed together: `width` columns of a row, else a row; a tensor of short rows as a whole."""
    if width:
        return width
    count = int(np.prod(shape, dtype=np.int64))
    return shape[1] if len(shape) == 2 and shape[1] >= SHORT else max(1, count)


def difference(a: Source, b: Source, segment: int) -> Difference:
    """Compare two tensors of one shape; segment: elements that are summed together, a divisor of a row or of all."""
    found, moved = Difference(), np.zeros(1 << 16, np.int64)
    step, least = coarser_step(a.dtype, b.dtype)
    counts, largest, parts = np.zeros(7, np.int64), -1, []
    total = int(np.prod(a.shape, dtype=np.int64))
    stride = max(1, min(STRIDE, total // COUNTED_AT_LEAST))
    width = max(1, total // a.shape[0]) if a.shape and a.shape[0] else 1
    alike = a.dtype == b.dtype and a.dtype in (torch.bfloat16, torch.float32)
    many = a.shape[0] if segment > width else max(1, (CHUNK if alike else CONVERTED) // width)
    for start in range(0, a.shape[0], many) if total else ():
        one, other = (side.rows(slice(start, start + many)).reshape(-1) for side in (a, b))
        sums = np.zeros((one.numel() // segment, 4))
        before = largest
        own = alike and one.dtype == other.dtype == a.dtype
        scale = (start * width, segment, own, step, least, stride)
        largest = _compare(one, other, scale, largest, counts, sums, moved)
        if largest > before:
            found.place = int(counts[PLACE])
            inside = found.place - start * width
            found.value_a, found.value_b = float(one[inside]), float(other[inside])
        parts.append(sums)
    found.sums = np.concatenate(parts) if parts else found.sums
    found.n, found.changed, found.beyond_step = total, int(counts[CHANGED]), int(counts[BEYOND])
    found.signs, found.not_finite_a = int(counts[SIGNS]), int(counts[NOT_FINITE_A])
    found.not_finite_b = int(counts[NOT_FINITE_B])
    found.square_a, found.square_b, found.square_d = map(float, found.sums[:, :3].sum(axis=0))
    gap = abs(found.value_b - found.value_a)
    found.largest = 0.0 if found.place < 0 else gap if np.isfinite(gap) else float("inf")
    found.counted = int(counts[COUNTED])
    # Where nothing changed nothing moved, and half a megabyte of zeros is not even touched.
    found.ks = ks_distance(moved, found.counted) if found.changed or not total else 0.0
    return found


def coarser_step(one: torch.dtype, other: torch.dtype) -> tuple[float, float]:
    """Of the coarser of two types: spacing over the power of two below a value, and least spacing; 0 of integers."""
    steps = [
        (torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps)
        for dtype in (one, other)
        if dtype.is_floating_point
    ]
    return max(steps, default=(0.0, 0.0))


def _compare(
    one: torch.Tensor, other: torch.Tensor, scale: tuple[int, int, bool, float, float, int], largest: int,
    counts: np.ndarray, sums: np.ndarray, moved: np.ndarray,
) -> int:  # fmt: skip
    """Compare two parts; scale: origin, segment, own, step, least step and stride of compare_patterns."""
    one, other = _exact(one), _exact(other)
    if one.dtype == other.dtype == torch.bfloat16:
        sides = [side.contiguous().view(torch.uint16).numpy() for side in (one, other)]
    else:  # float64 is told apart as float32: no model's weights differ by less and mean it.
        sides = [side.float().contiguous().view(torch.uint32).numpy() for side in (one, other)]
    return int(compare_patterns(*sides, *scale, largest, counts, sums, moved))


def _exact(part: torch.Tensor) -> torch.Tensor:
    """Values of 8 bits as bfloat16, which holds those of every such type: torch converts them one by one."""
    if part.dtype.itemsize > 1 or part.dtype == torch.bool:
        return part
    table = torch.arange(256, dtype=torch.uint8).view(part.dtype).bfloat16()
    found = torch.empty(part.shape, dtype=torch.bfloat16)
    looked_up(*(side.contiguous().view(kind).numpy() for side, kind in (
        (part, torch.uint8), (table, torch.uint16), (found, torch.uint16),
    )))  # fmt: skip
    return found
