"""Rows of a matrix that equal another one, its negative or a multiple of it, exactly and at any size: by hashes.

A row is divided by its element of largest magnitude (the first of several). Proportional rows have the same quotients,
which float64 rounds alike; those of other rows with up to 24 significant bits differ by more than it rounds away. So
rows with the same hash of their quotients are proportional, and their divisors tell equal, opposite and scaled ones
apart. Two other rows of a matrix of n rows share one of 2^64 hashes by chance with a probability of n^2 / 2^65.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

_TOGETHER = 1 << 17  # elements at a time: what stays in the cache
Rows = Callable[[int, int], np.ndarray]  # first row, end -> (rows, columns), float64


def row_classes(rows: Rows, count: int, columns: int) -> pd.DataFrame:
    """A row each: `key`, alike for proportional rows, and `divisor`; 0 for rows of zeros, NaN for rows not finite."""
    random = np.random.default_rng(columns)
    keys = random.integers(0, 2**64, columns, dtype=np.uint64)
    table = pd.DataFrame({"key": np.zeros(count, dtype=np.uint64), "divisor": np.zeros(count)})
    step = max(1, _TOGETHER // max(1, columns))
    for start in range(0, count if columns else 0, step):
        x = rows(start, min(start + step, count))
        place = np.abs(x).argmax(axis=1)
        divisor = x[np.arange(len(x)), place]
        divisor[~np.isfinite(x).all(axis=1)] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            quotients = x / divisor[:, None] + 0.0  # -0 becomes 0
        table.loc[start : start + len(x) - 1, "key"] = _hashed(quotients, keys)
        table.loc[start : start + len(x) - 1, "divisor"] = divisor
    return table


def _hashed(x: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """A hash of each row: the sum of its elements' bits, mixed by the finalizer of SplitMix64 with a key a column."""
    z = x.view(np.uint64) ^ keys
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z.sum(axis=1, dtype=np.uint64)


def repeated_rows(classes: pd.DataFrame) -> pd.DataFrame:
    """The rows that repeat an earlier one: row, first (the earlier one), and how: identical, opposite or scaled.

    Of a class of proportional rows a row is compared with all earlier ones: it is identical to one of them, else
    opposite to one, else scaled. Rows of zeros, and rows that are not finite, are left out.
    """
    known = classes[(classes["divisor"] != 0) & classes["divisor"].notna()]
    known = known[known.duplicated("key", keep=False)]
    found = []
    for _, group in known.groupby("key", sort=False):
        seen: dict[float, int] = {}
        for row, divisor in group["divisor"].items():
            if divisor in seen:
                found.append((row, seen[divisor], "identical"))
            elif -divisor in seen:
                found.append((row, seen[-divisor], "opposite"))
            elif seen:
                found.append((row, next(iter(seen.values())), "scaled"))
            seen.setdefault(divisor, row)
    return pd.DataFrame(found, columns=["row", "first", "how"]).sort_values("row", ignore_index=True)
