"""The tokens of highest weight in each column of a table that is seen a range of rows at a time."""

import numpy as np
import pandas as pd

COLUMNS = ["column", "rank", "id", "weight"]


class BestTokens:
    """For each column the `top` highest values and their rows; equal values in the order of their rows, NaN never."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._found: list[tuple[np.ndarray, np.ndarray]] = []

    def see(self, first: int, rows: np.ndarray) -> None:
        """Take further rows (n, columns) into account; first: the number of the first of them."""
        if not self._found:
            self._found = [(np.empty(0), np.empty(0, dtype=np.int64))] * rows.shape[1]
        for number, column in enumerate(rows.T):
            values, ids = self._found[number]
            there = self._candidates(column)
            values = np.concatenate([values, column[there]])
            ids = np.concatenate([ids, first + there])
            best = np.argsort(-values, kind="stable")[: self._top]
            self._found[number] = values[best], ids[best]

    def _candidates(self, column: np.ndarray) -> np.ndarray:
        """Rows that may be among the highest, in their order."""
        known = np.flatnonzero(~np.isnan(column))
        if len(known) <= self._top:
            return known
        values = column[known]
        least = np.partition(values, len(values) - self._top)[len(values) - self._top]
        above, equal = known[values > least], known[values == least][: self._top]
        return np.sort(np.concatenate([above, equal]))

    def table(self, names: list[str]) -> pd.DataFrame:
        """One row for each column and rank: column (its name), rank (from 1), id, weight."""
        parts = [
            pd.DataFrame({"column": name, "rank": np.arange(1, len(ids) + 1), "id": ids, "weight": values})
            for name, (values, ids) in zip(names, self._found, strict=False)
        ]
        return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else self.nothing()

    @staticmethod
    def nothing() -> pd.DataFrame:
        """The table of no columns."""
        return pd.DataFrame({"column": pd.Series(dtype=str), "rank": [], "id": [], "weight": []}).astype(
            {"rank": "int64", "id": "int64", "weight": "float64"}
        )
