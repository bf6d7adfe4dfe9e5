"""Cumulative distribution functions, evaluated at a fixed set of probabilities."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import quantiles
from weight_atlas.weights.pooling import Pool, pooled, repooled

# Every per cent, and finer towards the ends.
_PERCENT = [0, 0.01, 0.05, 0.1, 0.5, *range(1, 100), 99.5, 99.9, 99.95, 99.99, 100]
# Read as decimals: 99.9 / 100 is not the number that 0.999 is.
PROBABILITIES = np.array([float(f"{percent}e-2") for percent in _PERCENT])


def value_cdf(values: np.ndarray, counts: np.ndarray) -> pd.DataFrame:
    """The CDF of one distribution as rows of probability and value, the smallest and the largest value included.

    Value and probability are those of a quantile with linear interpolation. Works for any values with counts, such as
    the token weights of np.unique(weights, return_counts=True).
    """
    return pd.DataFrame({"probability": PROBABILITIES, "value": quantiles(values, counts, PROBABILITIES)})


def weight_cdf(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """CDFs of the matrices of a model, for each role and layer, and for each role over all layers (layer missing).

    parts: of histograms. Columns: stack, role, layer, n (elements), probability, value, tensor. The experts of a layer
    are pooled; a tensor without finite elements is left out. Tensors of role `other` are not pooled: each has a CDF,
    without a layer, and its id in `tensor`, which is empty elsewhere.
    """
    pools = pooled(parts, ["stack", "role", "layer"])
    by_layer = {key: pool for key, pool in pools.items() if len(pool.distribution()[0])}
    tables = []
    for (stack, role, tensor), pool in repooled(by_layer, [0, 1, 3]).items():
        tables.append(_rows(stack, role, pd.NA, pool, tensor))
        layers = [key for key in by_layer if key[:2] == (stack, role) and not (tensor or pd.isna(key[2]))]
        tables += [_rows(stack, role, key[2], by_layer[key], tensor) for key in sorted(layers, key=lambda key: key[2])]
    columns = ["stack", "role", "layer", "n", "probability", "value", "tensor"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return table[columns].astype({"layer": "Int64"})


def _rows(stack: str, role: str, layer: object, pool: Pool, tensor: str) -> pd.DataFrame:
    values, counts = pool.distribution()
    cdf = value_cdf(values, counts)
    cdf["value"] = _through_known(cdf["value"].to_numpy(), pool)
    return cdf.assign(stack=stack, role=role, layer=layer, n=int(counts.sum()), tensor=tensor)


def _through_known(values: np.ndarray, pool: Pool) -> np.ndarray:
    """Values of a CDF, the exactly known ones put in and the others clipped to lie between them."""
    known = {0.0: pool.low, 100.0: pool.high, **pool.percentiles}
    exact = np.array([known.get(float(percent), np.nan) for percent in _PERCENT])
    values = np.where(np.isnan(exact), values, exact)
    lowest = np.fmax.accumulate(np.where(np.isnan(exact), -np.inf, exact))
    highest = np.fmin.accumulate(np.where(np.isnan(exact), np.inf, exact)[::-1])[::-1]
    return values.clip(lowest, highest)
