"""When super weights arise in a training run: from what was detected and verified in each checkpoint."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

PLACE = ["layer", "component", "expert", "row", "column"]
# Of a verified weight whose removal does nothing: no super weight, unless it was detected as one.
INERT = "inert"
COLUMNS = {
    "layer": "Int64", "component": "str", "expert": "Int64", "row": "Int64", "column": "Int64",
    "first_checkpoint": "str", "first_step": "Int64", "last_checkpoint": "str", "last_step": "Int64",
    "found": "int64", "searched": "int64", "first_weight": "float64", "last_weight": "float64",
    "last_ratio": "float64", "last_verdict": "str",
}  # fmt: skip


def arisen(
    detected: Sequence[pd.DataFrame | None],
    verified: Sequence[pd.DataFrame | None],
    checkpoints: Sequence[str],
    steps: Sequence[int],
) -> pd.DataFrame:
    """One row a weight that is a super weight of some checkpoint, detected or verified: where first, where last.

    detected: the tables of super_weights, verified: of super_weight_verification, of each checkpoint in order; None
    where that was not made, or found not to apply. found: in how many checkpoints, of those that were
    searched. A checkpoint in
    which a weight was not found may hold it all the same, below the bounds of the detection. ratio, verdict: of the
    last checkpoint that verified it. Ordered by the first find.
    """
    searched = sum(table is not None for table in detected)
    found: dict[tuple, dict[str, Any]] = {}
    for number, tables in enumerate(zip(detected, verified, strict=True)):
        at = {"checkpoint": checkpoints[number], "step": steps[number] if steps else None}
        weights = {_place(row): row["original_value"] for row in _rows(tables[0], {"expert_id": "expert"})}
        judged = {_place(row): {"ratio": row["ratio"], "verdict": row["verdict"]} for row in _rows(tables[1], {})}
        there = {place: judged.get(place, {}) for place in weights}
        there |= {place: each for place, each in judged.items() if place in there or each["verdict"] != INERT}
        for place, verdict in there.items():
            now = {**at, "weight": weights.get(place)}
            new = {**dict(zip(PLACE, place, strict=True)), "found": 0, "searched": searched}
            row = found.setdefault(place, new | {f"first_{key}": value for key, value in now.items()})
            row |= {f"last_{key}": value for key, value in {**now, **verdict}.items()}
            row["found"] += 1
    return pd.DataFrame(list(found.values()), columns=list(COLUMNS)).astype(COLUMNS)


def _rows(table: pd.DataFrame | None, renamed: dict[str, str]) -> list[dict[str, Any]]:
    return [] if table is None else table.rename(columns=renamed).to_dict("records")


def _place(row: dict[str, Any]) -> tuple:
    """Where a weight is, in plain values."""
    return tuple(_plain(row.get(key)) for key in PLACE)


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and np.isnan(value)):
        return None
    return value if isinstance(value, str) else int(value)
