"""Findings and super weights as marks on the map: which cells they are about."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import read_table
from weight_atlas.metrics import table_of

# A coordinate as verification states it: layer, role, the module's path below the layer.
_STATED = re.compile(r"layer (?P<layer>\d+) (?P<role>\S+) (?P<module>[\w.]+) \[", re.IGNORECASE)


def marks_of(
    grids: list[dict[str, Any]], findings: list[dict[str, Any]], stars: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The cells that findings name, with the numbers of the findings: {cell, grade, findings}, the gravest grade.

    stars: super weights, which findings name by layer, row and column. Others of their kind are named by layer, role
    and module. Places that are not on the map have no mark.
    """
    if not grids:
        return []
    cells = {name: number for number, name in enumerate(grids[0]["cells"]["id"])}
    cells |= {f"Layer {each['layer']} [{each['row']}, {each['column']}]": each["cell"] for each in stars}
    found: dict[int, dict[str, Any]] = {}
    for number, finding in enumerate(findings):  # the gravest first
        for place in finding["places"]:
            if (cell := cells.get(place, _of_module(place, cells))) is not None:
                mark = found.setdefault(cell, {"cell": cell, "grade": finding["grade"], "findings": []})
                if number not in mark["findings"]:
                    mark["findings"].append(number)
    return list(found.values())


def _of_module(place: str, cells: dict[str, int]) -> int | None:
    """The cell of the one tensor that belongs to the module of a place."""
    if (stated := _STATED.match(place)) is None:
        return None
    kind = "bias" if stated["role"].endswith("bias") else "weight"
    end = f".{stated['layer']}.{stated['module']}.{kind}"
    found = [cell for name, cell in cells.items() if name.endswith(end)]
    return found[0] if len(found) == 1 else None


def super_weight_marks(
    grids: list[dict[str, Any]], tables: dict[str, pd.DataFrame], inventory: Path | None
) -> list[dict[str, Any]]:
    """The detected super weights by their cells: {cell, layer, row, column, weight}."""
    table = next((table for file, table in tables.items() if _is_detection(file, table)), None)
    if table is None or not grids or inventory is None:
        return []
    tensors = read_table(inventory)
    cells = {name: number for number, name in enumerate(grids[0]["cells"]["id"])}
    found = []
    for each in table.to_dict("records"):
        same = tensors[tensors["tensor"] == each["tensor"]]
        expert = each.get("expert_id")
        if expert is not None and not pd.isna(expert) and same["expert"].notna().any():
            same = same[same["expert"] == expert]
        named = [name for name in same["id"] if name in cells]
        if named:
            place = {"row": int(each["row"]), "column": int(each["column"]), "weight": float(each["original_value"])}
            found.append({"cell": cells[named[-1]], "layer": int(each["layer"]), **place})
    return found


def _is_detection(file: str, table: pd.DataFrame) -> bool:
    known = table_of(file)
    return known is not None and known.name == "super_weights" and {"tensor", "original_value"} <= set(table.columns)
