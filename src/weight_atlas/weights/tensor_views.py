"""Distributions of single tensors to look at, whole: density, CDF and statistics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from weight_atlas.weights.cdf import value_cdf
from weight_atlas.weights.density import density_of
from weight_atlas.weights.distribution import moments
from weight_atlas.weights.normality import ks_distance
from weight_atlas.weights.pooling import Pool


@dataclass(frozen=True)
class TensorView:
    """One tensor: its name, density (of density_of), cdf (of value_cdf), and statistics by their titles."""

    name: str
    density: pd.DataFrame
    cdf: pd.DataFrame
    statistics: dict[str, float]


def tensor_views(
    parts: Iterable[pd.DataFrame], statistics: pd.DataFrame, choices: list[str], choose: Callable[..., pd.DataFrame]
) -> list[TensorView]:
    """The chosen tensors that have a spread, in the order of the choices.

    parts: of histograms. statistics: of weight_statistics. A choice is the name of a stored tensor, whose pieces are
    pooled where it is fused, or what choose(statistics, [choice]) takes, such as W_Q:0.
    """
    wanted: dict[str, list[str]] = {}
    for choice in choices:
        stored = statistics[statistics["tensor"] == choice]["id"].tolist()
        chosen = choose(statistics, [choice])["id"].tolist()
        if stored or chosen:
            wanted[choice if stored else chosen[0]] = stored or chosen
    pools = {name: Pool() for name in wanted}
    for part in parts:
        for name, ids in wanted.items():
            for row in part[part["id"].isin(ids)].to_dict("records"):
                pools[name].add(row["values"], row["counts"], row["distribution"], (row["min"], row["max"]))
    return [_view(name, pool) for name, pool in pools.items() if len(pool.distribution()[0]) > 1]


def _view(name: str, pool: Pool) -> TensorView:
    values, counts = pool.distribution()
    shape = moments(values, counts)
    found = {"Elements": float(counts.sum()), "Mean": shape.mean, "Std dev": shape.std, "Skewness": shape.skew}
    found |= {"Excess kurtosis": shape.kurtosis, "Minimum": pool.low, "Maximum": pool.high}
    found["KS distance"] = ks_distance(values, counts, pool.kind, shape.mean, shape.std)
    return TensorView(name, density_of(pool), value_cdf(values, counts), found)
