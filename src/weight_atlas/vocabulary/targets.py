"""The target weights of interventions: detected and configured ones."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.pieces import load_piece
from weight_atlas.vocabulary.down_projections import down_projections, of_component

SCHEMA = 1


def find_targets(
    checkpoint: Checkpoint,
    inventory: pd.DataFrame,
    detected: Iterable[dict[str, Any]] = (),
    coordinates: Sequence[Sequence[int]] = (),
    *,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Targets as records: layer, expert, row, col, component, tensor, original_value, source; each weight once.

    detected: records of super weights, in the order of detection. coordinates: [layer, row, col] or [layer, expert,
    row, col]. most: of the detected ones. Raises AtlasError for a weight that the model does not have.
    """
    wanted = [
        (r["layer"], r.get("expert_id"), r["row"], r["column"], r.get("component") or "", "detected")
        for r in list(detected)[:most]
    ]
    for given in coordinates:
        if len(given) not in (3, 4):
            raise AtlasError(
                f"{list(given)} is no weight", remedy="give [layer, row, col] or [layer, expert, row, col]"
            )
        wanted.append((given[0], given[1] if len(given) == 4 else None, given[-2], given[-1], "", "configured"))
    projections = down_projections(inventory)
    targets: dict[tuple, dict[str, Any]] = {}
    for layer, expert, row, col, component, source in wanted:
        place = _projection(projections, layer, expert, component)
        if not (0 <= row < place.rows and 0 <= col < place.cols):
            raise AtlasError(
                f"[{row}, {col}] lies outside {place.id}, which is {place.rows} x {place.cols}",
                remedy="coordinates are [row, col] of the logical (out, in) matrix: output channel, then neuron",
            )
        record = {"layer": layer, "expert": expert, "row": row, "col": col, "component": component}
        record |= {"tensor": place.id, "source": source}
        targets.setdefault((place.id, row, col), record)
    matrices: dict[str, Any] = {}
    for record in targets.values():
        if record["tensor"] not in matrices:
            place = next(row for row in projections.itertuples() if row.id == record["tensor"])
            matrices = {record["tensor"]: load_piece(checkpoint, place)}
        record["original_value"] = float(matrices[record["tensor"]][record["row"], record["col"]])
    return list(targets.values())


def target_name(target: dict[str, Any]) -> str:
    """A target's name for files: tensor, layer, row and column."""
    tensor = target["tensor"].replace("/", "_").replace("#", "-")
    return f"{tensor}-L{target['layer']}-R{target['row']}-C{target['col']}"


def edit_title(target: dict[str, Any], factor: float, model: str) -> str:
    """Title of an edit: model, weight, and whether it is removed or scaled."""
    return f"{model}, {target_title(target)} {'removed' if factor == 0 else f'times {factor:g}'}"


def target_title(target: dict[str, Any]) -> str:
    """A target's name for legends."""
    expert = "" if target["expert"] is None else f" expert {target['expert']}"
    return f"layer {target['layer']}{expert} [{target['row']}, {target['col']}]"


def _projection(projections: pd.DataFrame, layer: int, expert: int | None, component: str) -> Any:
    here = projections.layer == layer
    here &= projections.expert.isna() if expert is None else (projections.expert == expert).fillna(False)
    found = of_component(projections[here], component)
    if len(found) != 1:
        place = f"layer {layer}" + ("" if expert is None else f" expert {expert}")
        raise AtlasError(f"the model has no MLP output projection at {place}", remedy="layers and experts count from 0")
    return next(found.itertuples())
