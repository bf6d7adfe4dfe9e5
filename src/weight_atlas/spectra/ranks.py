"""Rank measures of a spectrum, each beside its value for a Gaussian matrix of the same shape.

sigma are the singular values in descending order, r = min(rows, columns), p = sigma / sum sigma and
q = sigma^2 / sum sigma^2. Effective rank: Roy and Vetterli, The effective rank, 2007.

The scatter of these measures over Gaussian matrices is what a label or a trend must exceed. Sums over eigenvalues that
repel each other have the same variance at any size (Lytova and Pastur, Central limit theorem for linear eigenvalue
statistics, 2009), so that large matrices are simulated by small ones of the same aspect ratio.
"""

from functools import lru_cache

import numpy as np
import pandas as pd

from weight_atlas.spectra.nulls import ENERGY_SHARES, gaussian_shares
from weight_atlas.spectra.spectrum_rows import SpectrumRow, floor_of, spectrum_rows

EPS = float(np.finfo(np.float64).eps)
TOLERANCE = 1e-6
COUNTS = [f"n{round(100 * share)}" for share in ENERGY_SHARES]
# Smaller side of the matrices that simulate larger ones.
SIMULATED = 64
# Measures that count dimensions: each has a share of r, a null and a ratio to the null.
MEASURES = ["erank", "erank_energy", "stable_rank", "rank_1pct", "numerical_rank", *COUNTS]
SPECTRUM_COLUMNS = ["method", "error_bound", "frobenius", "rounding", "zero_rows", "zero_cols", "sigma", "shuffled"]


def rank_measures(sigma: np.ndarray) -> dict[str, float]:
    """Rank measures of singular values, (r,) descending and not negative; NaN without a spectrum.

    erank: exp(-sum p ln p). erank_energy: the same of q. stable_rank: sum sigma^2 / sigma_1^2. rank_1pct: number of
    sigma above 1 % of the largest. n50 .. n99: components that hold 50 to 99 % of the energy.
    """
    if sigma.size == 0 or sigma[0] == 0:
        return dict.fromkeys(["erank", "erank_energy", "stable_rank", "rank_1pct", *COUNTS], float("nan"))
    relative = sigma / sigma[0]
    energy = relative**2
    cumulative = np.cumsum(energy) / energy.sum()
    return {
        "erank": _exp_entropy(relative),
        "erank_energy": _exp_entropy(energy),
        "stable_rank": float(energy.sum()),
        "rank_1pct": int((relative > 0.01).sum()),
        **{f"n{round(100 * share)}": components_for(cumulative, share) for share in ENERGY_SHARES},
    }


def components_for(cumulative: np.ndarray, share: float) -> int:
    """Number of leading components that reach a share of the energy; cumulative: (r,) ascending to one."""
    return min(int((cumulative < share).sum()) + 1, cumulative.size)


def numerical_rank(sigma: np.ndarray, rows: int, columns: int) -> float:
    """Number of sigma above sigma_1 * max(rows, columns) * eps of float64; NaN without a spectrum."""
    if sigma.size == 0:
        return float("nan")
    return int((sigma > sigma[0] * max(rows, columns) * EPS).sum())


def effective_ranks(spectra: pd.DataFrame) -> pd.DataFrame:
    """All measures of every matrix of a table of singular values, in its order.

    Every count of dimensions x comes with x_share (of r), x_null (the share of a Gaussian matrix of that shape) and
    x_relative (share over null). condition = sigma_1 / sigma_r; condition_resolved has the smallest sigma above the
    floor that the rounding of the stored type sets (see rounding_floor), below_floor counts those under it.
    status: "ok", "rounding-limited" (the smallest sigma lie under that floor, or are not known to 1e-6: condition,
    sigma_min and numerical_rank are then rounding), "zero", "empty" or "not finite".
    """
    rows = [_measured(row) for row in spectrum_rows(spectra)]
    kept = spectra.drop(columns=SPECTRUM_COLUMNS, errors="ignore").reset_index(drop=True)
    measured = pd.DataFrame(rows, columns=_columns())
    counts = ["rank_1pct", "numerical_rank", *COUNTS]
    return pd.concat([kept, measured.astype(dict.fromkeys(counts, "Int64"))], axis=1)


def components_of(spectra: pd.DataFrame) -> pd.DataFrame:
    """All components of the matrices of a table of singular values.

    Columns: id, component (from 1), sigma, energy (its share of the sum of squares), cumulative (the sum of shares).
    """
    tables = []
    for row in spectrum_rows(spectra):
        sigma = np.asarray(row.sigma, dtype=float)
        energy = sigma**2 / max((sigma**2).sum(), np.finfo(float).tiny)
        columns = {"component": np.arange(1, len(sigma) + 1), "sigma": sigma, "energy": energy}
        tables.append(pd.DataFrame({"id": row.id, **columns, "cumulative": np.cumsum(energy)}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["id", "component", "sigma"])


def notebook_view(ranks: pd.DataFrame) -> pd.DataFrame:
    """One row per matrix of a layer: layer_idx, weight_type, shape, eff_rank; experts as W_up[3]."""
    layers = ranks[ranks["layer"].notna()]
    expert = layers["expert"].map(lambda index: "" if pd.isna(index) else f"[{index}]").astype(str)
    view = pd.DataFrame(
        {
            "layer_idx": layers["layer"].astype("int64"),
            "weight_type": layers["role"].astype(str) + expert,
            "shape": layers["rows"].astype(str) + "x" + layers["cols"].astype(str),
            "eff_rank": layers["erank"],
        }
    )
    return view.reset_index(drop=True)


def _columns() -> list[str]:
    return [
        *["status", "r", "sigma_max", "sigma_min", "frobenius", "condition", "condition_null"],
        *["floor", "below_floor", "condition_resolved"],
        *[f"{name}{suffix}" for name in MEASURES for suffix in ("", "_share", "_null", "_relative")],
        *["method", "error_bound"],
    ]


def _measured(row: SpectrumRow) -> dict[str, object]:
    sigma, count = np.asarray(row.sigma, dtype=float), min(row.rows, row.cols)
    null = gaussian_shares(row.rows, row.cols)
    values = {**rank_measures(sigma), "numerical_rank": numerical_rank(sigma, row.rows, row.cols)}
    measured = {"r": count, "frobenius": row.frobenius, "method": row.method, "error_bound": row.error_bound}
    for name in MEASURES:
        share = values[name] / count if count else float("nan")
        expected = null.get(name, float("nan"))
        measured |= {
            name: values[name],
            f"{name}_share": share,
            f"{name}_null": expected,
            f"{name}_relative": share / expected,
        }
    return {**measured, **_small_end(row, sigma), "condition_null": null.get("condition", float("nan"))}


def _small_end(row: SpectrumRow, sigma: np.ndarray) -> dict[str, object]:
    """The largest and smallest sigma, and how many lie above the rounding floor."""
    if sigma.size == 0 or sigma[0] == 0:
        status = {"empty": "empty", "zero": "zero"}.get(row.method, "not finite")
        nothing = 0.0 if status == "zero" else float("nan")
        return {"status": status, "sigma_max": nothing, "sigma_min": nothing, "below_floor": 0}
    floor = floor_of(row)
    resolved = sigma[sigma >= floor]
    with np.errstate(divide="ignore"):
        limited = resolved.size < sigma.size or row.error_bound * sigma[0] / sigma[-1] > TOLERANCE
        return {
            "status": "rounding-limited" if limited else "ok",
            "sigma_max": sigma[0],
            "sigma_min": sigma[-1],
            "condition": sigma[0] / sigma[-1],
            "floor": floor,
            "below_floor": sigma.size - resolved.size,
            "condition_resolved": sigma[0] / max(sigma[-1], floor),
        }


def _exp_entropy(weights: np.ndarray) -> float:
    shares = weights / weights.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


@lru_cache(maxsize=4096)
def gaussian_scatter(rows: int, columns: int, draws: int = 100) -> dict[str, float]:
    """Standard deviations over Gaussian matrices of every measure of rank_measures; simulated with a fixed seed."""
    small, large = sorted((rows, columns))
    size = min(small, SIMULATED)
    if size == 0:
        return {}
    random = np.random.default_rng([size, large])
    return _deviations(_triangles(random, draws, size, large * size / small))


@lru_cache(maxsize=256)
def kernel_scatter(head_dim: int, left: int, right: int, draws: int = 100) -> dict[str, float]:
    """The same over kernels L^T R of independent Gaussian factors L (head_dim, left) and R (head_dim, right)."""
    inner = min(head_dim, left, right)
    size = min(inner, SIMULATED)
    if size == 0:
        return {}
    random = np.random.default_rng([size, left, right])
    longer = [max(width, head_dim) * size / inner for width in (left, right)]
    factors = [_triangles(random, draws, size, width) for width in longer]
    return _deviations(factors[0].transpose(0, 2, 1) @ factors[1])


def _triangles(random: np.random.Generator, draws: int, rows: int, columns: float) -> np.ndarray:
    """(draws, rows, rows) triangles with the singular values of Gaussian matrices (rows, columns), rows <= columns.

    By Bartlett's decomposition, whose cost does not depend on the longer side.
    """
    triangles = np.tril(random.standard_normal((draws, rows, rows)), -1)
    diagonal = np.arange(rows)
    triangles[:, diagonal, diagonal] = random.chisquare(columns - diagonal, (draws, rows)) ** 0.5
    return triangles


def _deviations(matrices: np.ndarray) -> dict[str, float]:
    measured = [rank_measures(sigma) for sigma in np.linalg.svd(matrices, compute_uv=False)]
    return {name: float(np.std([measures[name] for measures in measured], ddof=1)) for name in measured[0]}
