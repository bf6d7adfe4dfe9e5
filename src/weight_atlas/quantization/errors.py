"""Errors of quantization schemes over the rows of a matrix, in one reading of it for all of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from weight_atlas.quantization import kernels
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.quantization.rounding import Extent, Rows

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 17  # elements that are rounded together: with what they are rounded to, they stay in the cache


@dataclass(frozen=True)
class Sums:
    """Over n elements w and what they are rounded to, q: sum (w - q)^2, sum w (w - q) and sum w^2."""

    squared_error: float
    product: float
    energy: float
    n: int

    @classmethod
    def of(cls, rows: np.ndarray, cols: int) -> "Sums":
        """Of rows of `error_sums`."""
        squared, product, energy = (float(kernels.total(column.copy(), len(column))) for column in rows.T)
        return cls(squared, product, energy, len(rows) * cols)

    @property
    def relative_error(self) -> float:
        """|W - Q|_F / |W|_F; 0 for zeros."""
        return math.sqrt(self.squared_error / self.energy) if self.energy else 0.0

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise, 10 log10 of energy over squared error; infinite without error."""
        return decibels(self.energy, self.squared_error)

    @property
    def cosine(self) -> float:
        """Of W and Q; NaN where one of them is all zeros."""
        rounded = self.energy - 2 * self.product + self.squared_error
        if self.energy <= 0 or rounded <= 0:
            return math.nan
        return min(1.0, (self.energy - self.product) / math.sqrt(self.energy * rounded))


def decibels(energy: float, squared_error: float) -> float:
    """10 log10(energy / squared_error); NaN for no energy, infinite for no error."""
    if not energy:
        return math.nan
    return 10 * math.log10(energy / squared_error) if squared_error else math.inf


@dataclass(frozen=True)
class Source:
    """A matrix to round: rows of a tensor as it is stored, and what is known of all of it.

    clean: whether to look for NaN and infinite elements, which are taken for zeros, and for those beyond float32.
    """

    tensor: "torch.Tensor"
    extent: Extent
    clean: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0], self.tensor.shape[1]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows in float32."""
        rows = self.tensor[start:stop].float().numpy()
        if not self.clean:
            return rows
        wide = self.tensor[start:stop].double().numpy()
        largest = np.finfo(np.float32).max
        return np.where(np.isfinite(wide), np.clip(wide, -largest, largest), 0.0).astype(np.float32)

    def chunks(self) -> list[slice]:
        """The rows in portions."""
        rows, cols = self.shape
        height = max(1, _CHUNK // max(cols, 1))
        return [slice(start, min(start + height, rows)) for start in range(0, rows, height)]


@dataclass(frozen=True)
class Errors:
    """rows: of each scheme the sums of every row, float64 (rows, 3). low, high: of every column."""

    rows: dict[Scheme, np.ndarray]
    low: np.ndarray
    high: np.ndarray


def matrix_errors(source: Source, schemes: Sequence[Scheme], pool: Executor) -> Errors:
    """What rounding a matrix by each scheme costs, row by row, and the ranges of its columns."""

    def work(chunk: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = Rows(source.rows(chunk.start, chunk.stop), source.extent)
        sums = np.empty((len(schemes), len(rows.weights), 3))
        for number, scheme in enumerate(schemes):
            kernels.error_sums(rows.weights, rows.rounded(scheme), sums[number])
        return sums, rows.weights.min(axis=0), rows.weights.max(axis=0)

    parts = list(pool.map(work, source.chunks()))
    sums = np.concatenate([part for part, _, _ in parts], axis=1)
    low = np.min([part for _, part, _ in parts], axis=0)
    high = np.max([part for _, _, part in parts], axis=0)
    return Errors(dict(zip(schemes, sums, strict=True)), low, high)


def kept_errors(source: Source, kept: np.ndarray, schemes: Iterable[Scheme], pool: Executor) -> Iterator[Sums]:
    """The sums of each scheme where some columns are kept in 16 bits and leave the groups that they were in.

    source.extent: of the other columns.
    """
    wanted = list(schemes)

    def work(chunk: slice) -> np.ndarray:
        weights = source.rows(chunk.start, chunk.stop)
        others = weights.copy()
        others[:, kept] = 0
        rows, sums = Rows(others, source.extent), np.empty((len(wanted), len(weights), 3))
        halves = sixteen_bits(weights[:, kept]) if source.tensor.dtype.itemsize > 2 else weights[:, kept]
        for number, scheme in enumerate(wanted):
            rounded = rows.rounded(scheme)
            rounded[:, kept] = halves
            kernels.error_sums(np.ascontiguousarray(weights), rounded, sums[number])
        return sums

    sums = np.concatenate(list(pool.map(work, source.chunks())), axis=1)
    return (Sums.of(part, source.shape[1]) for part in sums)


def sixteen_bits(weights: np.ndarray) -> np.ndarray:
    """float32 as float16 holds it, and as bfloat16 does (ties to even) beyond its range."""
    with np.errstate(over="ignore"):
        halves = weights.astype(np.float16).astype(np.float32)
    codes = weights.view(np.uint32) if weights.flags.c_contiguous else np.ascontiguousarray(weights).view(np.uint32)
    brain = ((codes + np.uint32(0x7FFF) + ((codes >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(
        np.float32
    )
    return np.where(np.isinf(halves), brain, halves)
