"""The course of scalars over the checkpoints of a series: change, monotony, and what wandering would give."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

PLACE = ["metric", "stack", "role", "of"]


def course(scalars: Sequence[pd.DataFrame], checkpoints: Sequence[str], steps: Sequence[int]) -> pd.DataFrame:
    """The scalars of all checkpoints under each other, with number (from 0), checkpoint and step (missing if unknown).

    scalars: a table of scalars.scalars for each checkpoint, in order; steps: [] where they are not known.
    """
    parts = [
        table.assign(number=number, checkpoint=name, step=steps[number] if steps else pd.NA)
        for number, (table, name) in enumerate(zip(scalars, checkpoints, strict=True))
    ]
    whole = pd.concat(parts, ignore_index=True).astype({"number": "int64", "step": "Int64"})
    return whole[
        ["number", "checkpoint", "step", *(name for name in whole if name not in ("number", "checkpoint", "step"))]
    ]


def trends(table: pd.DataFrame) -> pd.DataFrame:
    """One row a scalar of course(): first and last value, change, tau, steadiness with its null, sharpest change.

    Over the n checkpoints that have a finite value v. tau: share of pairs of checkpoints in which v rises, minus the
    share in which it falls (Kendall, 1938, ties as 0). steadiness: |sum of d| / sum of |d| of the changes d between
    neighbours: 1 where all go one way. steadiness_null: sqrt(2 / pi * sum of d^2) / sum of |d|, about what changes of
    these sizes with random signs give. sharpest_at: the checkpoint at the end of the largest |d|. Missing: tau of one
    checkpoint, steadiness without a change.
    """
    if table.empty:
        return pd.DataFrame(columns=[*PLACE, *_COLUMNS])
    number = table["number"].max() + 1
    names = table.drop_duplicates("number").set_index("number")["checkpoint"].reindex(range(number))
    groups = table.groupby(PLACE, sort=False).ngroup()
    values, nulls = (np.full((groups.max() + 1, number), np.nan) for _ in range(2))
    values[groups, table["number"]], nulls[groups, table["number"]] = table["value"], table["null"]
    rows = [_trend(*row, names.tolist()) for row in zip(values, nulls, strict=True)]
    first = table[PLACE].drop_duplicates().reset_index(drop=True)
    return pd.concat([first, pd.DataFrame(rows, columns=list(_COLUMNS))], axis=1).astype({"checkpoints": "int64"})


_COLUMNS = (
    "checkpoints", "first", "last", "change", "relative_change", "null_last", "tau", "steadiness", "steadiness_null",
    "sharpest", "sharpest_at",
)  # fmt: skip


def _trend(values: np.ndarray, nulls: np.ndarray, names: Sequence[str]) -> dict[str, object]:
    there = np.flatnonzero(np.isfinite(values))
    if not len(there):
        return {"checkpoints": 0}
    found = values[there]
    changes = np.diff(found)
    row: dict[str, object] = {"checkpoints": len(found), "first": found[0], "last": found[-1]}
    row |= {"change": found[-1] - found[0], "null_last": nulls[there[-1]]}
    row["relative_change"] = row["change"] / abs(found[0]) if found[0] else math.nan
    if len(found) > 1:
        signs = np.sign(found[None, :] - found[:, None])[np.triu_indices(len(found), 1)]
        at = int(np.abs(changes).argmax())
        row |= {"tau": signs.mean(), "sharpest": changes[at], "sharpest_at": names[there[at + 1]]}
        if path := float(np.abs(changes).sum()):
            row |= {
                "steadiness": abs(changes.sum()) / path,
                "steadiness_null": math.sqrt(2 / math.pi * float(np.square(changes).sum())) / path,
            }
    return row
