"""What the lineage of models is told by: their sketches, the norms of the rows of their matrices, and their spectra."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_table
from weight_atlas.comparison.pairing import KEY
from weight_atlas.dtypes import DTYPES
from weight_atlas.weights.part_file import read_part_rows

Key = tuple
TINY = 1e-30


@dataclass(frozen=True)
class Matrix:
    """One matrix of a model: a sample of its values, the logarithms of its row norms and of its singular values.

    The last are over the Frobenius norm; both are empty where they are not known. rounding: of its stored type.
    """

    id: str
    shape: tuple[int, int]
    dtype: str
    values: np.ndarray
    row_norms: np.ndarray = field(default_factory=lambda: np.empty(0))
    sigma: np.ndarray = field(default_factory=lambda: np.empty(0))
    rounding: float = 0.0


@dataclass(frozen=True)
class ModelProfile:
    """A model by its name, and its matrices by where they stand in it (see pairing.KEY)."""

    name: str
    matrices: dict[Key, Matrix]

    @property
    def bits(self) -> float:
        """Mean bits of the stored types of the matrices; packed schemes count as 4."""
        known = [DTYPES[each.dtype].bits if each.dtype in DTYPES else 4 for each in self.matrices.values()]
        return float(np.mean(known)) if known else 0.0


def model_profile(
    name: str, sketch: pd.DataFrame, row_squares: dict[str, np.ndarray], spectra: pd.DataFrame
) -> ModelProfile:
    """The profile of a model. row_squares: sums of squares of the rows, by id; spectra: see spectra.table."""
    sigma = {row.id: (np.asarray(row.sigma), float(row.frobenius), float(row.rounding)) for row in spectra.itertuples()}
    matrices = {}
    for row in sketch.itertuples(index=False):
        values, frobenius, rounding = sigma.get(row.id, (np.empty(0), 1.0, 0.0))
        key = tuple(-1 if pd.isna(value) else value for value in (getattr(row, column) for column in KEY))
        matrices[key] = Matrix(
            id=row.id,
            shape=(int(row.rows), int(row.cols)),
            dtype=row.dtype,
            values=np.asarray(row.values, dtype=np.float64),
            row_norms=np.log(np.maximum(row_squares.get(row.id, np.empty(0)), TINY)) / 2,
            sigma=np.log(np.maximum(values / max(frobenius, TINY), 1e-8)),
            rounding=rounding,
        )
    return ModelProfile(name, matrices)


def read_model_profile(name: str, sketch: Path, profile: Path, singular_values: Path) -> ModelProfile:
    """The profile of a model from its artifacts."""
    squares = {row.id: np.asarray(row.row_squares) for row in read_part_rows(profile, ["id", "row_squares"])}
    return model_profile(name, read_table(sketch), squares, read_table(singular_values))


def shared(a: ModelProfile, b: ModelProfile) -> list[Key]:
    """Where both have a matrix of one shape, in the order of a."""
    return [key for key, matrix in a.matrices.items() if key in b.matrices and b.matrices[key].shape == matrix.shape]
