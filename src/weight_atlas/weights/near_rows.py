"""Rows that point almost the same way as another one: all pairs of up to 16,000 rows, beyond that by projections.

The chord between unit vectors of cosine c is sqrt(2 - 2 c). Sixteen Gaussian projections shrink or stretch its square
like chi-squared with 16 degrees of freedom, so that the candidates within a radius, few among random rows, hold nearly
all near pairs; each candidate's cosine is then computed in full.
"""

from dataclasses import dataclass

import numpy as np

from weight_atlas.weights.row_classes import Rows

EXACT_ROWS = 16_000
_BLOCK = 512
_PROJECTIONS = 16
_CANDIDATES = 8  # nearest by projections, of each row
_WITHIN = 0.9995  # share of pairs of just the wanted cosine that projections keep within the radius
_PLANTED = 200
_ROUNDING = 1e-4  # of cosines in float32, by far


@dataclass(frozen=True)
class NearRows:
    """For each row the partner of largest cosine above the wanted one, -1 without one, and that cosine.

    method: exact or projections. recall: share of planted pairs of just the wanted cosine that the method finds.
    """

    partner: np.ndarray
    cosine: np.ndarray
    method: str
    recall: float


def cost(count: int, columns: int) -> float:
    """Multiplications that near_rows takes for a matrix, about."""
    if count <= EXACT_ROWS:
        return float(count) ** 2 * columns
    return float(count) * (columns * (_PROJECTIONS + _CANDIDATES) + 20_000)


def near_rows(rows: Rows, count: int, columns: int, cosine: float) -> NearRows:
    """Find for each row another one with a cosine above the wanted one; rows of zeros, or not finite, have none."""
    if count <= EXACT_ROWS:
        candidates, recall, method = _all_pairs(rows, count, columns, cosine)[:, None], 1.0, "exact"
    else:
        candidates, recall = _projected(rows, count, columns, cosine)
        method = "projections"
    best, found = np.full(count, -1), np.full(count, np.nan)
    step = max(1, (1 << 20) // max(1, columns))
    for k in range(candidates.shape[1]):
        with_one = np.flatnonzero(candidates[:, k] >= 0)
        for start in range(0, len(with_one), step):
            mine = with_one[start : start + step]
            other = candidates[mine, k]
            cosines = (_unit(_gathered(rows, mine), np.float64) * _unit(_gathered(rows, other), np.float64)).sum(1)
            better = (cosines > cosine) & ~(cosines <= found[mine])
            best[mine[better]], found[mine[better]] = other[better], cosines[better]
    return NearRows(best, found, method, recall)


def _gathered(rows: Rows, which: np.ndarray) -> np.ndarray:
    return np.concatenate([rows(row, row + 1) for row in which])


def _unit(x: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Rows of length 1; those of zeros, or not finite, become NaN."""
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scaled = x / np.where(np.isfinite(largest) & (largest > 0), largest, np.nan)
        return (scaled / np.sqrt((scaled**2).sum(axis=1, keepdims=True))).astype(dtype)


def _all_pairs(rows: Rows, count: int, columns: int, cosine: float) -> np.ndarray:
    """The nearest other row of each, where its cosine in float32 may be above the wanted one; -1 elsewhere."""
    unit = np.zeros((count, columns), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        unit[start : start + _BLOCK] = _unit(rows(start, min(start + _BLOCK, count)))
    known = np.isfinite(unit.sum(axis=1))
    unit[~known] = 0.0
    partner = np.full(count, -1)
    for start in range(0, count if columns and known.sum() > 1 else 0, _BLOCK):
        block = unit[start : start + _BLOCK] @ unit.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -2
        nearest = block.argmax(axis=1)
        close = block[np.arange(len(block)), nearest] > cosine - _ROUNDING
        partner[start : start + _BLOCK] = np.where(close & known[start : start + _BLOCK] & known[nearest], nearest, -1)
    return partner


def _projected(rows: Rows, count: int, columns: int, cosine: float) -> tuple[np.ndarray, float]:
    """Candidates of each row, -1 where there are fewer, and the share of planted pairs among the candidates."""
    from scipy.spatial import cKDTree
    from scipy.stats import chi2

    random = np.random.default_rng([count, columns])
    directions = random.standard_normal((columns, _PROJECTIONS))
    points, step = np.zeros((count, _PROJECTIONS)), max(1, (1 << 20) // columns)
    for start in range(0, count, step):
        points[start : start + step] = _unit(rows(start, min(start + step, count)), np.float64) @ directions
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    candidates = np.full((count, _CANDIDATES), -1)
    if len(known) < 2:
        return candidates, 1.0
    chosen = random.choice(known, min(_PLANTED, len(known)), replace=False)
    planted = _turned(_unit(_gathered(rows, chosen), np.float64), cosine + 1e-6, random) @ directions
    tree = cKDTree(points[known])
    radius = np.sqrt((2 - 2 * cosine) * chi2.ppf(_WITHIN, _PROJECTIONS))
    for part in np.array_split(known, max(1, len(known) // 4096)):
        _, near = tree.query(points[part], k=_CANDIDATES + 1, distance_upper_bound=radius)
        others = np.append(known, -1)[near]
        own = others == part[:, None]
        own[~own.any(axis=1), -1] = True  # more rows like it than were asked for
        candidates[part] = others[~own].reshape(len(part), _CANDIDATES)
    _, near = tree.query(planted, k=_CANDIDATES, distance_upper_bound=radius)
    return candidates, float((np.append(known, -1)[near] == chosen[:, None]).any(axis=1).mean())


def _turned(unit: np.ndarray, cosine: float, random: np.random.Generator) -> np.ndarray:
    """Unit vectors of a given cosine to the given ones, in random directions."""
    other = random.standard_normal(unit.shape)
    other -= (other * unit).sum(axis=1, keepdims=True) * unit
    length = np.linalg.norm(other, axis=1, keepdims=True)
    return cosine * unit + np.sqrt(1 - cosine**2) * other / np.where(length > 0, length, 1)
