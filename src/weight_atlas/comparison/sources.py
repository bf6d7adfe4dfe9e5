"""The two sides of a comparison, read a part at a time: a stored matrix, the update of an adapter, or both together."""

from dataclasses import dataclass
from typing import Protocol

import torch


class Source(Protocol):
    """One side of a comparison: a logical tensor, of which parts are made when they are asked for.

    shape: (rows, cols), or (rows,). dtype: the type whose rounding its values have.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def rows(self, chosen: slice) -> torch.Tensor:
        """Whole rows, contiguous, in a floating type that holds their values exactly."""

    def part(self, rows: slice, cols: slice) -> torch.Tensor:
        """A part of a matrix in float64."""


@dataclass(frozen=True)
class Stored:
    """A tensor that is in memory."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def rows(self, chosen: slice) -> torch.Tensor:
        return self.tensor[chosen]

    def part(self, rows: slice, cols: slice) -> torch.Tensor:
        return self.tensor[rows, cols].double()


@dataclass(frozen=True)
class Update:
    """The update scale * up down of an adapter, from its factors, which is never formed as a whole.

    up: (rows, rank); down: (rank, cols); float64. dtype: of the stored factors.
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.up.shape[0], self.down.shape[1]

    def rows(self, chosen: slice) -> torch.Tensor:
        return self.part(chosen, slice(None)).float().contiguous()

    def part(self, rows: slice, cols: slice) -> torch.Tensor:
        return self.scale * (self.up[rows] @ self.down[:, cols])


@dataclass(frozen=True)
class Updated:
    """A stored matrix W with an adapter's update U: W + U, or with magnitudes m, m (W + U) / |W + U| row by row (DoRA).

    norms: of the rows of W + U, (rows,) float64; None without magnitudes (rows,) float64. PEFT computes both norms and
    magnitudes by output row (arXiv:2402.09353, section 4).
    """

    base: Stored
    update: Update
    magnitudes: torch.Tensor | None = None
    norms: torch.Tensor | None = None

    @classmethod
    def of(cls, base: Stored, update: Update, magnitudes: torch.Tensor | None, step: int = 1 << 9) -> "Updated":
        """With the norms of all rows, computed a few rows at a time."""
        if magnitudes is None:
            return cls(base, update)
        whole = cls(base, update)
        starts = range(0, base.shape[0], step)
        norms = [whole.part(slice(start, start + step), slice(None)).norm(dim=1) for start in starts]
        return cls(base, update, magnitudes, torch.cat(norms))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype

    def rows(self, chosen: slice) -> torch.Tensor:
        return self.part(chosen, slice(None)).float().contiguous()

    def part(self, rows: slice, cols: slice) -> torch.Tensor:
        whole = self.base.part(rows, cols) + self.update.part(rows, cols)
        if self.magnitudes is None or self.norms is None:
            return whole
        return whole * (self.magnitudes[rows] / self.norms[rows]).unsqueeze(1)
