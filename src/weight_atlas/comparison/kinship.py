"""How near two models are, by what fine-tuning leaves as it was, beside what unrelated matrices of one kind share.

The share q of signs that differ is the angle between two vectors over pi where their values are random (Goemans and
Williamson, 1995): 2 q is 0 for the same weights and 1 for unrelated ones.
"""

from dataclasses import dataclass

import numpy as np

from weight_atlas.comparison.profiles import Matrix, ModelProfile, mismatched, shared
from weight_atlas.comparison.verdict import ROUNDED, is_rounding

# Signs differ in this share of what unrelated models have, or less: one comes from the other.
KIN = 0.5
# Otherwise related where the difference to unrelated matrices is beyond chance and at least this large.
LEAST, DEVIATIONS = 0.03, 5.0
# Spectra this much nearer than those of other layers, of weights that are otherwise unrelated: rotated or permuted.
SAME_SPECTRA = 0.05
SAME, FORMAT = "same weights", "same weights in another format"


@dataclass(frozen=True)
class Kinship:
    """Two models, a and b.

    tensors: matrices of one place and shape, out of tensors_a and tensors_b. sign_distance: 2 times the share of signs
    that differ; cosine: of all samples; equal: share of samples that are the same value; row_norms: median correlation
    of the logarithms of row norms; spectrum: median rms distance of the logarithms of singular values over the norm.
    *_null: of matrices of one kind in different layers; NaN where there are none. retyped: share of matrices that are
    stored in another type. relation: a word.
    """

    a: str
    b: str
    tensors: int
    tensors_a: int
    tensors_b: int
    sign_distance: float = 1.0
    sign_distance_null: float = 1.0
    sign_z: float = 0.0
    cosine: float = float("nan")
    equal: float = 0.0
    equal_null: float = float("nan")
    row_norms: float = float("nan")
    row_norms_null: float = float("nan")
    spectrum: float = float("nan")
    spectrum_null: float = float("nan")
    retyped: float = 0.0
    relation: str = "another architecture"


def kinship(a: ModelProfile, b: ModelProfile) -> Kinship:
    """Compare the profiles of two models."""
    keys = shared(a, b)
    counts = (len(keys), len(a.matrices), len(b.matrices))
    if not keys:
        return Kinship(a.name, b.name, *counts)
    own = [_pair(a.matrices[key], b.matrices[key]) for key in keys]
    chance = [_pair(a.matrices[one], b.matrices[other]) for one, other in mismatched(a, b, keys)]
    signs, null = _signs(own), _signs(chance) if chance else 1.0
    told = sum(each["told"] for each in own)
    spread = float(np.std([each["sign_distance"] for each in chance])) if len(chance) > 1 else 0.0
    retyped = float(np.mean([a.matrices[key].dtype != b.matrices[key].dtype for key in keys]))
    dot, square_a, square_b = (sum(each[name] for each in own) for name in ("dot", "square_a", "square_b"))
    values = {
        "sign_distance": signs,
        "sign_distance_null": null,
        "sign_z": (null - signs) / max(2 * (0.25 / max(told, 1)) ** 0.5, spread / len(own) ** 0.5),
        "cosine": dot / max((square_a * square_b) ** 0.5, 1e-300),
        "equal": sum(each["equal"] for each in own) / max(1, sum(each["n"] for each in own)),
        "equal_null": sum(each["equal"] for each in chance) / max(1, sum(each["n"] for each in chance)),
        "row_norms": _median(own, "row_norms"),
        "row_norms_null": _median(chance, "row_norms"),
        "spectrum": _median(own, "spectrum"),
        "spectrum_null": _median(chance, "spectrum"),
        "retyped": retyped,
    }
    return Kinship(a.name, b.name, *counts, **values, relation=_relation(values))


def _pair(one: Matrix, other: Matrix) -> dict[str, float]:
    """What the samples, row norms and spectra of two matrices of one shape share."""
    count = min(len(one.values), len(other.values))
    x, y = one.values[:count], other.values[:count]
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    told = (x != 0) & (y != 0)
    differing = int((np.signbit(x) != np.signbit(y))[told].sum())
    return {
        "n": len(x),
        "told": int(told.sum()),
        "differing": differing,
        "sign_distance": 2 * differing / max(1, int(told.sum())),
        "equal": int((x == y)[x != 0].sum() + ((x == 0) & (y == 0)).sum()),
        "dot": float(x @ y),
        "square_a": float(x @ x),
        "square_b": float(y @ y),
        "row_norms": _correlation(one.row_norms, other.row_norms),
        "spectrum": float(np.sqrt(np.mean((one.sigma - other.sigma) ** 2)))
        if len(one.sigma) and len(one.sigma) == len(other.sigma)
        else float("nan"),
    }


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 8 or len(x) != len(y) or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _signs(pairs: list[dict[str, float]]) -> float:
    return 2 * sum(each["differing"] for each in pairs) / max(1, sum(each["told"] for each in pairs))


def _median(pairs: list[dict[str, float]], name: str) -> float:
    values = [each[name] for each in pairs if not np.isnan(each[name])]
    return float(np.median(values)) if values else float("nan")


def _relation(values: dict[str, float]) -> str:
    """The word for the numbers of two models with matrices of one place and shape."""
    if values["equal"] == 1:
        return FORMAT if values["retyped"] > 0 else SAME
    rounding = is_rounding(values["sign_distance"] / 2, values["cosine"])
    if values["retyped"] > 0.5 and values["cosine"] > ROUNDED and rounding:
        return FORMAT
    gap = values["sign_distance_null"] - values["sign_distance"]
    if values["sign_distance"] < KIN * values["sign_distance_null"]:
        return "one family"
    if gap > LEAST and values["sign_z"] > DEVIATIONS:
        return "distant kin"
    if values["spectrum"] < SAME_SPECTRA * values["spectrum_null"]:
        return "rotated or permuted"
    return "unrelated"
