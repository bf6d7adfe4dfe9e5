"""Pooled distributions of several tensors."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import BINNED, EXACT, PERCENTILES, merge, percentile_column

# Parts are merged when they hold this many values: seldom, and in little memory.
_WAITING_VALUES = 1 << 20


# Tensors of this role mean different things: none is pooled with another.
NOT_POOLED = "other"


class Pool:
    """A distribution that others are added to.

    kind: BINNED once one of its parts is. low, high: its extremes. percentiles: exact percentiles by their number, as
    long as there is one part only; those of merged bins cannot be computed exactly.
    """

    def __init__(self) -> None:
        self.kind = EXACT
        self.low, self.high = np.inf, -np.inf
        self.percentiles: dict[float, float] = {}
        self._parts: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0, dtype=np.int64))]
        self._waiting = 0

    def add(
        self,
        values: np.ndarray,
        counts: np.ndarray,
        kind: str,
        ends: tuple[float, float] | None = None,
        percentiles: Mapping[float, float] | None = None,
    ) -> None:
        """Add the elements of a distribution; ends: its extremes, where values are means of bins."""
        if not len(values):
            return
        low, high = ends or (values[0], values[-1])
        self.percentiles = dict(percentiles or {}) if self.low > self.high else {}
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.kind = BINNED if BINNED in (kind, self.kind) else EXACT
        self._parts.append((values, counts))
        self._waiting += len(values)
        if self._waiting > _WAITING_VALUES:
            self._merge()

    def distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """Values, ascending, and their counts."""
        if len(self._parts) > 1:
            self._merge()
        return self._parts[0]

    def _merge(self) -> None:
        self._parts = [merge(self._parts, self.kind)]
        self._waiting = 0


def pooled(parts: Iterable[pd.DataFrame], keys: list[str]) -> dict[tuple, Pool]:
    """Pool the matrices of a table of histograms by some of its columns; pools are in the order of their first rows.

    Keys have one more element: "" for pooled tensors, the id of a tensor of role `other` (of any shape), which has a
    pool of its own.
    """
    pools: dict[tuple, Pool] = {}
    for part in parts:
        for row in part[part["cols"].notna() | (part["role"] == NOT_POOLED)].to_dict("records"):
            unpooled_id = row["id"] if row["role"] == NOT_POOLED else ""
            pool = pools.setdefault((*(row[key] for key in keys), unpooled_id), Pool())
            known = {percentile: row[percentile_column(percentile)] for percentile in PERCENTILES}
            pool.add(row["values"], row["counts"], row["distribution"], (row["min"], row["max"]), known)
    return pools


def repooled(pools: Mapping[tuple, Pool], elements: list[int]) -> dict[tuple, Pool]:
    """Pool further, by some elements of the keys."""
    wider: dict[tuple, Pool] = {}
    for key, pool in pools.items():
        pool_of_pools = wider.setdefault(tuple(key[element] for element in elements), Pool())
        pool_of_pools.add(*pool.distribution(), pool.kind, (pool.low, pool.high), pool.percentiles)
    return wider
