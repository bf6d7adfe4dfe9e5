"""The JSON artifact of the detected super weights: what a record says, and the places that are read from it."""

from collections.abc import Sequence

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import part_at

# Of the artifact: another number, other keys.
SCHEMA = 2


def artifact(
    model: str, records: list[dict], published: list[dict], settings: dict, findings: Sequence[dict] = (),
    unattributed: Sequence[dict] = (),
) -> dict:  # fmt: skip
    """The JSON artifact.

    Schema number, verdict, settings, super weights, results of the published procedure, and massive activations without
    a weight (see detection.unattributed).
    """
    return {
        "schema": SCHEMA,
        "model": model,
        "verdict": "found" if records else "none found",
        "settings": settings,
        "findings": list(findings),
        "super_weights": records,
        "published_procedure": published,
        "unattributed": list(unattributed),
    }


def coordinates_of(artifact: dict, where: object) -> list[Coordinate]:
    """The coordinates that an artifact lists; an AtlasError for another schema."""
    if artifact.get("schema") != SCHEMA:
        raise AtlasError(
            f"super weights of schema {artifact.get('schema')}, expected {SCHEMA}", where=where, remedy="make it again"
        )
    return [coordinate_of(record) for record in artifact["super_weights"]]


def coordinate_of(record: dict) -> Coordinate:
    """The coordinate of one record of an artifact."""
    place = record["layer"], record["row"], record["column"], record["expert_id"]
    return Coordinate(*place, component=record["component"])


COLUMNS = (
    "layer", "row", "column", "component", "tensor", "expert_id", "input_value", "output_value", "iteration_found",
    "magnitude_product", "original_value", "rho", "share", "contribution", "participation_ratio", "mlp_share",
    "residual_value", "residual_ratio", "persistence", "prompt", "token_index", "token", "tokens", "found_by",
    "found_in_modified_model", "is_shared_expert", "p_active", "routed_tokens_count", "co_spike_score",
    "impact_natural", "impact_interventional",
)  # fmt: skip


def record_of(
    live: Anatomy, place: Coordinate, weight: float, x: float | None, y: float | None, inventory: pd.DataFrame | None
) -> dict:
    """The fields that published tools have too; all others empty."""
    return {
        **dict.fromkeys(COLUMNS),
        "layer": place.layer,
        "row": place.row,
        "column": place.col,
        "component": place.component,
        "tensor": name_on_disk(live, place, inventory),
        "expert_id": place.expert,
        "input_value": x,
        "output_value": y,
        "magnitude_product": None if x is None or y is None else abs(x * y),
        "original_value": weight,
        "is_shared_expert": live.projection(place).shared_expert,
    }


def name_on_disk(live: Anatomy, coordinate: Coordinate, inventory: pd.DataFrame | None) -> str:
    """The checkpoint's name of the tensor of a W_down coordinate; the live one where it is the same or unknown."""
    projection = live.projection(coordinate)
    if inventory is None:
        return projection.parameter_name
    here = inventory[(inventory.role == "W_down") & (inventory.layer == coordinate.layer)]
    same = here[here.tensor == projection.parameter_name]
    if len(same) and coordinate.expert is None:
        return projection.parameter_name
    expert = here.expert.isna() if coordinate.expert is None else here.expert == coordinate.expert
    shared = here.component.str.contains("shared") == projection.shared_expert
    names = here[expert & shared].tensor.unique()
    return str(names[0]) if len(names) == 1 else projection.parameter_name


def tried_record(live: Anatomy, place: Coordinate, weight: float, found_by: str) -> dict:
    """The record of a weight of any matrix that was found by trying it; found_by: what promised it would matter."""
    if place.role == "W_down":
        return {**record_of(live, place, weight, None, None, None), "found_by": [found_by]}
    name = place.role if place.outside and place.role in ("W_E", "W_U") else part_at(live, place).name
    return {
        **dict.fromkeys(COLUMNS),
        "layer": place.layer,
        "row": place.row,
        "column": place.col,
        "component": place.component,
        "tensor": name,
        "expert_id": place.expert,
        "original_value": weight,
        "is_shared_expert": False,
        "found_by": [found_by],
    }
