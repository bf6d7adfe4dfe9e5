"""Weights that an ablation of the configuration names, of any role, as coordinates of the live model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import HEADS, Role
from weight_atlas.live.anatomy import BIAS, OUTSIDE, Anatomy, Coordinate
from weight_atlas.live.matrices import matrix_at, part_at, place_of, same_matrix
from weight_atlas.live.parts import Part

OF_THE_MODEL = ("W_E", "W_U")


@dataclass(frozen=True)
class Target:
    """What is changed as one: a weight, or all of a row, a column, a head or a matrix. places: of a head its lines."""

    name: str
    places: tuple[Coordinate, ...]


def target_at(place: Coordinate) -> Target:
    """The target of one coordinate."""
    return Target(str(place), (place,))


def target_of(live: Anatomy, weight: dict[str, Any]) -> Target:
    """The target that an entry of an ablation's `weights` names (settings.ablations.Place).

    Raises AtlasError, with what there is, where the model has no such role, expert, component, row, column or head.
    """
    layer, component = weight.get("layer"), weight.get("component") or ""
    here = [part for part in live.parts if part.stack != "other" and part.layer == layer]
    role = weight.get("role") or _role_in(live, here, component)
    row, col, expert = weight.get("row"), weight.get("col"), weight.get("expert")
    if role in OF_THE_MODEL:
        whole = Coordinate(OUTSIDE, None, None, role=role)
    elif role == Role.W_DOWN:
        projection = live.projection(
            Coordinate(layer if layer is not None else OUTSIDE, row, col, expert, role, component)
        )
        whole = projection.coordinate(None, None, expert)
    else:
        whole = place_of(live, _part(live, here, role, weight))
    place = replace(whole, row=row, col=col)
    if place.vector:
        place = replace(place, col=0)
    _check_inside(live, place, weight)
    head = weight.get("head")
    return target_at(place) if head is None else _head(live, whole, head)


def refuse_overlaps(live: Anatomy, targets: Sequence[Target]) -> None:
    """Raise AtlasError for two targets that share a weight: to scale both would square the factor there."""
    for number, one in enumerate(targets):
        for other in targets[:number]:
            if any(_overlap(live, here, there) for here in one.places for there in other.places):
                tied = {one.places[0].role, other.places[0].role} == {*OF_THE_MODEL}
                raise AtlasError(
                    f"{other.name} and {one.name} share weights",
                    remedy="name one of them" + (": W_E and W_U are one tensor in this model" if tied else ""),
                )


def tied(live: Anatomy, targets: Iterable[Target]) -> bool:
    """Whether some target lies in W_E and W_U at once, so that a change shows in both."""
    embedding, head = live.model.get_input_embeddings(), live.model.get_output_embeddings()
    one = embedding.weight.data_ptr() == head.weight.data_ptr()
    return one and any(target.places[0].role in OF_THE_MODEL for target in targets)


def _overlap(live: Anatomy, one: Coordinate, other: Coordinate) -> bool:
    crossing = all(a is None or b is None or a == b for a, b in ((one.row, other.row), (one.col, other.col)))
    return crossing and same_matrix(live, one, other)


def _name(part: Part) -> str:
    return f"{part.of_role}{BIAS}" if part.of_role else str(part.role)


def _path(live: Anatomy, part: Part) -> str:
    return part.module.removeprefix(f"{live.layers_path}.{part.layer}.")


def _matching(live: Anatomy, parts: Iterable[Part], component: str) -> list[Part]:
    return [part for part in parts if not component or component in (part.component, _path(live, part))]


def _role_in(live: Anatomy, here: Sequence[Part], component: str) -> str:
    """The role of what a component holds: W_down where it holds that, or where none is named."""
    matching = _matching(live, here, component)
    matrices = [part for part in matching if not part.of_role] or matching
    roles = list(dict.fromkeys(map(_name, matrices)))
    if not component or not roles or Role.W_DOWN in roles:
        return str(Role.W_DOWN)
    if len(roles) > 1:
        raise AtlasError(f"{component} holds {', '.join(roles)}", remedy="give the role of one of them beside it")
    return roles[0]


def _part(live: Anatomy, here: Sequence[Part], role: str, weight: dict[str, Any]) -> Part:
    """The one part of a role among those of a layer that an entry means."""
    layer, expert, component = weight.get("layer"), weight.get("expert"), weight.get("component") or ""
    where = "outside of the layers" if layer is None else f"in layer {layer}"
    if not here:
        known = sorted({part.layer for part in live.parts if part.layer is not None and part.stack != "other"})
        raise AtlasError(f"there is no layer {layer}", remedy=f"layers are {known[0]} to {known[-1]}, numbered from 0")
    of_role = [part for part in here if _name(part) == role]
    if not of_role:
        there = ", ".join(dict.fromkeys(map(_name, here)))
        raise AtlasError(f"there is no {role} {where}", where=type(live.model).__name__, remedy=f"there are: {there}")
    of_component = _matching(live, of_role, component)
    if not of_component:
        there = ", ".join(dict.fromkeys(part.component or _path(live, part) for part in of_role))
        raise AtlasError(f"{component!r} is no component of {role} {where}", remedy=f"there are: {there}")
    found = [part for part in of_component if part.expert == expert]
    if len(found) == 1:
        return found[0]
    experts = sorted({part.expert for part in of_component if part.expert is not None})
    if not found:
        few = f"its experts are {experts[0]} to {experts[-1]}" if experts else "there are no experts: leave it out"
        raise AtlasError(f"there is no {role} of expert {expert} {where}", remedy=few)
    there = ", ".join(dict.fromkeys(part.component or _path(live, part) for part in found))
    raise AtlasError(f"there are {len(found)} of {role} {where}", remedy=f"give the component: {there}")


def _check_inside(live: Anatomy, place: Coordinate, weight: dict[str, Any]) -> None:
    rows, cols = _shape(live, place)
    if (place.row or 0) < rows and (place.col or 0) < cols and not (place.vector and (weight.get("col") or 0) > 0):
        return
    if place.vector:
        raise AtlasError(f"{place} lies outside", remedy=f"it has {rows} entries, numbered from 0: give the row alone")
    experts = live.projection(place).n_experts if place.role == "W_down" else None
    size = f"{rows} rows and {cols} columns" + ("" if experts is None else f" in each of {experts} experts")
    raise AtlasError(
        f"{place} lies outside its matrix",
        remedy=f"it has {size}, numbered from 0; row is the output channel, col the input (of W_down the neuron)",
    )


def _shape(live: Anatomy, place: Coordinate) -> tuple[int, int]:
    if place.role in OF_THE_MODEL:
        rows, cols = matrix_at(live, place).shape
        return rows, cols
    return part_at(live, place).shape


def _head(live: Anatomy, whole: Coordinate, head: int) -> Target:
    """The rows of an attention head, of W_O its columns."""
    width = None if whole.role in OF_THE_MODEL else part_at(live, whole).head_dim
    if not width:
        raise AtlasError(f"{whole.role} has no heads", remedy=f"heads are of {', '.join(HEADS)}")
    rows, cols = _shape(live, whole)
    by_columns = whole.role == Role.W_O
    count = (cols if by_columns else rows) // width
    if head >= count:
        raise AtlasError(f"{_title(whole)} has no head {head}", remedy=f"it has {count}, numbered from 0")
    lines = range(head * width, (head + 1) * width)
    places = tuple(replace(whole, col=line) if by_columns else replace(whole, row=line) for line in lines)
    if whole.vector:
        places = tuple(replace(place, col=0) for place in places)
    return Target(f"{_title(whole)} head {head}", places)


def _title(place: Coordinate) -> str:
    return str(place).rpartition(" [")[0]
