"""The table of profiles on disk: a row a matrix, its rows, columns and cells in lists; and sums over its heads."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.weights.histogram_table import INVENTORY_COLUMNS
from weight_atlas.weights.part_file import part_file, regrouped
from weight_atlas.weights.streaming import Reading

# Columns of the inventory; the others are those of Profile.row().
PROFILED_COLUMNS = [*INVENTORY_COLUMNS, "component", "n_heads", "head_dim"]
MEASURES = ("sums", "squares", "absmax", "zeros", "not_finite")
BY_ROW, BY_COLUMN = ([f"{axis}_{measure}" for measure in MEASURES] for axis in ("row", "col"))
CELLS = ["cell_mean", "cell_absmax"]
_INTEGERS = ["layer", "expert", "rows", "cols", "n_heads", "head_dim"]
_PART_NUMBERS = 1 << 21  # in the lists of a part: about 16 MB
_ROLES_BY_COLUMNS = ("W_O",)  # whose heads are columns


class ProfileParts:
    """Gathers profiles into parts of a table, of bounded size, and hands each to write()."""

    def __init__(self, inventory: pd.DataFrame, write: Callable[[pd.DataFrame], object]):
        self._tensors = inventory.set_index("id", drop=False)[PROFILED_COLUMNS]
        self._write = write
        self._rows: list[dict[str, Any]] = []
        self._numbers, self._written = 0, False

    def passing(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """The same readings, without their profiles once these are gathered; after the last one all are written."""
        for reading in readings:
            if reading.profile is not None:
                self._rows.append({"id": reading.id, **reading.profile.row()})
                self._numbers += sum(table.size for table in (reading.profile.by_row, reading.profile.by_column))
                self._numbers += reading.profile.cell_mean.size
                if self._numbers >= _PART_NUMBERS:
                    self._end_part()
            yield reading._replace(profile=None)
        if self._rows or not self._written:  # without a matrix a table without rows
            self._end_part()

    def _end_part(self) -> None:
        profiles = pd.DataFrame(self._rows, columns=["id", "height", "width", *BY_ROW, *BY_COLUMN, *CELLS])
        described = self._tensors.loc[profiles.pop("id")].reset_index(drop=True)
        part = pd.concat([described, profiles], axis=1).astype(dict.fromkeys(_INTEGERS, "Int64"))
        self._write(part)
        self._rows, self._numbers, self._written = [], 0, True


def profile_parts_of(rows: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The parts that ProfileParts hands over, of rows of tables of profiles, a frame each."""
    lists = (*BY_ROW, *BY_COLUMN, "cell_mean")
    return regrouped(rows, lambda row: sum(len(row[name].iloc[0]) for name in lists), _PART_NUMBERS)


def write_profiles(path: Path, rows: Iterable[pd.DataFrame], inventory: pd.DataFrame) -> None:
    """Write a table of profiles of rows of others; without a row it is the one of a model without a matrix."""
    with part_file(path, lists=(*BY_ROW, *BY_COLUMN, *CELLS)) as file:
        for part in profile_parts_of(rows):
            file.write(part)
        if not file.begun:
            list(ProfileParts(inventory, file.write).passing(()))


@contextmanager
def profile_file(path: Path, inventory: pd.DataFrame) -> Iterator[ProfileParts]:
    """A table of profiles that is written as readings pass by."""
    with part_file(path, lists=(*BY_ROW, *BY_COLUMN, *CELLS)) as file:
        yield ProfileParts(inventory, file.write)


def cells(profile: Any, measure: str) -> np.ndarray:
    """The cells of a matrix, (bands, cells of a band); measure: cell_mean or cell_absmax."""
    shape = -(-profile.rows // profile.height), -(-profile.cols // profile.width)
    return np.asarray(getattr(profile, measure)).reshape(shape)


def by_head(profile: Any) -> pd.DataFrame:
    """A row a head: elements, and their sums, squares, absmax, zeros and not_finite; empty where there are no heads.

    Heads are rows of the logical matrix (out, in), those of W_O its columns.
    """
    if pd.isna(profile.n_heads):
        return pd.DataFrame(columns=["head", "elements", *MEASURES])
    axis, across = ("col", profile.rows) if profile.role in _ROLES_BY_COLUMNS else ("row", profile.cols)
    heads = {name: np.asarray(getattr(profile, f"{axis}_{name}")).reshape(profile.n_heads, -1) for name in MEASURES}
    found = {name: lines.max(axis=1) if name == "absmax" else lines.sum(axis=1) for name, lines in heads.items()}
    return pd.DataFrame({"head": range(profile.n_heads), "elements": profile.head_dim * across, **found})
