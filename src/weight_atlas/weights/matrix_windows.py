"""Parts of matrices to look at: their cells, and windows that are read element by element."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.weights.profile_table import cells


def cell_map(profile: Any) -> dict[str, Any]:
    """What figures.weight_profile.heat_maps draws of one matrix."""
    sizes = {name: getattr(profile, name) for name in ("rows", "cols", "height", "width")}
    return {"title": profile.id, **sizes, "mean": cells(profile, "cell_mean"), "absmax": cells(profile, "cell_absmax")}


def window_parts(text: str) -> tuple[str, slice, slice]:
    """The choice of a matrix, its rows and its columns: "W_Q:0@0:300,100:300"."""
    choice, _, window = text.rpartition("@")
    rows, cols = (slice(*map(int, bounds.split(":"))) for bounds in window.split(","))
    return choice, rows, cols


def window_places(
    matrices: pd.DataFrame, texts: list[str], choose: Callable[..., pd.DataFrame]
) -> list[tuple[Any, slice, slice]]:
    """Matrix (its row of the inventory), rows and columns of each window that lies inside one.

    matrices: rows of the inventory. choose(matrices, [choice]) gives the chosen row. Choices that the model does not
    have, and windows outside their matrix, are left out and said.
    """
    found = []
    for text in texts:
        choice, rows, cols = window_parts(text)
        inside = [
            row
            for row in choose(matrices, [choice]).itertuples(index=False)
            if len(range(*rows.indices(int(row.rows)))) and len(range(*cols.indices(int(row.cols))))
        ]
        if inside:
            found.append((inside[0], rows, cols))
        else:
            print(f"window {text}: the model has no such matrix, or it ends before", flush=True)
    return found


def values_of(places: list[tuple[Any, slice, slice]], load: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """What figures.weight_profile.windows draws of each of window_places. load(row) gives a matrix."""
    found = []
    for row, rows, cols in places:
        values = load(row)[rows, cols].double().numpy()
        title = f"{row.id}, rows {rows.start} to {rows.start + values.shape[0] - 1}"
        title += f", columns {cols.start} to {cols.start + values.shape[1] - 1}"
        found.append({"title": title, "first_row": rows.start, "first_col": cols.start, "values": np.asarray(values)})
    return found


def rows_of(seen: list[dict[str, Any]]) -> pd.DataFrame:
    """What values_of gives, as a table: a row a window, its values in a list."""
    frame = pd.DataFrame(seen, columns=["title", "first_row", "first_col", "values"])
    widths = [each["values"].shape[1] for each in seen]
    return frame.assign(width=widths, values=[each["values"].ravel() for each in seen])


def of_rows(rows: pd.DataFrame | None) -> list[dict[str, Any]]:
    """What values_of gives, of the rows of such a table; None: no window."""
    return (
        []
        if rows is None
        else [
            {
                "title": row.title,
                "first_row": row.first_row,
                "first_col": row.first_col,
                "values": row.values.reshape(-1, row.width),
            }
            for row in rows.itertuples(index=False)
        ]
    )
