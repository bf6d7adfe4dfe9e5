"""Logical views of live weights by role."""

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.parts import Part

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
