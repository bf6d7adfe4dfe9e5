"""Which part of an analysis's tables a page shows: small ones whole, wide ones in the columns that answer most."""

import numpy as np
import pandas as pd

from weight_atlas.metrics import Table

PREVIEW_ROWS, PREVIEW_COLUMNS, CHOSEN_ROWS = 16, 16, 40
NOTE = "note"  # why a row's cells are empty: shown wherever the column stands


def shown(table: pd.DataFrame, registered: Table | None) -> tuple[pd.DataFrame, str] | None:
    """The part of a table that a page shows, and what it leaves out ("" if nothing); None for a table not to show.

    registered: what the registry of metrics says of it, where it may choose columns and rows; columns without any value
    are left out of a chosen part. Without a choice a table is shown if it has few rows: the columns that answer most,
    and the notes of its rows.
    """
    chosen = registered.page if registered else None
    if registered and chosen and {*chosen.columns, *chosen.only} <= set(table.columns):
        rows = table[table[list(chosen.only)].astype(bool).any(axis=1)] if chosen.only else table
        part = _most_unusual(rows, registered)[list(chosen.columns)].dropna(axis=1, how="all")
        whole = len(rows)
    else:
        noted = table.columns.isin([NOTE]) & table.notna().any().to_numpy()
        part, whole = table.loc[:, noted | _answering(table, registered)], len(table)
        if whole > PREVIEW_ROWS:
            return None
    if part.empty:
        return None
    left = [f"{len(part)} of {whole} rows"] if len(part) < whole else []
    left += [f"{len(part.columns)} of {len(table.columns)} columns"] if len(part.columns) < len(table.columns) else []
    return part, ", ".join(left)


def _answering(table: pd.DataFrame, registered: Table | None) -> np.ndarray:
    """Which columns of a wide table a page shows: as many as fit, by what they tell, in their order.

    First the columns that say what a row's numbers are of, then metrics that can be unusual, then other metrics, last
    nulls and words; columns without any value are left out. Of a table that the registry does not know, the first.
    """
    known = registered.by_column if registered else {}
    nulls = {metric.null for metric in known.values()}
    keys = set(registered.keys.values()) if registered else set()

    def rank(column: str) -> int:
        if registered is None or column in keys:
            return 0
        if column not in known or column in nulls:
            return 3
        return 1 if known[column].direction != "none" else 2

    wide = len(table.columns) > PREVIEW_COLUMNS
    empty = table.isna().all().to_numpy() if wide and registered else np.zeros(len(table.columns), dtype=bool)
    ranks = np.array([rank(str(column)) for column in table.columns]) + 4 * empty
    shown = np.zeros(len(ranks), dtype=bool)
    shown[np.argsort(ranks, kind="stable")[:PREVIEW_COLUMNS]] = True
    return shown & ~empty


def _most_unusual(rows: pd.DataFrame, registered: Table) -> pd.DataFrame:
    """As many rows as a page shows, in their order: the first, or by the metric that the registry names."""
    by = registered.page.by if registered.page else None
    ranked = registered.by_column[by].ranked(rows) if by else rows
    return rows[rows.index.isin(ranked.index[:CHOSEN_ROWS])]


def labels(part: pd.DataFrame, registered: Table | None) -> dict[str, str]:
    """Title and unit of each shown column that is a metric, without the bounds of others."""
    known = registered.by_column if registered else {}
    bounds = {bound for each in known.values() for bound in each.interval or ()}
    return {column: known[column].label for column in part.columns if column in known and column not in bounds}
