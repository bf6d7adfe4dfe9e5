"""Densities of the values of each role, beside the normal density of the same mean and standard deviation."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import edges, moments
from weight_atlas.weights.pooling import Pool, pooled

_BINS = 120
_FEW = 256  # values: as many as a type of 8 bits has
_REACH = 8.0  # standard deviations shown at most, on either side


def role_densities(parts: Iterable[pd.DataFrame], roles: list[str] | None = None) -> pd.DataFrame:
    """Density of the matrices of each role in bins of equal width.

    parts: of histograms. roles: which ones; None: all. Roles without spread are left out. Columns: stack, role, n,
    mean, std, kurtosis, beyond (share outside the bins), left, right, density, normal (mean density of the fitted
    normal in the bin), tensor (the id of a tensor of role `other`, which has a density of its own; else empty).
    """
    pools = pooled(parts, ["stack", "role"])
    tables = []
    for (stack, role, tensor), pool in pools.items():
        if len(pool.distribution()[0]) > 1 and (roles is None or role in roles):
            tables.append(density_of(pool).assign(stack=stack, role=role, tensor=tensor))
    columns = [
        "stack",
        "role",
        "n",
        "mean",
        "std",
        "kurtosis",
        "beyond",
        "left",
        "right",
        "density",
        "normal",
        "tensor",
    ]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def density_of(pool: Pool) -> pd.DataFrame:
    """Density of one distribution in bins of equal width, beside the normal one; see role_densities."""
    from scipy.special import ndtr

    values, counts = pool.distribution()
    shape = moments(values, counts)
    reach = _REACH * shape.std
    low, high = max(pool.low, shape.mean - reach), min(pool.high, shape.mean + reach)
    bounds = np.linspace(low, high, _BINS + 1)
    cumulated = _smooth_cdf(pool, bounds)
    width = (high - low) / _BINS
    return pd.DataFrame(
        {
            "n": int(counts.sum()),
            "mean": shape.mean,
            "std": shape.std,
            "kurtosis": shape.kurtosis,
            "beyond": 1 - (cumulated[-1] - cumulated[0]),
            "left": bounds[:-1],
            "right": bounds[1:],
            "density": np.diff(cumulated) / width,
            "normal": np.diff(ndtr((bounds - shape.mean) / shape.std)) / width,
        }
    )


def _smooth_cdf(pool: Pool, at: np.ndarray) -> np.ndarray:
    """CDF with each value spread over the numbers that round to it: a 16-bit grid must leave no stripes."""
    values, counts = pool.distribution()
    # No bucket reaches beyond the extremes.
    lower, upper = (side.clip(pool.low, pool.high) for side in edges(values, pool.kind))
    between = (upper[:-1] + lower[1:]) / 2
    # A single value far from the others stands for itself; where there are few values, the gaps are the type's.
    reach = (at[1] - at[0]) / 2 if len(values) > _FEW else np.inf
    left = np.maximum(np.concatenate([lower[:1], between]), lower - reach)
    right = np.minimum(np.concatenate([between, upper[-1:]]), upper + reach)
    cumulated = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    borders = np.stack([left, right], axis=1).ravel()
    return np.interp(at, borders, np.stack([cumulated[:-1], cumulated[1:]], axis=1).ravel())
