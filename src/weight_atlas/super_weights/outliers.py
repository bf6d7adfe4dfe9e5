"""Weights of any matrix that are too large for chance, as promises that their removal matters.

A first-order effect misses a weight that drives something into saturation, such as the logit of a head that looks at
one token alone, and one that is balanced by another. Their size does not.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import value_at
from weight_atlas.live.matrices import place_of
from weight_atlas.live.parts import Part
from weight_atlas.super_weights.screening import largest_of

# An outlier is this many times as large as the largest of as many Gaussian numbers, which happens by chance with a
# probability of n * n^-4.
STANDS_OUT = 2.0
# Of one matrix at most so many weights, and one row and column, are tried: its first effects mostly have one cause.
OF_A_MATRIX = 2


@dataclass(frozen=True)
class Promise:
    """Weights worth a removal.

    kind: element, row or column. found_by: screening, attribution, activation or partner. row: what its source says.
    """

    place: Coordinate
    kind: str
    found_by: str
    row: Any


@dataclass(frozen=True)
class Outlier:
    """size: |w| over the root mean square of the matrix. gaussian_size: the largest of as many Gaussian numbers."""

    size: float
    gaussian_size: float

    @property
    def far(self) -> float:
        """How far out it is, 1 for the largest that chance gives."""
        return self.size / self.gaussian_size


def outliers(live: Anatomy, screening: pd.DataFrame, known: Sequence[Coordinate]) -> list[Promise]:
    """The weights that stand out by size, the farthest out first; known ones are left out.

    Of W_down those of a screening (see screening.screen); of every other matrix and bias OF_A_MATRIX at most. The gains
    of norms do not lie about zero: of them large ones are no outliers.
    """
    found = [*_screened(live, screening), *_of_other_parts(live)]
    found = [each for each in found if each.row.far >= STANDS_OUT and each.place not in known]
    return sorted(found, key=lambda each: -each.row.far)


def _screened(live: Anatomy, screening: pd.DataFrame) -> Iterator[Promise]:
    for row in screening[screening["size"] >= STANDS_OUT * screening.gaussian_size].itertuples():
        if (place := _live_place(live, row)) is not None:
            yield Promise(place, "element", "screening", Outlier(row.size, row.gaussian_size))


def _of_other_parts(live: Anatomy) -> Iterator[Promise]:
    seen: list[tuple[int, Any]] = []
    for part in live.parts:
        lies = (id(part.parameter), part.selection)
        if lies not in seen and _searched(part):
            seen.append(lies)
            values = part.values()
            matrix = values[:, None] if values.ndim == 1 else values
            found, rms = largest_of(matrix, OF_A_MATRIX)
            usual = math.sqrt(2 * math.log(matrix.numel()))
            for row, column, size in found:
                place = replace(place_of(live, part), row=row, col=column)
                yield Promise(place, "element", "screening", Outlier(size / rms if rms else 0.0, usual))


def _searched(part: Part) -> bool:
    """Whether a part is a matrix or bias of a model's prediction, but no W_down of a layer."""
    screened = part.role == Role.W_DOWN and part.layer is not None
    rest = part.role in (Role.NORM, Role.OTHER) or part.stack == "other"
    return not (screened or rest) and part.parameter.is_floating_point() and math.prod(part.shape) > 1


def _live_place(live: Anatomy, row: Any) -> Coordinate | None:
    """The coordinate of a stored weight in the live model; None where the live model holds another value there."""
    expert = None if pd.isna(row.expert) else int(row.expert)
    shared = "shared" in str(row.component)
    here = [
        projection
        for projection in live.projections
        if projection.layer == row.layer and projection.shared_expert == shared
        and (expert is not None if projection.stacked else projection.expert == expert)
    ]  # fmt: skip
    if len(here) != 1:
        return None
    place = here[0].coordinate(row.row, row.column, expert)
    try:
        value = value_at(live, place)
    except (AtlasError, IndexError):
        return None
    # The live model may compute in fewer bits than are stored.
    return place if abs(value - row.weight) <= 0.01 * abs(row.weight) else None
