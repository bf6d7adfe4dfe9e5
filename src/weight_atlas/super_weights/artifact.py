"""The artifact that says which weights are super weights, and how it is read back."""

from pathlib import Path

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.lm.anatomy import Coordinate

SCHEMA = 1
COLUMNS = (
    "layer", "row", "column", "component", "tensor", "expert_id", "input_value", "output_value", "iteration_found",
    "magnitude_product", "original_value", "rho", "token_index", "found_in_modified_model",
)  # fmt: skip


def published_records(spikes: pd.DataFrame) -> list[dict]:
    """The accepted rows of the published detection as records, in order of detection."""
    return [
        {
            "layer": row.layer,
            "row": row.row,
            "column": row.col,
            "component": row.component,
            "tensor": row.tensor,
            "expert_id": None if pd.isna(row.expert) else int(row.expert),
            "input_value": row.input_value,
            "output_value": row.output_value,
            "iteration_found": row.iteration,
            "magnitude_product": abs(row.input_value * row.output_value),
            "original_value": row.weight,
            "rho": row.rho,
            "token_index": row.token,
            "found_in_modified_model": row.iteration > 1,
        }
        for row in spikes[spikes.accepted].itertuples()
    ]


def artifact(model: str, records: list[dict], settings: dict) -> dict:
    """The JSON artifact: schema number, verdict, settings and one record per super weight."""
    return {
        "schema": SCHEMA,
        "model": model,
        "verdict": "found" if records else "none found",
        "settings": settings,
        "super_weights": records,
    }


def coordinates_of(artifact: dict, where: Path) -> list[Coordinate]:
    """The coordinates that an artifact lists; an AtlasError for another schema."""
    if artifact.get("schema") != SCHEMA:
        raise AtlasError(
            f"super weights of schema {artifact.get('schema')}, expected {SCHEMA}", where=where, remedy="make it again"
        )
    return [
        Coordinate(record["layer"], record["row"], record["column"], record["expert_id"], component=record["component"])
        for record in artifact["super_weights"]
    ]
