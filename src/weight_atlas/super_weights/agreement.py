"""Published coordinates of super weights, and how far a detection agrees with them."""

import re
from importlib import resources

import pandas as pd

from weight_atlas.lm.anatomy import Coordinate

COLUMNS = ("model", "layer", "row", "column", "source", "note", "found", "rank_in_tensor")


def published_coordinates() -> pd.DataFrame:
    """The table of the package: model, matches (pattern of model names), its size, coordinate, source, note."""
    path = resources.files(__package__) / "published_coordinates.csv"
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def known_as(source: str, layers: int, d_model: int) -> pd.DataFrame:
    """The published rows for a model, by the last part of its name and its size; none for an unknown model.

    Instruction-tuned variants keep their base model's coordinates. The size guards against names that merely resemble
    a known one.
    """
    name = source.rstrip("/").rpartition("/")[2].lower()
    table = published_coordinates()
    own = [
        bool(re.search(row.matches, name)) and (row.layers, row.d_model) == (layers, d_model)
        for row in table.itertuples()
    ]
    return table[own].reset_index(drop=True)


def agreement(published: pd.DataFrame, found: list[Coordinate], rank: dict[tuple[int, int, int], int]) -> pd.DataFrame:
    """One row per published coordinate: whether it was found, and its rank by |W| in its matrix.

    rank: (layer, row, column) -> 1 for the largest of the matrix.
    """
    places = {(each.layer, each.row, each.col) for each in found}
    table = published.assign(
        found=[(row.layer, row.row, row.column) in places for row in published.itertuples()],
        rank_in_tensor=[rank.get((row.layer, row.row, row.column)) for row in published.itertuples()],
    )
    return table[list(COLUMNS)].astype({"rank_in_tensor": "Int64"})
