"""Pooled statistics of tensors: by role, and by layer."""

import numpy as np
import pandas as pd

from weight_atlas.weights.pooling import NOT_POOLED

ALL = "all"  # stands for the role in rows of all matrices of a layer


def by_role(statistics: pd.DataFrame) -> pd.DataFrame:
    """One row for each role of each stack, in the order of the table; statistics: of weight_statistics.

    Columns: tensors and n (elements); mean, std, skew and kurtosis of all elements, which follow exactly from those
    of the tensors; min, max and absmax_id, the tensor with the largest magnitude; shares of zeros and outliers;
    the medians over the tensors of ks_distance and student_nu; not_finite, the number of NaN and infinite elements;
    tensor, the id of a tensor of role `other`: these are not pooled, each has a row.
    """
    unpooled_id = statistics["id"].where(statistics["role"] == NOT_POOLED, "")
    table = _grouped(statistics.assign(tensor=unpooled_id), ["stack", "role", "tensor"])
    return table[[*table.columns.drop("tensor"), "tensor"]]


def by_layer(statistics: pd.DataFrame) -> pd.DataFrame:
    """One row for each role of each layer that has matrices, and one of role "all"; columns as of by_role, no tensor.

    Tensors of role `other` are left out.
    """
    inside = statistics[statistics["layer"].notna() & statistics["cols"].notna() & (statistics["role"] != NOT_POOLED)]
    table = _grouped(pd.concat([inside, inside.assign(role=ALL)], ignore_index=True), ["stack", "layer", "role"])
    return table.sort_values(["stack", "layer"], kind="stable", ignore_index=True)


def _grouped(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    rows = [dict(zip(keys, key, strict=True)) | _pooled(group) for key, group in table.groupby(keys, sort=False)]
    return pd.DataFrame(rows, columns=[*keys, *_pooled(table.iloc[:0])])


def _pooled(group: pd.DataFrame) -> dict[str, object]:
    finite = (group["n"] - group["nan"] - group["inf"]).to_numpy(dtype=float)
    known, total = finite > 0, finite.sum()
    outliers = (group["outlier_share"].to_numpy() * finite)[known].sum()
    absmax = group["absmax"].dropna()
    return {
        "tensors": len(group),
        "n": int(group["n"].sum()),
        **_moments(group[known], finite[known]),
        "min": group["min"].min(),
        "max": group["max"].max(),
        "absmax_id": group.loc[absmax.idxmax(), "id"] if len(absmax) else "",
        "zeros_share": group["zeros"].sum() / total if total else np.nan,
        "outlier_share": outliers / total if total else np.nan,
        "ks_distance_median": group["ks_distance"].median(),
        "student_nu_median": group["student_nu"].median(),
        "not_finite": int(group["nan"].sum() + group["inf"].sum()),
    }


def _moments(group: pd.DataFrame, n: np.ndarray) -> dict[str, float]:
    """Moments of the union of samples from those of each: central powers about the common mean."""
    if not len(group):
        return dict.fromkeys(("mean", "std", "skew", "kurtosis"), np.nan)
    mean = group["mean"].to_numpy()
    m2 = group["std"].to_numpy() ** 2
    m3 = np.nan_to_num(group["skew"].to_numpy()) * m2**1.5
    m4 = np.nan_to_num(group["kurtosis"].to_numpy() + 3) * m2**2
    share = n / n.sum()
    common = (share * mean).sum()
    d = mean - common
    s2 = (share * (m2 + d**2)).sum()
    s3 = (share * (m3 + 3 * d * m2 + d**3)).sum()
    s4 = (share * (m4 + 4 * d * m3 + 6 * d**2 * m2 + d**4)).sum()
    return {
        "mean": common,
        "std": s2**0.5,
        "skew": s3 / s2**1.5 if s2 > 0 else np.nan,
        "kurtosis": s4 / s2**2 - 3 if s2 > 0 else np.nan,
    }
