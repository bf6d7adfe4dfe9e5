"""Round matrices of a live model to types of a tool while a block lasts, each in the layout in which the tool does."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from weight_atlas.errors import NotApplicable
from weight_atlas.families.layouts import extract, place, window
from weight_atlas.interventions.quantized_layers import check_editable
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.parts import Part
from weight_atlas.quantization.recipes.rounded import rounded
from weight_atlas.quantization.recipes.types import StoredType


class MatrixPlace(NamedTuple):
    """A matrix of a model by what it is, in the inventory's words and in the live model's; shape: logical (out, in)."""

    role: str
    component: str
    stack: str
    layer: int | None
    expert: int | None
    shape: tuple[int, int]

    def __str__(self) -> str:
        layer = "" if self.layer is None else f" of layer {self.layer}"
        expert = "" if self.expert is None else f", expert {self.expert}"
        return " ".join(filter(None, [self.component, self.role])) + layer + expert


@dataclass(frozen=True)
class RoundedAs:
    """Matrices rounded each to a type of a tool; threads: that round one together, which changes no result."""

    kinds: tuple[tuple[MatrixPlace, StoredType], ...]
    weights: int = 0
    threads: int = field(default=1, compare=False)
    places: tuple[Coordinate, ...] = ()

    def applied(self, live: Anatomy) -> AbstractContextManager[None]:
        return rounded_matrices(live, self.kinds, self.threads)


@contextmanager
def rounded_matrices(
    live: Anatomy, kinds: Sequence[tuple[MatrixPlace, StoredType]], threads: int = 1
) -> Iterator[None]:
    """Round matrices for the length of the block, then put the stored bits back.

    The blocks of a type lie along the input dimension, whatever the live parameter's layout; a model in 16 bits rounds
    what the type gives once more, and that is what it computes with. The stored weights wait in the host's memory,
    beside which one matrix at a time is copied. NotApplicable for a matrix that the live model does not have.
    """
    parts = [(part_at(live, where), kind) for where, kind in kinds]
    _refuse_twice(parts)
    stored: list[tuple[Part, torch.Tensor]] = []
    try:
        with torch.no_grad(), ThreadPoolExecutor(threads) as pool:
            for part, kind in parts:
                matrix = extract(part.parameter.data, part.selection).to("cpu", copy=True)
                stored.append((part, matrix))
                place(part.parameter.data, part.selection, torch.from_numpy(rounded(matrix, kind, pool)))
        yield
    finally:
        with torch.no_grad():
            for part, matrix in stored:
                place(part.parameter.data, part.selection, matrix)


def part_at(live: Anatomy, where: MatrixPlace) -> Part:
    """The part of a live model that a matrix is, which can be written to."""
    found = [
        part
        for part in live.parts_of(where.role, where.layer, where.expert, where.component)
        if part.stack == where.stack
    ]
    if len(found) != 1:
        problem = "has no" if not found else "has more than one"
        raise NotApplicable(f"the running model {problem} {where}", where=type(live.model).__name__)
    part = found[0]
    check_editable(part.name, part.parameter.data)
    view = window(part.parameter.data, part.selection)
    height = view.shape[0] if view.ndim == 2 else view.shape[0] * view.shape[1]
    if (height, view.shape[-1]) != where.shape:
        shape = "x".join(map(str, where.shape))
        raise NotApplicable(f"{where} has another shape in the running model than {shape}", where=part.name)
    if view.untyped_storage().data_ptr() != part.parameter.untyped_storage().data_ptr():
        raise NotApplicable(f"{where} lies in memory in a way in which it cannot be set", where=part.name)
    return part


def _refuse_twice(parts: Sequence[tuple[Part, StoredType]]) -> None:
    """Matrices on disk that are one in the live model, as a head tied to its embedding, cannot have two types."""
    seen: dict[tuple, StoredType] = {}
    for part, kind in parts:
        key = (part.parameter.data_ptr(), part.selection)
        if seen.setdefault(key, kind) != kind:
            raise NotApplicable(
                f"two matrices that the recipe gives {seen[key].name} and {kind.name} are one in the running model",
                where=part.name,
            )
