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


def window_values(
    matrices: pd.DataFrame, texts: list[str], choose: Callable[..., pd.DataFrame], load: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """What figures.weight_profile.windows draws: the elements of each window that lie inside its matrix.

    matrices: rows of the inventory. choose(matrices, [choice]) gives the chosen row, load(row) its tensor. Choices that
    the model does not have, and windows outside their matrix, are left out and said.
    """
    found = []
    for text in texts:
        choice, rows, cols = window_parts(text)
        for row in choose(matrices, [choice]).itertuples(index=False):
            values = load(row)[rows, cols].double().numpy()
            if values.size:
                title = f"{row.id}, rows {rows.start} to {rows.start + values.shape[0] - 1}"
                title += f", columns {cols.start} to {cols.start + values.shape[1] - 1}"
                found.append(
                    {"title": title, "first_row": rows.start, "first_col": cols.start, "values": np.asarray(values)}
                )
                break
        else:
            print(f"window {text}: the model has no such matrix, or it ends before", flush=True)
    return found
