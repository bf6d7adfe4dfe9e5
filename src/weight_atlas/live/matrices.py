"""Logical views of live weights by role."""

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import BIAS, OUTSIDE, Anatomy, Coordinate, Projection
from weight_atlas.live.parts import Part

MLP = (Role.W_DOWN, Role.W_GATE, Role.W_UP)


def matrix_at(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """The logical (out, in) view of the matrix that a coordinate lies in, sharing the live model's memory.

    A bias or the gains of a norm are a column, (n, 1). Raises AtlasError for a role that the layer does not have, and
    for one whose rows lie among others in a fused matrix: see values_at and slice_at.
    """
    if (embedding := _of_model(live, coordinate)) is not None:
        return embedding
    view = part_at(live, coordinate).view()
    return view[:, None] if view.ndim == 1 else view


def values_at(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """The values of the matrix that a coordinate of any role lies in, (out, in), to be read; a vector is a column."""
    if (embedding := _of_model(live, coordinate)) is not None:
        return embedding
    values = part_at(live, coordinate).values()
    return values[:, None] if values.ndim == 1 else values


def slice_at(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """A view of the weights at a coordinate of any role, to be edited: one of them, a row, a column or all.

    Raises AtlasError for a row or column that the matrix does not have.
    """
    embedding = _of_model(live, coordinate)
    if embedding is not None:
        _check_inside(coordinate, tuple(embedding.shape))
        row = slice(None) if coordinate.row is None else coordinate.row
        return embedding[row, slice(None) if coordinate.col is None else coordinate.col]
    part = part_at(live, coordinate)
    _check_inside(coordinate, part.shape)
    return part.at(coordinate.row, coordinate.col)


def _check_inside(coordinate: Coordinate, shape: tuple[int, ...]) -> None:
    rows, cols = shape
    for name, index, size in (("row", coordinate.row, rows), ("col", coordinate.col, cols)):
        if index is not None and not 0 <= index < size:
            raise AtlasError(f"{name} {index} of {coordinate} lies outside the matrix of {rows} x {cols}")


def place_of(live: Anatomy, part: Part) -> Coordinate:
    """The coordinate of all of a part, by which it is found again."""
    if part.role in MLP and part.layer is not None:
        for projection in live.projections:
            if projection.layer == part.layer and projection.part(part.role, part.expert) is part:
                return Coordinate(part.layer, None, None, part.expert, str(part.role), projection.component)
    path = part.module.removeprefix(f"{live.layers_path}.{part.layer}.")
    role = f"{part.of_role}{BIAS}" if part.of_role else str(part.role)
    return Coordinate(OUTSIDE if part.layer is None else part.layer, None, None, part.expert, role, path)


def same_matrix(live: Anatomy, one: Coordinate, other: Coordinate) -> bool:
    """Whether two coordinates lie in the same memory, however they are written and whatever is tied."""
    return _identity(live, one) == _identity(live, other)


def _identity(live: Anatomy, coordinate: Coordinate) -> tuple[int, str]:
    if (embedding := _of_model(live, coordinate)) is not None:
        return embedding.data_ptr(), ""
    part = part_at(live, coordinate)
    return part.parameter.data_ptr(), part.selection.encode()


def _of_model(live: Anatomy, coordinate: Coordinate) -> torch.Tensor | None:
    """The matrix of a role that the model has once, whatever layer the coordinate gives."""
    match coordinate.role:
        case "W_E":
            return live.model.get_input_embeddings().weight.data
        case "W_U":
            return live.model.get_output_embeddings().weight.data
    return None


def part_at(live: Anatomy, coordinate: Coordinate) -> Part:
    """The part of a live model that a coordinate lies in; AtlasError where there is none, or more than one.

    Roles: W_down, W_gate, W_up of a layer's MLP or expert; every other role of a layer, such as W_Q, W_O, W_router,
    norm, and `W_Q.bias` for the bias of W_Q; by the layer OUTSIDE what belongs to no layer.
    """
    if coordinate.role in MLP:
        return _of_mlp(live.projection(coordinate), coordinate)
    role, of_role = coordinate.role, None
    if role.endswith(BIAS):
        role, of_role = Role.BIAS, role.removesuffix(BIAS)
    layer = None if coordinate.outside else coordinate.layer
    found = [
        part
        for part in live.parts_of(role, layer, coordinate.expert, None)
        if _lies_in(live, part, coordinate) and (of_role is None or part.of_role == of_role)
    ]
    if len(found) == 1:
        return found[0]
    problem = "no matrix" if not found else "more than one matrix"
    components = ", ".join(sorted({part.component or part.module for part in found}))
    raise AtlasError(
        f"{problem} of role {coordinate.role} at {coordinate}",
        where=type(live.model).__name__,
        remedy=f"name one of the components {components}" if found else None,
    )


def _of_mlp(projection: Projection, coordinate: Coordinate) -> Part:
    if projection.stacked and (coordinate.expert is None or not 0 <= coordinate.expert < len(projection.parts)):
        raise AtlasError(f"{coordinate}: {projection.name} has {len(projection.parts)} experts, numbered from 0")
    part = projection.part(Role(coordinate.role), coordinate.expert if projection.stacked else None)
    if part is None:
        raise AtlasError(f"no matrix of role {coordinate.role} at {coordinate}", where=projection.name)
    return part


def _lies_in(live: Anatomy, part: Part, coordinate: Coordinate) -> bool:
    """Whether a coordinate's component is a part's: the table's name for it, or the module's path below its layer."""
    path = part.module.removeprefix(f"{live.layers_path}.{part.layer}.")
    return coordinate.component in (part.component, path)
