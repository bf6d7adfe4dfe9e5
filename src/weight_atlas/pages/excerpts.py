"""Which part of an analysis's tables a page shows: small ones whole, wide ones in the columns that answer most."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

PREVIEW_ROWS, PREVIEW_COLUMNS, CHOSEN_ROWS = 16, 16, 40
NOTE = "note"  # why a row's cells are empty: shown wherever the column stands


@dataclass(frozen=True)
class Chosen:
    """Columns to show of a table that has all of them; only: of its rows those in which one of these is true."""

    columns: tuple[str, ...]
    only: tuple[str, ...] = ()


# By analysis, for tables that are too wide or too long to be shown whole.
CHOSEN = {
    "super_weights": Chosen((
        "layer", "row", "column", "component", "expert_id", "original_value", "input_value", "output_value", "share",
        "rho", "residual_value", "residual_ratio", "persistence", "token", "tokens", "found_by",
    )),
    "super_weight_verification": Chosen((
        "layer", "row", "column", "expert", "verdict", "ratio", "severity", "delta_nll", "delta_nll_low",
        "delta_nll_high", "exceeds_null", "null_max", "shift_max", "rescue",
        "residual_after", "found_by",
    )),
    "expert_routing": Chosen((
        "layer", "expert", "super_expert", "candidate", "p_active", "tokens", "max_output", "row", "column", "weight",
        "input_value", "contribution_ratio", "persistence", "co_spike_score",
    ), only=("super_expert", "candidate")),
}  # fmt: skip


def shown(analysis: str, table: pd.DataFrame) -> tuple[pd.DataFrame, str] | None:
    """The part of a table that a page shows, and what it leaves out ("" if nothing); None for a table not to show.

    Columns without any value are left out of a chosen part. Without a choice a table is shown if it has few rows: its
    first columns, and the notes of its rows.
    """
    chosen = CHOSEN.get(analysis)
    if chosen is not None and {*chosen.columns, *chosen.only} <= set(table.columns):
        rows = table[table[list(chosen.only)].astype(bool).any(axis=1)] if chosen.only else table
        part = rows[list(chosen.columns)].dropna(axis=1, how="all").head(CHOSEN_ROWS)
        whole = len(rows)
    else:
        noted = table.columns.isin([NOTE]) & table.notna().any().to_numpy()
        part, whole = table.loc[:, noted | (np.arange(len(noted)) < PREVIEW_COLUMNS)], len(table)
        if whole > PREVIEW_ROWS:
            return None
    if part.empty:
        return None
    left = [f"{len(part)} of {whole} rows"] if len(part) < whole else []
    left += [f"{len(part.columns)} of {len(table.columns)} columns"] if len(part.columns) < len(table.columns) else []
    return part, ", ".join(left)
