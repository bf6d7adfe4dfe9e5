"""Sparsity of tensors, from their exact histograms: small magnitudes, concentration, and what magnitude pruning keeps.

Nulls are those of a Gaussian tensor. All over the finite elements.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.weights.distribution import edges

ABSOLUTE = {"below_1e_6": 1e-6, "below_1e_4": 1e-4, "below_1e_2": 1e-2}
OF_RMS = {"below_rms_1e_3": 1e-3, "below_rms_1e_2": 1e-2, "below_rms_1e_1": 1e-1}
GINI_NULL = 2**0.5 - 1
PRUNED = tuple(k / 10 for k in range(1, 10))
IDENTITY = ["id", "role", "stack", "layer", "expert", "rows", "cols", "dtype"]
# Columns that a table has even if no tensor of it has a finite element.
SHARES = [
    "elements", "zeros_share", *ABSOLUTE, *(f"{name}{end}" for name in OF_RMS for end in ("", "_null")),
    "gini", "gini_null", "hoyer", "hoyer_null",
]  # fmt: skip


def sparsity(parts: Iterable[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row a tensor with its shares and concentrations, and its magnitude-pruning curve, a row a share.

    parts: of histograms. Of tensors: elements (finite), zeros_share, the shares of magnitudes up to ABSOLUTE, and up to
    OF_RMS times the root mean square, each of the latter with its null; gini and hoyer of the magnitudes with their
    nulls. Of the curve: id, role, stack, layer, expert, pruned, threshold, energy_kept and energy_kept_null.
    """
    tensors, curves = [], []
    for part in parts:
        for row in part.itertuples(index=False):
            identity = {name: getattr(row, name) for name in IDENTITY}
            magnitudes, counts = _magnitudes(np.asarray(row.values), np.asarray(row.counts))
            tensors.append(identity | _shares(row, magnitudes, counts))
            curves += [identity | point for point in pruning_curve(magnitudes, counts)]
    integers = dict.fromkeys(("layer", "expert", "rows", "cols"), "Int64")
    curve = pd.DataFrame(curves, columns=[*IDENTITY, "pruned", "threshold", "energy_kept", "energy_kept_null"])
    table = pd.DataFrame(tensors, columns=[*IDENTITY, *SHARES])
    return table.astype(integers), curve.astype(integers).drop(columns=["rows", "cols", "dtype"])


def _magnitudes(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct magnitudes, ascending, and their counts."""
    magnitudes, where = np.unique(np.abs(values), return_inverse=True)
    return magnitudes, np.bincount(where, counts, len(magnitudes)).astype(np.int64)


def _shares(row: Any, magnitudes: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    from scipy.special import erf

    n = int(counts.sum())
    if not n:
        return {"elements": 0}
    rms = row.l2 / n**0.5
    named = {"elements": n, "zeros_share": row.zeros / n}
    named |= {name: getattr(row, f"near_zeros{name.removeprefix('below')}") / n for name in ABSOLUTE}
    for name, factor in OF_RMS.items():
        named[name] = _share_up_to(magnitudes, counts, row.distribution, factor * rms)
        named[f"{name}_null"] = float(erf(factor / 2**0.5))
    return named | {
        "gini": gini(magnitudes, counts),
        "gini_null": GINI_NULL,
        "hoyer": hoyer(n, row.l1, row.l2),
        "hoyer_null": hoyer(n, n * (2 / np.pi) ** 0.5, n**0.5),
    }


def _share_up_to(magnitudes: np.ndarray, counts: np.ndarray, kind: str, bound: float) -> float:
    """Share of magnitudes up to a bound; a bin that contains it counts in proportion."""
    lower, upper = edges(magnitudes, kind)
    width = np.where(upper > lower, upper - lower, 1.0)
    within = np.where(upper > lower, (bound - lower) / width, magnitudes <= bound).clip(0, 1)
    return float((counts * within).sum() / counts.sum())


def gini(magnitudes: np.ndarray, counts: np.ndarray) -> float:
    """Gini coefficient of magnitudes, 0 if all are equal, near 1 if few hold all: 1 - 2 area under the Lorenz curve.

    sum over ascending i of (2 i - n - 1) x_i / (n sum x), by groups of equal magnitudes; NaN where all are 0.
    """
    counts = counts.astype(np.float64)
    n, total = counts.sum(), (counts * magnitudes).sum()
    if not total > 0:
        return float("nan")
    before = np.cumsum(counts) - counts
    return float((magnitudes / total * counts * (2 * before + counts - n)).sum() / n)


def hoyer(n: int, l1: float, l2: float) -> float:
    """Hoyer's sparseness (2004), (sqrt n - l1 / l2) / (sqrt n - 1): 0 if all are equal, 1 if one holds all."""
    if n < 2 or not l2 > 0:
        return float("nan")
    return float((n**0.5 - l1 / l2) / (n**0.5 - 1))


def pruning_curve(magnitudes: np.ndarray, counts: np.ndarray) -> list[dict[str, float]]:
    """What is kept when a share of the elements, the smallest ones, is set to 0.

    pruned; threshold: the largest magnitude that is removed; energy_kept: sum of squares that is left, as a share;
    energy_kept_null: for a Gaussian, whose smallest share p holds P(chi^2_3 <= z^2), z = Phi^-1((1 + p) / 2). Of
    floor(n p) elements, those of one magnitude count alike. Empty where there are no elements but zeros.
    """
    from scipy.special import ndtri
    from scipy.stats import chi2

    if not len(magnitudes) or not magnitudes[-1] > 0:
        return []
    scaled = magnitudes / magnitudes[-1]  # so that no square overflows
    energy, ends = counts * scaled**2, np.cumsum(counts)
    cumulated = np.cumsum(energy)
    points = []
    for share in PRUNED:
        removed = int(np.floor(ends[-1] * share + 1e-9))
        last = int(np.searchsorted(ends, removed)) if removed else 0
        lost = cumulated[last] - (ends[last] - removed) * scaled[last] ** 2 if removed else 0.0
        points.append(
            {
                "pruned": share,
                "threshold": float(magnitudes[last]) if removed else 0.0,
                "energy_kept": float(1 - lost / cumulated[-1]),
                "energy_kept_null": float(chi2.sf(ndtri((1 + share) / 2) ** 2, 3)),
            }
        )
    return points
