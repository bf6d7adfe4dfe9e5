"""The rows of an embedding as a cloud of vectors: norms, common direction, isotropy, nearest neighbours."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from weight_atlas.spectra.marchenko_pastur import gaussian_spectrum

# Rows that are looked at together: 64 MB of a width of 1,024.
CHUNK = 8192


def chunks(weight: Any) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows in float64) of a tensor, or an array, (v, d): one chunk after the other."""
    for start in range(0, len(weight), CHUNK):
        yield start, _double(weight[start : start + CHUNK])


def _double(rows: Any) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.double().numpy()


def row_norms(weight: Any) -> np.ndarray:
    """(v,) L2 norms; NaN for rows that are not finite."""
    return np.concatenate([_norms(rows) for _, rows in chunks(weight)]) if len(weight) else np.empty(0)


def _norms(rows: np.ndarray) -> np.ndarray:
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0), np.finfo(np.float64).tiny)
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(rows / scale[:, None], axis=1) * scale
    return np.where(np.isfinite(rows).all(axis=1), norms, np.nan)


def cloud(weight: Any) -> tuple[dict[str, Any], pd.DataFrame, np.ndarray]:
    """Measures of the rows of a tensor (v, d), a table of the rows, and the variances of their principal components in
    units of the largest squared norm.

    The table: norm, and mean_cosine, the cosine with the mean of all rows' directions. Rows that are zero or not finite
    have a norm at most, and enter nothing else. The measures, over the n rows that are left:
    norm_mean, norm_std, norm_min, norm_median, norm_max;
    mean_cosine: of all pairs, exact: (|sum u|^2 - n) / (n (n - 1)) with u the rows of norm one; 0 for rows in all
        directions (mean_cosine_sd: its standard deviation then);
    common_share: |mean row|^2 / mean |row|^2, beside 1 / n;
    first_share: share of the variance in the first principal component, beside that of Gaussian rows;
    isoscore: IsoScore (Rudman, Gillman, Rayne, Eickhoff, 2022) of the variances of the components, 0 for a line and 1
        for a ball, beside that of as many Gaussian rows.
    """
    norms = row_norms(weight)
    used = np.isfinite(norms) & (norms > 0)
    count, width = int(used.sum()), int(weight.shape[1])
    scale = float(np.nanmax(norms)) if count else 1.0
    total, direction = np.zeros(width), np.zeros(width)
    second = np.zeros((width, width))
    for start, rows in chunks(weight):
        own = used[start : start + len(rows)]
        part = rows[own]
        direction += (part / norms[start : start + len(rows)][own, None]).sum(axis=0)
        part = part / scale
        total += part.sum(axis=0)
        second += part.T @ part
    table = pd.DataFrame({"norm": norms, "mean_cosine": _cosines_with(weight, norms, direction)})
    numbers: dict[str, Any] = {
        "rows": len(norms),
        "cols": width,
        "zero_rows": int((norms == 0).sum()),
        "used_rows": count,
    }
    if count < 2:
        return numbers, table, np.empty(0)
    mean = total / count
    energy = float(np.trace(second)) / count
    covariance = second / count - np.outer(mean, mean)
    variances = np.clip(np.linalg.eigvalsh(covariance)[::-1], 0, None)
    # What is left of a variance that the mean took away is rounding.
    variances[variances < 1e-12 * energy] = 0.0
    null = gaussian_variances(count, width)
    known = norms[used]
    return (
        {
            **numbers,
            "norm_mean": known.mean(),
            "norm_std": known.std(),
            "norm_min": known.min(),
            "norm_median": float(np.median(known)),
            "norm_max": known.max(),
            "mean_cosine": float((direction @ direction - count) / (count * (count - 1))),
            "mean_cosine_null": 0.0,
            "mean_cosine_null_sd": float((2 / (count * (count - 1) * width)) ** 0.5),
            "common_share": float(mean @ mean) / energy,
            "common_share_null": 1 / count,
            "first_share": float(variances[0] / variances.sum()) if variances.sum() > 0 else np.nan,
            "first_share_null": float(null[0] / null.sum()),
            "isoscore": isoscore(variances),
            "isoscore_null": isoscore(null),
        },
        table,
        variances,
    )


def _cosines_with(weight: Any, norms: np.ndarray, direction: np.ndarray) -> np.ndarray:
    size = float(np.linalg.norm(direction))
    parts = []
    for start, rows in chunks(weight):
        own = norms[start : start + len(rows)]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            parts.append((rows / own[:, None]) @ (direction / size) if size > 0 else np.full(len(rows), np.nan))
    found = np.concatenate(parts) if parts else np.empty(0)
    return np.where(norms > 0, np.clip(found, -1, 1), np.nan)


def gaussian_variances(count: int, width: int) -> np.ndarray:
    """(width,) variances of the components of independent Gaussian rows (count, width), descending."""
    spectrum = gaussian_spectrum(count - 1, width)[::-1]
    return np.pad(np.asarray(spectrum), (0, width - len(spectrum)))


def isoscore(variances: np.ndarray) -> float:
    """IsoScore of the variances of all d principal components; NaN for d = 1 or no variance.

    With l the variances scaled to a norm of sqrt d and delta = |l - 1| / sqrt(2 (d - sqrt d)) it is
    (d phi - 1) / (d - 1), phi = (d - delta^2 (d - sqrt d))^2 / d^2.
    """
    d = len(variances)
    size = float(np.linalg.norm(variances))
    if d < 2 or size == 0:
        return float("nan")
    scaled = variances * (d**0.5 / size)
    defect = float(((scaled - 1) ** 2).sum()) / (2 * (d - d**0.5))
    phi = (d - defect * (d - d**0.5)) ** 2 / d**2
    return (d * phi - 1) / (d - 1)


def chosen_tokens(norms: np.ndarray, count: int, given: list[int]) -> dict[int, str]:
    """The tokens whose neighbours are looked for, and why: given, highest or lowest norm, or spread over the ids.

    Rows of zeros, or not finite, have no neighbours.
    """
    usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    order = usable[np.argsort(norms[usable], kind="stable")]
    spread = usable[np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int)] if count else []
    kinds = [("highest norm", order[::-1][:count]), ("lowest norm", order[:count]), ("spread", spread)]
    chosen = {int(token): "given" for token in given if token in set(usable.tolist())}
    for kind, tokens in kinds:
        for token in tokens:
            chosen.setdefault(int(token), kind)
    return chosen


def nearest(weight: Any, norms: np.ndarray, tokens: list[int], count: int) -> pd.DataFrame:
    """The rows that are nearest to some rows by their cosine: exact, chunk by chunk, ties by the lower id.

    Columns: token_id, rank (from 1), neighbour_id, cosine.
    """
    queries = np.stack([_double(weight[token]) / norms[token] for token in tokens])
    best = [pd.DataFrame({"neighbour_id": pd.Series(dtype=int), "cosine": pd.Series(dtype=float)})] * len(tokens)
    for start, rows in chunks(weight):
        own = norms[start : start + len(rows)]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            cosines = (queries @ (rows / own[:, None]).T).clip(-1, 1)
        cosines[:, ~(own > 0)] = -np.inf
        for place, token in enumerate(tokens):
            if start <= token < start + len(rows):
                cosines[place, token - start] = -np.inf
            top = np.lexsort((np.arange(len(rows)), -cosines[place]))[:count]
            top = top[np.isfinite(cosines[place, top])]
            found = pd.DataFrame({"neighbour_id": start + top, "cosine": cosines[place, top]})
            joined = pd.concat([best[place], found]) if len(best[place]) else found
            best[place] = joined.sort_values("cosine", ascending=False, kind="stable").head(count)
    parts = [
        part.assign(token_id=token, rank=np.arange(1, len(part) + 1)) for token, part in zip(tokens, best, strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)[["token_id", "rank", "neighbour_id", "cosine"]]
    return table.astype({"neighbour_id": "int64", "cosine": "float64"})


def nearest_null(count: int, width: int) -> float:
    """Median cosine of a row with the nearest of count - 1 others in independent directions of width dimensions.

    The square of such a cosine has the beta distribution B(1/2, (d - 1) / 2).
    """
    if count < 2 or width < 2:
        return float("nan")
    beyond = -np.expm1(np.log(0.5) / (count - 1))
    if beyond >= 0.5:
        return 0.0
    return float(betaincinv(0.5, (width - 1) / 2, 1 - 2 * beyond) ** 0.5)
