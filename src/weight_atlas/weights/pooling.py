"""Distributions of several tensors together."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import BINNED, EXACT, merge

# Parts are merged when they hold this many values: seldom, and in little memory.
_WAITING_VALUES = 1 << 20


class Pool:
    """A distribution that grows; kind: BINNED once one of its parts is."""

    def __init__(self) -> None:
        self.kind = EXACT
        self._parts: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0, dtype=np.int64))]
        self._waiting = 0

    def add(self, values: np.ndarray, counts: np.ndarray, kind: str) -> None:
        """Add the elements of a distribution."""
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
    """The matrices of a table of histograms, put together by some of its columns, in the order of their first rows."""
    pools: dict[tuple, Pool] = {}
    for part in parts:
        for row in part[part["cols"].notna()].to_dict("records"):
            pool = pools.setdefault(tuple(row[key] for key in keys), Pool())
            pool.add(row["values"], row["counts"], row["distribution"])
    return pools


def repooled(pools: Mapping[tuple, Pool], places: list[int]) -> dict[tuple, Pool]:
    """Pools put together further, by some places of their keys."""
    wider: dict[tuple, Pool] = {}
    for key, pool in pools.items():
        wider.setdefault(tuple(key[place] for place in places), Pool()).add(*pool.distribution(), pool.kind)
    return wider
