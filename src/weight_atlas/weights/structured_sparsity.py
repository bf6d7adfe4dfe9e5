"""Structure among the zeros and rows of matrices: dead units, 2:4 patterns, repeated and near-parallel rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.weights.near_rows import cost, near_rows
from weight_atlas.weights.profile_table import by_head
from weight_atlas.weights.row_classes import Rows, repeated_rows, row_classes
from weight_atlas.weights.untrained_rows import expected_near_pairs

PARALLEL = 0.99
FEW_PAIRS = 0.01  # near-parallel rows are looked for where fewer are expected among Gaussian rows
# Of four normal numbers, the share of the sum of squares in the two largest, by their order statistics.
TWO_FOUR_NULL = 0.8675525969
_TOGETHER = 1 << 17  # elements at a time
_REPEATS = ("identical", "opposite", "scaled")


def dead_units(profiles: Iterable[Any]) -> pd.DataFrame:
    """A row a matrix: id, all_zero, and how many of its rows, columns and heads hold nothing but zeros.

    profiles: of read_part_rows. The last are missing for matrices without heads.
    """
    rows = []
    for matrix in profiles:
        heads = by_head(matrix)
        dead = int((heads["absmax"] + heads["not_finite"] == 0).sum()) if len(heads) else pd.NA
        rows.append(
            {
                "id": matrix.id,
                "all_zero": bool(matrix.rows and matrix.cols and (matrix.row_zeros == matrix.cols).all()),
                "dead_rows": int((matrix.row_zeros == matrix.cols).sum()) if matrix.cols else 0,
                "dead_cols": int((matrix.col_zeros == matrix.rows).sum()) if matrix.rows else 0,
                "dead_heads": dead,
            }
        )
    columns = ["id", "all_zero", "dead_rows", "dead_cols", "dead_heads"]
    return pd.DataFrame(rows, columns=columns).astype({"dead_heads": "Int64"})


def near_methods(matrices: pd.DataFrame, budget: float) -> dict[str, str]:
    """Why near-parallel rows are not looked for in a matrix, or "", by the matrix's id.

    matrices: rows of the inventory. budget: multiplications that may be spent on them, of all matrices together in
    their order; those beyond it are off.
    """
    methods = {}
    for row in matrices.itertuples(index=False):
        count, columns = int(row.rows), int(row.cols)
        needed = cost(count, columns)
        method = "off: few columns" if expected_near_pairs(count, columns, PARALLEL) > FEW_PAIRS else ""
        methods[row.id] = method or ("off: beyond the budget" if needed > budget else "")
        budget -= 0 if methods[row.id] else needed
    return methods


def structure(matrices: pd.DataFrame, load: Callable[[Any], Any], methods: Mapping[str, str]) -> pd.DataFrame:
    """A row a matrix: two_four_share, two_four_energy with its null, rows_identical, rows_opposite, rows_scaled,
    rows_near, near_method and near_recall.

    matrices: rows of the inventory. load: gives a tensor (rows, cols) by its row. methods: of near_methods.
    """
    found = []
    for row in matrices.itertuples(index=False):
        tensor = load(row)

        def rows(start: int, end: int, tensor: Any = tensor) -> np.ndarray:
            return tensor[start:end].double().numpy()

        count, columns = tensor.shape
        repeats = repeated_rows(row_classes(rows, count, columns))["how"] if columns > 1 else pd.Series(dtype=object)
        near: dict[str, Any] = {"rows_near": pd.NA, "near_method": methods[row.id], "near_recall": np.nan}
        if not methods[row.id]:
            parallel = near_rows(rows, count, columns, PARALLEL)
            near = {"rows_near": int((parallel.partner >= 0).sum()), "near_method": parallel.method}
            near["near_recall"] = parallel.recall
        same = {f"rows_{how}": int((repeats == how).sum()) for how in _REPEATS}
        found.append({"id": row.id, **two_four(rows, count, columns), **same, **near})
    names = ["id", "two_four_share", "two_four_energy", "two_four_energy_null", *(f"rows_{how}" for how in _REPEATS)]
    return pd.DataFrame(found, columns=[*names, "rows_near", "near_method", "near_recall"]).astype(
        {"rows_near": "Int64"}
    )


def with_structure(tensors: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The table of tensors with what was found of the matrices among them; missing for vectors."""
    counts = [name for name in found if name.startswith(("dead_", "rows_"))]
    types = dict.fromkeys(counts, "Int64") | {"all_zero": "boolean"}
    return tensors.merge(found.astype(types), on="id", how="left")


def two_four(rows: Rows, count: int, columns: int) -> dict[str, float]:
    """Groups of four inputs of one output: the share with two zeros or more, and the energy that the best mask keeps.

    Inputs beyond the last whole group are left out; elements that are not finite count as 0.
    """
    groups, compliant, kept, total = 0, 0, 0.0, 0.0
    whole, step = columns - columns % 4, max(1, _TOGETHER // max(1, columns))
    for start in range(0, count if whole else 0, step):
        x = np.abs(np.nan_to_num(rows(start, min(start + step, count))[:, :whole], nan=0.0, posinf=0.0, neginf=0.0))
        a, b, c, d = x.reshape(-1, 4).T
        groups += len(a)
        compliant += int(((a == 0).astype(np.int8) + (b == 0) + (c == 0) + (d == 0) >= 2).sum())
        first, second = np.maximum(a, b), np.maximum(c, d)
        largest = np.maximum(first, second)
        next_one = np.maximum(np.minimum(first, second), np.maximum(np.minimum(a, b), np.minimum(c, d)))
        kept += float((largest**2 + next_one**2).sum())
        total += float((x**2).sum())
    return {
        "two_four_share": compliant / groups if groups else float("nan"),
        "two_four_energy": kept / total if total > 0 else float("nan"),
        "two_four_energy_null": TWO_FOUR_NULL,
    }


def dead_experts(table: pd.DataFrame) -> pd.DataFrame:
    """A row a layer with experts: stack, layer, experts, all_zero (how many), which (their numbers, space-separated).

    table: columns stack, layer, expert, all_zero, a row a matrix. An expert is all zero if all its matrices are.
    """
    experts = table[table["expert"].notna() & table["all_zero"].notna()]
    experts = experts.astype({"all_zero": bool}).groupby(["stack", "layer", "expert"], sort=True)["all_zero"].all()
    rows = []
    for (stack, layer), group in experts.groupby(level=[0, 1], sort=True):
        dead = [str(expert) for (_, _, expert), zero in group.items() if zero]
        rows.append([stack, layer, len(group), len(dead), " ".join(dead)])
    return pd.DataFrame(rows, columns=["stack", "layer", "experts", "all_zero", "which"])
