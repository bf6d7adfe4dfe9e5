"""Dead units and outlier channels of matrices, from the profiles of their rows and columns."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

# The lists of a profile that these columns need.
LISTS = ["row_squares", "row_absmax", "row_not_finite", "col_squares", "col_absmax", "col_not_finite"]
# Roles whose rows are tokens, positions or segments: a zero among them is no dead unit.
TABLES = ("W_E", "W_U", "W_pos", "W_type")
# More of a channel's energy in one element than this is an outlier, not a channel.
SINGLE = 0.5


def units(profiles: pd.DataFrame) -> pd.DataFrame:
    """Add to the profiles of matrices what their rows and columns show; without the lists.

    dead_rows, dead_cols, dead_heads: rows, columns and heads of zeros; heads are rows, of W_O columns. Of embeddings
    only columns count. channel: "row 3" or "column 5", that with the largest root mean square beside the median of its
    side; reach: that ratio; reach_null: what the largest of as many Gaussian channels of that length is about,
    1 + sqrt(ln k / n). Channels most of whose energy is one element are left out. Missing where there is none.
    """
    rows = [_measured(row) for row in profiles.itertuples(index=False)]
    columns = ["dead_rows", "dead_cols", "dead_heads", "dead", "channel", "reach", "reach_null"]
    kept = profiles.drop(columns=[name for name in LISTS if name in profiles])
    return kept.join(pd.DataFrame(rows, columns=columns, index=profiles.index))


def _measured(row: Any) -> tuple[int, int, int, str, str, float, float]:
    by_row = row.role not in TABLES
    dead_rows = (row.row_absmax == 0) & (row.row_not_finite == 0) if by_row else np.zeros(0, dtype=bool)
    dead_cols = (row.col_absmax == 0) & (row.col_not_finite == 0)
    heads = _dead_heads(dead_cols if row.role == "W_O" else dead_rows, row.n_heads)
    sides = [("column", row.col_squares, row.col_absmax, row.rows)]
    sides += [("row", row.row_squares, row.row_absmax, row.cols)] if by_row else []
    name, reach, null = max((each for side in sides for each in _reach(*side)), key=lambda found: found[1] / found[2],
                            default=("", np.nan, np.nan))  # fmt: skip
    return (
        int(dead_rows.sum()),
        int(dead_cols.sum()),
        len(heads),
        _named(dead_rows, dead_cols, heads),
        name,
        reach,
        null,
    )


def _dead_heads(dead: np.ndarray, count: Any) -> list[int]:
    if pd.isna(count) or not len(dead) or len(dead) % int(count):
        return []
    return np.flatnonzero(dead.reshape(int(count), -1).all(axis=1)).tolist()


def _named(dead_rows: np.ndarray, dead_cols: np.ndarray, heads: list[int], most: int = 3) -> str:
    """The dead units in words: "heads 3; rows 96, 97, 98 and 29 more"."""
    parts = []
    for name, places in (
        ("head", heads),
        ("row", np.flatnonzero(dead_rows).tolist()),
        ("column", np.flatnonzero(dead_cols).tolist()),
    ):
        if places:
            more = f" and {len(places) - most} more" if len(places) > most else ""
            parts.append(f"{name}{'s' if len(places) > 1 else ''} {', '.join(map(str, places[:most]))}{more}")
    return "; ".join(parts)


def _reach(side: str, squares: np.ndarray, absmax: np.ndarray, length: int) -> Iterator[tuple[str, float, float]]:
    """The farthest channel of one side: (name, reach, null), if there is any."""
    alive = squares[squares > 0]
    with np.errstate(all="ignore"):
        spread = (squares > 0) & (absmax**2 <= SINGLE * squares)
    if len(alive) < 8 or length < 8 or not spread.any():
        return
    place = int(np.where(spread, squares, -1).argmax())
    reach = float(np.sqrt(squares[place] / np.median(alive)))
    yield f"{side} {place}", reach, float(1 + (np.log(len(alive)) / length) ** 0.5)
