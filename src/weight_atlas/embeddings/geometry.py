"""The embeddings of a model put together: which there are, their measures, their tokens and positions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.embeddings import positions, vectors
from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import InventoryRow, Load
from weight_atlas.settings.embeddings import EmbeddingGeometry

CLOUDS, POSITIONS = ("W_E", "W_U"), "W_pos"
MEASURES = (
    "norm_mean", "norm_std", "norm_min", "norm_median", "norm_max", "mean_cosine", "mean_cosine_null",
    "mean_cosine_null_sd", "common_share", "common_share_null", "first_share", "first_share_null", "isoscore",
    "isoscore_null",
)  # fmt: skip
COLUMNS = {
    "id": "str", "role": "str", "stack": "str", "rows": "Int64", "cols": "Int64", "used_rows": "Int64",
    "zero_rows": "Int64", **dict.fromkeys(MEASURES, "float64"),
    "smoothness": "float64", "smoothness_null": "float64", "smoothness_null_sd": "float64",
    "adjacent_correlation": "float64", "adjacent_correlation_null": "float64", "periodic": "Int64", "status": "str",
}  # fmt: skip


@dataclass(frozen=True)
class Cloud:
    """One embedding: the row of the inventory, its measures, a table of its rows, the variances of its components."""

    row: InventoryRow
    measures: dict[str, Any]
    table: pd.DataFrame
    variances: np.ndarray
    weight: Any

    @property
    def null(self) -> np.ndarray:
        """Variances of the components of as many Gaussian rows."""
        if not len(self.variances):
            return self.variances
        return vectors.gaussian_variances(self.measures["used_rows"], self.measures["cols"])


@dataclass(frozen=True)
class Positions:
    """Learned positions: the row of the inventory, their values (p, d), tables of positions and of dimensions."""

    row: InventoryRow
    values: np.ndarray
    table: pd.DataFrame
    dimensions: pd.DataFrame
    smoothness: float


@dataclass(frozen=True)
class Embeddings:
    """All embeddings of a model: clouds of token vectors, learned positions, and why others were left out."""

    clouds: list[Cloud]
    positions: list[Positions]
    left_out: str = ""

    def required_clouds(self) -> list[Cloud]:
        """The clouds; NotApplicable where there are none."""
        if not self.clouds:
            raise NotApplicable("the model has no token embedding")
        return self.clouds

    def required_positions(self, encoding: str) -> Positions:
        """The first learned positions; NotApplicable where there are none. encoding: what the model has instead."""
        if not self.positions:
            what = f"the model has no learned positions{encoding and f': its position encoding is {encoding}'}"
            raise NotApplicable(self.left_out or what)
        return self.positions[0]


def embeddings_of(matrices: pd.DataFrame, load: Load, settings: EmbeddingGeometry) -> Embeddings:
    """The token embeddings, unembeddings and learned positions of a model that have data of their own.

    matrices: rows of an inventory; load(row) gives the tensor (rows, d) in its stored type. NotApplicable where there
    is none of them. Positions with fewer than three rows, or with values that are no finite numbers, have no course.
    """
    clouds, learned, left_out = [], [], ""
    for row in matrices[matrices["role"].isin(CLOUDS)].itertuples(index=False):
        weight = load(row)
        clouds.append(Cloud(row, *vectors.cloud(weight), weight))
    for row in matrices[matrices["role"] == POSITIONS].itertuples(index=False):
        values = load(row).double().numpy()
        if len(values) < 3 or values.shape[1] < 2 or not np.isfinite(values).all():
            left_out = f"the learned positions {row.id} are too few, or hold elements that are no finite numbers"
            continue
        smooth, _ = positions.smoothness(values)
        dimensions = positions.dimension_table(values, settings.dimensions, settings.shown)
        learned.append(Positions(row, values, positions.position_table(values), dimensions, smooth))
    if not clouds and not learned and not left_out:
        raise NotApplicable("the model has neither a token embedding nor learned positions")
    return Embeddings(clouds, learned, left_out)


def embedding_table(found: Embeddings) -> pd.DataFrame:
    """A row for each embedding: measures of a cloud of vectors, and for learned positions those along the sequence.

    adjacent_correlation: mean of the correlations of neighbours; periodic: dimensions with a period. status: ok, or
    fewer than two rows that are finite and not zero.
    """
    rows = [{**_place(cloud.row), **cloud.measures, "status": _status(cloud.measures)} for cloud in found.clouds]
    for each in found.positions:
        count, width = each.values.shape
        measures, _, _ = vectors.cloud(each.values)
        rows.append({
            **_place(each.row),
            **measures,
            "status": _status(measures),
            "smoothness": each.smoothness,
            "smoothness_null": 0.0,
            "smoothness_null_sd": positions.smoothness_deviation(count, width),
            "adjacent_correlation": each.table["correlation"].mean(),
            "adjacent_correlation_null": 0.0,
            "periodic": int(each.dimensions["periodic"].sum()),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _status(measures: dict[str, Any]) -> str:
    return "ok" if "norm_mean" in measures else "fewer than two rows that are finite and not zero"


def _place(row: InventoryRow) -> dict[str, Any]:
    return {"id": row.id, "role": row.role, "stack": row.stack}


def token_table(clouds: list[Cloud]) -> pd.DataFrame:
    """A row for each row of each embedding: id of the embedding, token_id, norm, mean_cosine."""
    parts = [
        pd.DataFrame({"id": cloud.row.id, "token_id": np.arange(len(cloud.table)), **cloud.table}) for cloud in clouds
    ]
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["id", "token_id", "norm", "mean_cosine"])
    )


def neighbour_table(clouds: list[Cloud], settings: EmbeddingGeometry) -> pd.DataFrame:
    """The nearest rows of chosen tokens, in each embedding.

    Columns: id, token_id, why (see vectors.chosen_tokens), norm, rank, neighbour_id, cosine, and cosine_null, the
    median cosine of the nearest of as many rows in independent directions.
    """
    columns = ["id", "token_id", "why", "norm", "rank", "neighbour_id", "cosine", "cosine_null"]
    parts = []
    for cloud in clouds:
        norms = cloud.table["norm"].to_numpy()
        chosen = vectors.chosen_tokens(norms, settings.tokens, settings.token_ids)
        if chosen and settings.neighbours:
            found = vectors.nearest(cloud.weight, norms, list(chosen), settings.neighbours)
            null = vectors.nearest_null(cloud.measures["used_rows"], cloud.measures["cols"])
            parts.append(found.assign(id=cloud.row.id, why=found["token_id"].map(chosen), norm=norms[found["token_id"]],
                                      cosine_null=null))  # fmt: skip
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
