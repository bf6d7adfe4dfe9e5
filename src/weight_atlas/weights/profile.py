"""Profile of a matrix by rows, columns and cells, from one pass over its elements.

Sums are in float64 and in a fixed order, so that the same matrix gives the same bits whatever the threads and the
blocks it comes in. A column is summed row by row within a band of rows (a row of cells), then band by band. A row is
summed in tiles of about 512 columns, a whole number of cells, in 32 lanes (column mod 32) that are folded half onto
half, then tile by tile. Against exact sums that errs by a few units in the last place of the sum of magnitudes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from weight_atlas.dtypes import DTYPES
from weight_atlas.weights.profile_few import profile_few
from weight_atlas.weights.stored_types import patterns

CELLS = 256  # most rows and columns of cells
EXPERT_CELLS = 64  # of one expert among many
# Up to so many elements numpy profiles in less time than it takes to load the compiled kernels.
_FEW = 1 << 19
_TILE = 512  # columns whose sums, and values of a few rows, stay in the nearest cache
_TOGETHER = 1 << 16  # elements that are widened to float64 at a time
_COUNTED = 3  # the first row of Profile's tables that holds counts

Blocks = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Profile:
    """A matrix (out, in) by rows, columns and cells; all over its finite elements.

    by_row (5, rows), by_column (5, columns): sums, sums of squares, largest magnitudes, zeros of either sign, elements
    that are not finite. cell_mean, cell_absmax: mean and largest magnitude of each cell, float32, (bands, cells of a
    band); NaN where a cell has no finite element. height, width: rows and columns of a cell; the last ones may be cut.
    """

    by_row: np.ndarray
    by_column: np.ndarray
    cell_mean: np.ndarray
    cell_absmax: np.ndarray
    height: int
    width: int

    def row(self) -> dict:
        """The profile as a row of a table."""
        named = {"height": self.height, "width": self.width}
        for axis, table in (("row", self.by_row), ("col", self.by_column)):
            named |= {f"{axis}_{name}": table[k] for k, name in enumerate(("sums", "squares", "absmax"))}
            named |= {
                f"{axis}_{name}": table[k].astype(np.int64) for k, name in enumerate(("zeros", "not_finite"), _COUNTED)
            }
        return named | {"cell_mean": self.cell_mean.ravel(), "cell_absmax": self.cell_absmax.ravel()}


class Profiler:
    """Profiles a matrix that comes as flat blocks of its elements, in memory order, as stored_as() gives them.

    name: of the stored type. most: rows and columns of cells at most. Beside a block it takes constant memory, and
    what the profile itself does.
    """

    def __init__(self, name: str, shape: tuple[int, int], most: int = CELLS):
        self.name, self.rows, self.columns = name, *shape
        self.height, self.width = (max(1, -(-size // most)) for size in shape)
        bands, across = -(-self.rows // self.height), -(-self.columns // self.width)
        self._by_row, self._by_column = np.zeros((5, self.rows)), np.zeros((5, self.columns))
        self._cells = np.zeros((3, bands, across))
        self._band = np.zeros((3, self.columns))
        self._tile = self.width * max(1, _TILE // self.width)
        self._done = 0  # rows
        self._begun: list[np.ndarray] = []  # of a row that the next block ends; all of a small matrix
        self._small = self.rows * self.columns <= _FEW

    def watching(self, blocks: Blocks) -> Blocks:
        """The same blocks, profiled as they pass for the first time."""
        passed = False

        def watched() -> Iterator[np.ndarray]:
            nonlocal passed
            first, passed = not passed, True
            for block in blocks():
                if first:
                    self.add(block)
                yield block

        return watched

    def add(self, block: np.ndarray) -> None:
        """Add the next elements; the block may be reused afterwards."""
        if not len(block):
            return
        if self._small:
            self._begun.append(block.copy())
            return
        missing = -sum(map(len, self._begun)) % self.columns
        if self._begun and missing:
            self._begun.append(block[:missing].copy())
            block = block[missing:]
            if sum(map(len, self._begun)) == self.columns:
                begun, self._begun = np.concatenate(self._begun), []
                self._add_rows(begun)
        whole = len(block) - len(block) % self.columns
        if whole:
            self._add_rows(block[:whole])
        if whole < len(block):
            self._begun.append(block[whole:].copy())

    def _add_rows(self, elements: np.ndarray) -> None:
        from weight_atlas.weights.profile_kernels import profile_rows

        step = max(1, _TOGETHER // self.columns) * self.columns
        buffer = np.empty(min(step, len(elements)))
        for start in range(0, len(elements), step):
            part = elements[start : start + step]
            values = buffer[: len(part)]
            _widen(part, self.name, values)
            x = values.reshape(-1, self.columns)
            sizes = self.height, self.width, self._tile
            profile_rows(x, self._done, *sizes, self._by_row, self._by_column, self._band, self._cells)
            self._done += len(x)

    def profile(self) -> Profile:
        """The profile of the matrix, all of whose elements were added."""
        if self._small and self._begun:
            elements = np.concatenate(self._begun)
            values = np.empty(len(elements))
            _widen_few(elements, self.name, values)
            sizes = self.height, self.width, self._tile
            profile_few(values.reshape(self.rows, self.columns), *sizes, self._by_row, self._by_column, self._cells)
        heights = np.minimum(self.height, self.rows - np.arange(0, self.rows, self.height))
        widths = np.minimum(self.width, self.columns - np.arange(0, self.columns, self.width))
        sums, largest, lost = self._cells
        known = np.outer(heights, widths) - lost
        with np.errstate(invalid="ignore"):
            mean = np.where(known > 0, sums / np.maximum(known, 1), np.nan)
        with np.errstate(over="ignore"):  # of float64 beyond float32
            cells = mean.astype(np.float32), np.where(known > 0, largest, np.nan).astype(np.float32)
        return Profile(self._by_row, self._by_column, *cells, self.height, self.width)


def _widen(elements: np.ndarray, name: str, out: np.ndarray) -> None:
    from weight_atlas.weights.profile_kernels import widen_bfloat16, widen_float16

    match name:
        case "BF16":
            widen_bfloat16(elements, out)
        case "F16":
            widen_float16(elements, out)
        case _:
            _widen_few(elements, name, out)


def _widen_few(elements: np.ndarray, name: str, out: np.ndarray) -> None:
    if DTYPES[name].by_patterns:
        np.take(patterns(name).values, elements, out=out)
    else:
        with np.errstate(invalid="ignore"):  # signalling NaN
            out[:] = elements
