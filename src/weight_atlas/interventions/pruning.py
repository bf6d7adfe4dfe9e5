"""Zero the largest weights of every matrix but some: the control for removing these."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.interventions.quantized_layers import check_editable, layer_matrices
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import matrix_at

# More of a matrix than this is no longer a handful of outliers.
MOST = 0.01


@dataclass(frozen=True)
class Largest:
    """How many of the largest weights of a matrix: `count` if given, else this share of them, at least one."""

    share: float
    count: int | None

    def of(self, weights: int) -> int:
        """The number in a matrix of so many weights."""
        return max(1, round(self.share * weights)) if self.count is None else self.count


def check_largest(live: Anatomy, largest: Largest) -> None:
    """Raise AtlasError where more than a hundredth of a matrix would go."""
    for _, name, view in layer_matrices(live):
        if largest.of(view.numel()) > max(1, MOST * view.numel()):
            raise AtlasError(
                f"the {largest.of(view.numel())} largest of {view.numel()} weights are more than a hundredth of them",
                where=name,
                remedy=f"set largest.count to {max(1, int(MOST * view.numel()))} or less, or give a share",
            )


@contextmanager
def largest_zeroed(live: Anatomy, largest: Largest, spared: Sequence[Coordinate]) -> Iterator[None]:
    """Set the largest weights of every layer matrix (see layer_matrices) to zero for the length of the block.

    spared: weights that stay, and are not counted. Source: Yu et al., arXiv 2411.07191, section 3.
    """
    stored: list[tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, view, weights in _largest_weights(live, largest, spared):
                check_editable(name, view)
                stored.append((view, weights, view[weights].clone()))
                view[weights] = 0
        yield
    finally:
        with torch.no_grad():
            for view, weights, values in reversed(stored):
                view[weights] = values


def largest_size(live: Anatomy, largest: Largest, spared: Sequence[Coordinate]) -> tuple[int, float]:
    """How many weights largest_zeroed sets to zero, and the sum of their magnitudes."""
    values = [view[weights].double().abs() for _, view, weights in _largest_weights(live, largest, spared)]
    return sum(map(len, values)), float(sum(each.sum().item() for each in values))


def _largest_weights(
    live: Anatomy, largest: Largest, spared: Sequence[Coordinate]
) -> Iterator[tuple[str, torch.Tensor, tuple[torch.Tensor, ...]]]:
    """(name, view, (rows, columns)) of the largest weights of each matrix; zeros are left out."""
    kept = [(matrix_at(live, place).data_ptr(), place) for place in spared]
    for _, name, view in layer_matrices(live):
        magnitude = view.float().abs()
        for pointer, place in kept:
            if pointer == view.data_ptr():
                magnitude[place.cell] = 0
        values, flat = magnitude.flatten().topk(min(largest.of(view.numel()), view.numel()))
        flat = flat[values > 0]
        yield name, view, (flat // view.shape[1], flat % view.shape[1])
