"""Columns that compare a row with others of its table, for rules whose condition no single row can tell.

Each function takes a table as its step wrote it and gives the same rows, with more columns.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from weight_atlas.findings.channels import LISTS as CHANNEL_LISTS
from weight_atlas.findings.channels import units

# Layers on each side of a tensor that count as its neighbours.
REACH = 2
# Statistics that two tensors with the same values share to the last bit.
FINGERPRINT = (
    "role", "rows", "cols", "dtype", "n", "mean", "std", "skew", "kurtosis", "l1", "l2", "min", "max", "absmax_row",
    "absmax_col", "p1", "p5", "p25", "p50", "p75", "p95", "p99",
)  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
# Steps of an int8 quantizer on each side of zero; its error is spread evenly over a step.
INT8_STEPS = 127
# Singular values that a spectrum needs to be told from a random one.
LEAST_TELLING = 64


def defects(statistics: pd.DataFrame) -> pd.DataFrame:
    """Add to the statistics of tensors not_finite, the number of NaN and infinite elements."""
    return statistics.assign(not_finite=statistics["nan"] + statistics["inf"], infinite=statistics["inf"])


def outliers(statistics: pd.DataFrame) -> pd.DataFrame:
    """Add to the statistics of tensors what the largest weight of each is like, and what it costs.

    weight: its value, with its sign. sigma: its magnitude in standard deviations. reach: its magnitude over the mean
    magnitude of the weights that are not zero, so that zeros make no outliers. int8_sqnr: the signal-to-noise ratio in
    decibels of rounding the whole tensor to 8 bits with one scale, 10 log10(12 rms^2 127^2 / absmax^2).
    """
    with np.errstate(all="ignore"):
        return statistics.assign(
            weight=statistics["max"].where(statistics["max"] == statistics["absmax"], statistics["min"]),
            sigma=statistics["absmax"] / statistics["std"],
            reach=statistics["dynamic_range"] * (1 - statistics["zeros"] / statistics["n"]),
            int8_sqnr=10 * np.log10(12 * (INT8_STEPS * statistics["rms"] / statistics["absmax"]) ** 2),
        )


def neighbours(statistics: pd.DataFrame) -> pd.DataFrame:
    """Add to the statistics of tensors how the size of each stands to those of its role in the layers beside it.

    neighbour_rms: median of the rms over the matrices of its stack and role, other than itself, in its layer and the
    two on each side; of an even number of them that of the two in the middle, or between, which is nearest to its own.
    jump: rms / neighbour_rms, or its inverse where that is larger. usual_jump: median of the jumps of the role. All
    missing outside layers, and for tensors that are zero or of a role with fewer than four matrices.
    """
    nothing = pd.Series(np.nan, index=statistics.index)
    table = statistics.assign(neighbour_rms=nothing, jump=nothing, usual_jump=nothing)
    inside = statistics["layer"].notna() & statistics["cols"].notna() & (statistics["rms"] > 0)
    for _, rows in statistics[inside & (statistics["role"] != "other")].groupby(["stack", "role"], sort=False):
        if len(rows) < 4:
            continue
        layers, sizes = rows["layer"].to_numpy(dtype=int), np.log(rows["rms"].to_numpy(dtype=float))
        beside = np.array([_median_beside(layers, sizes, each) for each in range(len(rows))])
        jump = np.exp(np.abs(sizes - beside))
        table.loc[rows.index, "neighbour_rms"] = np.exp(beside)
        table.loc[rows.index, "jump"] = jump
        table.loc[rows.index, "usual_jump"] = np.nanmedian(jump) if np.isfinite(jump).any() else np.nan
    return table


def _median_beside(layers: np.ndarray, sizes: np.ndarray, place: int) -> float:
    near = np.abs(layers - layers[place]) <= REACH
    near[place] = False
    if not near.any():
        return np.nan
    beside = np.sort(sizes[near])
    # One neighbour that jumped must not make its neighbours jump.
    return float(np.clip(sizes[place], beside[(len(beside) - 1) // 2], beside[len(beside) // 2]))


def copies(statistics: pd.DataFrame) -> pd.DataFrame:
    """Add copy_of to the statistics of tensors: the first tensor of the table that agrees in every statistic.

    "" where none does. Of matrices whose values differ from each other, such agreement is no chance: all moments and
    quantiles in float64 and the place of the largest weight are the same.
    """
    table = statistics.assign(copy_of="")
    inside = statistics[statistics["cols"].notna() & (statistics["std"] > 0) & (statistics["n"] >= 64)]
    first = inside.groupby(list(FINGERPRINT), sort=False, dropna=False)["id"].transform("first")
    table.loc[inside.index, "copy_of"] = first.where(first != inside["id"], "")
    return table


def types(statistics: pd.DataFrame) -> pd.DataFrame:
    """Add to the statistics of tensors usual_dtype, the stored type of most values of the matrices of that role.

    "" for vectors, and where a stored type is no plain number, since quantized formats mix types on purpose.
    """
    table = statistics.assign(usual_dtype="")
    plain = statistics["dtype"].isin(FLOATS) & statistics["cols"].notna() & (statistics["role"] != "other")
    for _, rows in statistics[plain].groupby(["stack", "role"], sort=False):
        sizes = rows.groupby("dtype")["n"].sum().sort_index()
        table.loc[rows.index, "usual_dtype"] = sizes.idxmax()
    return table


def untrained(tails: pd.DataFrame) -> pd.DataFrame:
    """Add to the table of heavy tails which matrices look like noise, in a model most of whose matrices do not.

    noise_like: of a random-like reading; missing for matrices with fewer than 64 singular values, which tell little.
    most_trained: whether less than half of those that tell look like noise.
    """
    told = (tails["eigenvalues"] >= LEAST_TELLING) & (tails["reading"] != "")
    noise = (tails["reading"] == "random-like").astype("boolean").where(told)
    return tails.assign(noise_like=noise, most_trained=bool(noise.mean() < 0.5) if told.any() else False)


# Columns of lists that a view reads; a table is read without its others.
LISTS: dict[str, list[str]] = {"units": CHANNEL_LISTS}
VIEWS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    view.__name__: view for view in (defects, outliers, neighbours, copies, types, untrained, units)
}
