"""Rows and columns of matrices from their profiles: variances, norms, and channels that stand out."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

IDENTITY = ["id", "role", "stack", "layer", "expert", "rows", "cols"]
NEEDED = [
    *IDENTITY,
    *(f"{axis}_{name}" for axis in ("row", "col") for name in ("sums", "squares", "absmax", "not_finite")),
]
# A channel stands out where its norm is so many robust standard deviations above the median, and so many times it.
ROBUST_HIGH, TIMES = 6.0, 1.5
_TOP = 0.01  # share of the channels whose energy is reported
_MEAN_ABOVE = 2.665  # of a standard normal, over its highest 1 %


def row_variances(profile: Any) -> np.ndarray:
    """Population variance of the finite elements of each row; NaN for rows without any."""
    n = np.where(profile.row_not_finite < profile.cols, profile.cols - np.asarray(profile.row_not_finite), np.nan)
    return np.maximum(profile.row_squares / n - (profile.row_sums / n) ** 2, 0.0)


def layer_variances(profiles: Iterable[Any]) -> dict[tuple[str, int], np.ndarray]:
    """Variances of the rows by role and layer, experts together; matrices without a layer and role `other` left out.

    Of two stacks the roles of the second one are named with it.
    """
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    stacks: list[str] = []
    for profile in profiles:
        if pd.isna(profile.layer) or profile.role == "other" or not profile.rows * profile.cols:
            continue
        if profile.stack not in stacks:
            stacks.append(profile.stack)
        name = profile.role if profile.stack == stacks[0] else f"{profile.stack} {profile.role}"
        found.setdefault((name, int(profile.layer)), []).append(row_variances(profile))
    return {key: np.concatenate(values) for key, values in found.items()}


def channel_table(profiles: Iterable[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row a matrix with the spread of its rows and columns, and a row for each channel that stands out.

    profiles: of read_part_rows with NEEDED. Of matrices: row_variance_median; row_variance_cv, the standard deviation
    of the rows' variances over their mean, with its null sqrt(2 / (cols - 1)); then for axis row and col: the least,
    median and largest norm, {axis}_outliers (channels whose norm is 6 robust standard deviations above the median and
    1.5 times it), {axis}_outlier_energy, their share of the sum of squares, {axis}_top_energy, the share of the 1 %
    largest, with its null. Of channels: id, role, layer, expert, axis, channel, norm, ratio (to the median), absmax.
    """
    tables, channels = [], []
    for profile in profiles:
        identity = {name: getattr(profile, name) for name in IDENTITY}
        variances = row_variances(profile) if profile.rows and profile.cols else np.zeros(0)
        known = variances[np.isfinite(variances)]
        row = {"row_variance_median": _of(np.median, known), "row_variance_cv": np.nan, "row_variance_cv_null": np.nan}
        if len(known) and profile.cols > 1:
            row["row_variance_cv"] = float(known.std() / known.mean()) if known.mean() > 0 else np.nan
            row["row_variance_cv_null"] = float((2 / (profile.cols - 1)) ** 0.5)
        for axis, across in (("row", profile.cols), ("col", profile.rows)):
            norms = np.sqrt(np.asarray(getattr(profile, f"{axis}_squares")))
            measured, outliers = _axis(norms, across)
            row |= {f"{axis}_{name}": value for name, value in measured.items()}
            largest, middle = getattr(profile, f"{axis}_absmax"), measured["norm_median"]
            some = {name: identity[name] for name in ("id", "role", "stack", "layer", "expert")}
            channels += [
                {**some, "axis": axis, "channel": int(place), "norm": norms[place], "ratio": norms[place] / middle}
                | {"absmax": largest[place]}
                for place in outliers
            ]
        tables.append(identity | row)
    columns = ["id", "role", "stack", "layer", "expert", "axis", "channel", "norm", "ratio", "absmax"]
    integers = {"layer": "Int64", "expert": "Int64"}
    table = pd.DataFrame(tables) if tables else pd.DataFrame(columns=IDENTITY)
    return table.astype(integers), pd.DataFrame(channels, columns=columns).astype(integers)


def _axis(norms: np.ndarray, across: int) -> tuple[dict[str, float], np.ndarray]:
    middle = _of(np.median, norms)
    spread = 1.4826 * _of(np.median, np.abs(norms - middle))
    energy, top = norms**2, int(np.ceil(_TOP * len(norms)))
    total = float(energy.sum())
    outliers = np.flatnonzero((norms > middle + ROBUST_HIGH * spread) & (norms > TIMES * middle) & (middle > 0))
    shown = outliers[np.argsort(-norms[outliers], kind="stable")]
    some = total > 0 and np.isfinite(total)
    return {
        "norm_min": _of(np.min, norms),
        "norm_median": middle,
        "norm_max": _of(np.max, norms),
        "outliers": len(outliers),
        "outlier_energy": float(energy[outliers].sum() / total) if some else np.nan,
        "top_energy": float(np.sort(energy)[::-1][:top].sum() / total) if some else np.nan,
        "top_energy_null": top / len(norms) * (1 + _MEAN_ABOVE * (2 / across) ** 0.5) if some else np.nan,
    }, shown


def _of(function: Any, values: np.ndarray) -> float:
    return float(function(values)) if len(values) else float("nan")
