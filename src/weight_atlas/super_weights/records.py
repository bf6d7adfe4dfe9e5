"""The record of one super weight, as tables and the artifact hold it."""

import pandas as pd

from weight_atlas.live.anatomy import Anatomy, Coordinate

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


def outlier_record(live: Anatomy, place: Coordinate, weight: float, inventory: pd.DataFrame | None = None) -> dict:
    """The record of a weight that was found by the screening alone."""
    record = record_of(live, place, weight, None, None, inventory)
    return {**record, "found_by": ["screening"]}
