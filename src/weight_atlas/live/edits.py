"""Reversible edits of live weights, restored bit for bit.

Every intervention of this library on a model goes through `edited`: coordinates are logical (see live.anatomy), edits
nest, and what was stored before returns when the block is left, whether by its end or by an exception.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.parts import EDITABLE, Part


@dataclass(frozen=True)
class Edit:
    """Multiply the weights at a coordinate by `factor`, then add `offset`.

    The first edit of a block reads the stored weights; a later one reads what the earlier left.
    """

    coordinate: Coordinate
    factor: float = 1.0
    offset: float = 0.0


def zero(coordinate: Coordinate) -> Edit:
    """Set the weights at a coordinate to zero; a row or col of None takes a whole neuron or output channel."""
    return Edit(coordinate, factor=0.0)


def set_to(coordinate: Coordinate, value: float) -> Edit:
    """Set the weights at a coordinate to a value (in the weights' own type)."""
    return Edit(coordinate, factor=0.0, offset=value)


def scale(coordinate: Coordinate, factor: float) -> Edit:
    """Multiply the weights at a coordinate by a factor."""
    return Edit(coordinate, factor=factor)


@contextmanager
def edited(live: Anatomy, edits: Iterable[Edit]) -> Iterator[None]:
    """Apply edits to a live model while the block lasts, then put the stored bits back.

    A tied tensor is one tensor: an edit shows under all of its names. Raises AtlasError, with nothing changed, for a
    coordinate that the model does not have, for weights that cannot be set (quantized, or offloaded from memory), and
    for values beyond the range of their type.
    """
    with ExitStack() as restoring, torch.no_grad():
        for edit in edits:
            target = _target(live, edit.coordinate)
            stored = target.clone()
            restoring.callback(_restore, target, stored)
            if edit.factor == 0.0:
                # A product would keep NaN, infinities and the sign of zero.
                target.fill_(edit.offset)
            else:
                target.mul_(edit.factor).add_(edit.offset)
            if math.isfinite(edit.offset + edit.factor) and target.isinf().any() and not stored.isinf().any():
                raise AtlasError(f"an edit of {edit.coordinate} leaves the range of {target.dtype}")
        yield


def value_at(live: Anatomy, coordinate: Coordinate) -> float:
    """The stored value of one weight."""
    return _target(live, coordinate).item()


def change_of(live: Anatomy, edit: Edit) -> float:
    """w' - w of an edit of one weight w, in the precision of its type."""
    target = _target(live, edit.coordinate)
    return float(target.new_tensor(target.item() * edit.factor + edit.offset)) - float(target)


def _restore(target: torch.Tensor, stored: torch.Tensor) -> None:
    with torch.no_grad():
        target.copy_(stored)


def _target(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """The view of the weights at a coordinate: a scalar, a row, a column or a matrix."""
    matrix = matrix_at(live, coordinate)
    if matrix.device.type == "meta":
        raise AtlasError(
            f"the weights at {coordinate} are offloaded from memory and cannot be edited",
            remedy="give the step more GPUs, or memory for the whole model",
        )
    if matrix.dtype not in EDITABLE:
        raise NotApplicable(
            f"the weights at {coordinate} are quantized ({matrix.dtype}) and cannot be edited one by one",
            remedy="take the model's unquantized checkpoint",
        )
    rows, cols = matrix.shape
    for name, index, size in (("row", coordinate.row, rows), ("col", coordinate.col, cols)):
        if index is not None and not 0 <= index < size:
            raise AtlasError(f"{name} {index} of {coordinate} lies outside the matrix of {rows} x {cols}")
    row = slice(None) if coordinate.row is None else coordinate.row
    col = slice(None) if coordinate.col is None else coordinate.col
    return matrix[row, col]


_MLP = (Role.W_DOWN, Role.W_GATE, Role.W_UP)


def matrix_at(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """The logical (out, in) view of the matrix that a coordinate lies in, sharing the live model's memory.

    Roles: W_down, W_gate, W_up of a layer's MLP or expert; every other role of a matrix of the layer, such as W_Q, W_K,
    W_V, W_O, W_router; W_E and W_U, (vocabulary, d_model), of the model, whose layer is not read. Raises AtlasError for
    a role that the layer does not have, and for one whose rows lie among others in a fused matrix.
    """
    match coordinate.role:
        case "W_E":
            return live.model.get_input_embeddings().weight.data
        case "W_U":
            return live.model.get_output_embeddings().weight.data
        case role if role in _MLP:
            return _of_mlp(live.projection(coordinate), coordinate)
    found = live.parts_of(coordinate.role, coordinate.layer, coordinate.expert, None)
    found = [part for part in found if _lies_in(live, part, coordinate)]
    if len(found) == 1:
        return found[0].view()
    problem = "no matrix" if not found else "more than one matrix"
    components = ", ".join(sorted({part.component or part.module for part in found}))
    raise AtlasError(
        f"{problem} of role {coordinate.role} at {coordinate}",
        where=type(live.model).__name__,
        remedy=f"name one of the components {components}" if found else None,
    )


def _of_mlp(projection: Projection, coordinate: Coordinate) -> torch.Tensor:
    if projection.stacked and (coordinate.expert is None or not 0 <= coordinate.expert < len(projection.parts)):
        raise AtlasError(f"{coordinate}: {projection.name} has {len(projection.parts)} experts, numbered from 0")
    part = projection.part(Role(coordinate.role), coordinate.expert if projection.stacked else None)
    if part is None:
        raise AtlasError(f"no matrix of role {coordinate.role} at {coordinate}", where=projection.name)
    return part.view()


def _lies_in(live: Anatomy, part: Part, coordinate: Coordinate) -> bool:
    """Whether a coordinate's component is a part's: the table's name for it, or the module's path below its layer."""
    path = part.module.removeprefix(f"{live.layers_path}.{part.layer}.")
    return coordinate.component in (part.component, path)
