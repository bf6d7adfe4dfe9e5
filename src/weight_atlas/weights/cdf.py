"""Cumulative distribution functions, evaluated at a fixed set of probabilities."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import quantiles
from weight_atlas.weights.pooling import Pool, pooled, repooled

# In per cent: every one, and finer towards the ends.
_PERCENT = [0, 0.01, 0.05, 0.1, 0.5, *range(1, 100), 99.5, 99.9, 99.95, 99.99, 100]
PROBABILITIES = np.array(_PERCENT) / 100


def value_cdf(values: np.ndarray, counts: np.ndarray) -> pd.DataFrame:
    """The CDF of one distribution as rows of probability and value, the smallest and the largest value included.

    Value and probability are those of a quantile with linear interpolation. Works for any values with counts, such as
    the token weights of np.unique(weights, return_counts=True).
    """
    return pd.DataFrame({"probability": PROBABILITIES, "value": quantiles(values, counts, PROBABILITIES)})


def weight_cdf(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """CDFs of the matrices of a model, for each role and layer, and for each role over all layers (layer missing).

    parts: of read_parts. Columns: stack, role, layer, n (elements), probability, value. Experts of a layer count
    together; what has no finite element is left out.
    """
    pools = pooled(parts, ["stack", "role", "layer"])
    by_layer = {key: pool for key, pool in pools.items() if len(pool.distribution()[0])}
    tables = []
    for (stack, role), pool in repooled(by_layer, [0, 1]).items():
        tables.append(_rows(stack, role, pd.NA, pool))
        layers = sorted(key[2] for key in by_layer if key[:2] == (stack, role) and not pd.isna(key[2]))
        tables += [_rows(stack, role, layer, by_layer[stack, role, layer]) for layer in layers]
    columns = ["stack", "role", "layer", "n", "probability", "value"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return table[columns].astype({"layer": "Int64"})


def _rows(stack: str, role: str, layer: object, pool: Pool) -> pd.DataFrame:
    values, counts = pool.distribution()
    return value_cdf(values, counts).assign(stack=stack, role=role, layer=layer, n=int(counts.sum()))
