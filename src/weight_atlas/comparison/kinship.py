"""How near two models are, by what fine-tuning leaves as it was, beside what unrelated matrices of one kind share.

The share q of signs that differ is the angle between two vectors over pi where their values are random (Goemans and
Williamson, 1995): 2 q is 0 for the same weights and 1 for unrelated ones.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from weight_atlas.comparison.layer_places import matched, mismatched, origins
from weight_atlas.comparison.profiles import Matrix, ModelProfile
from weight_atlas.comparison.verdict import MULTIPLES, ROUNDED, is_multiple, is_rounding

# Signs differ in this share of what unrelated models have, or less: one comes from the other.
KIN = 0.5
# Otherwise related where the difference to unrelated matrices is beyond chance and at least this large.
LEAST, DEVIATIONS = 0.03, 5.0
# Spectra this much nearer than those of other layers, of weights that are otherwise unrelated: rotated or permuted.
SAME_SPECTRA = 0.05
# Zeros in this share of the samples, where the other model has none: pruned; alike where nearly all others are equal.
PRUNED, KEPT = 0.05, 0.99
# Fewest signs that would have to differ by chance, for that hardly any does to tell rounding from training; and which
# part of them may, where types do not tell of rounding: nearest values have no other sign.
SIGNS_TOLD, FLIPPED = 10.0, 0.05
SAME, FORMAT = "same weights", "same weights in another format"
COPY_PRUNED, COPY_ROUNDED, COPY_SCALED = "same weights, pruned", "same weights, rounded", "same weights times a number"
COPIES = (SAME, FORMAT, COPY_PRUNED, COPY_ROUNDED, COPY_SCALED)
EMPTY = "no values to compare"
FAMILY, DISTANT = "one family", "distant kin"
RELATED = (FAMILY, DISTANT)


@dataclass(frozen=True)
class Kinship:
    """Two models, a and b.

    tensors: matrices of one place and shape, out of tensors_a and tensors_b; where layers have moved, of the place that
    they come from. moved: layers of b that stand at another place in a; moved_layers: which. sign_distance: 2 times the
    share of signs that differ; cosine: of all samples; factor: the number that b is nearest to a times; equal: share of
    samples that are the same value; zeros_a, zeros_b: that are zero in one of them only; not_finite: that are not
    finite in one of them or both; row_norms: median correlation of the logarithms of row norms; spectrum: median rms
    distance of the logarithms of singular values over the norm. *_null: of matrices of one kind in different layers;
    NaN where there are none. retyped: share of matrices that are stored in another type. growth: (|b|^2 - |a|^2) /
    |b - a|^2, 1 where b is a with something independent added and -1 the other way round; growth_error: its standard
    deviation by chance. relation: a word.
    """

    a: str
    b: str
    tensors: int
    tensors_a: int
    tensors_b: int
    moved: int = 0
    moved_layers: str = ""
    sign_distance: float = 1.0
    sign_distance_null: float = 1.0
    sign_z: float = 0.0
    cosine: float = float("nan")
    factor: float = float("nan")
    equal: float = 0.0
    equal_null: float = float("nan")
    zeros_a: float = 0.0
    zeros_b: float = 0.0
    not_finite: float = 0.0
    row_norms: float = float("nan")
    row_norms_null: float = float("nan")
    spectrum: float = float("nan")
    spectrum_null: float = float("nan")
    retyped: float = 0.0
    growth: float = float("nan")
    growth_error: float = float("nan")
    relation: str = "another architecture"

    @property
    def distance(self) -> float:
        """Between 0 and 1: by signs, of copies by a negative number too; 1 where nothing could be compared."""
        if not self.tensors or self.relation == EMPTY:
            return 1.0
        other = 2 - self.sign_distance if self.relation == COPY_SCALED else 1.0
        return min(1.0, self.sign_distance, other)


def kinship(a: ModelProfile, b: ModelProfile) -> Kinship:
    """Compare the profiles of two models."""
    moved = origins(a, b)
    keys = matched(a, b, moved)
    counts = (len(keys), len(a.matrices), len(b.matrices))
    if not keys:
        return Kinship(a.name, b.name, *counts)
    own = [_pair(a.matrices[one], b.matrices[other]) for one, other in keys]
    chance = [_pair(a.matrices[one], b.matrices[other]) for one, other in mismatched(keys)]
    told = sum(each["told"] for each in own)
    signs = 2 * sum(each["differing"] for each in own) / told if told else 1.0
    null = _median([each for each in chance if each["told"]], "sign_distance", 1.0)
    spread = float(np.std([each["sign_distance"] for each in chance])) if len(chance) > 1 else 0.0
    dot, square_a, square_b = (sum(each[name] for each in own) for name in ("dot", "square_a", "square_b"))
    count, finite = sum(each["all"] for each in own), sum(each["n"] for each in own)
    values: dict[str, Any] = {
        "moved": len(moved),
        "moved_layers": ", ".join(f"{layer} is what is {place}" for (_, layer), place in moved.items()),
        "sign_distance": signs,
        "sign_distance_null": null,
        "sign_z": (null - signs) / max(2 * (0.25 / max(told, 1)) ** 0.5, spread / len(own) ** 0.5),
        "cosine": dot / max((square_a * square_b) ** 0.5, 1e-300),
        "factor": dot / square_a if square_a > 0 else float("nan"),
        "equal": sum(each["equal"] for each in own) / max(1, count),
        "equal_null": sum(each["equal"] for each in chance) / max(1, sum(each["n"] for each in chance)),
        **{name: sum(each[name] for each in own) / max(1, finite) for name in ("zeros_a", "zeros_b")},
        "not_finite": 1 - finite / max(1, count),
        "row_norms": _median(own, "row_norms"),
        "row_norms_null": _median(chance, "row_norms"),
        "spectrum": _median(own, "spectrum"),
        "spectrum_null": _median(chance, "spectrum"),
        "retyped": float(np.mean([a.matrices[one].dtype != b.matrices[other].dtype for one, other in keys])),
        **_growth(own),
    }
    return Kinship(a.name, b.name, *counts, **values, relation=_relation(values, own))


def _pair(one: Matrix, other: Matrix) -> dict[str, float]:
    """What the samples, row norms and spectra of two matrices of one shape share."""
    count = min(len(one.values), len(other.values))
    x, y = one.values[:count], other.values[:count]
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    told = (x != 0) & (y != 0)
    differing = int((np.signbit(x) != np.signbit(y))[told].sum())
    dot, square_a, square_b = float(x @ y), float(x @ x), float(y @ y)
    norms = [float(np.exp(2 * each.row_norms).sum()) if len(each.row_norms) else float("nan") for each in (one, other)]
    size = one.shape[0] * one.shape[1]
    return {
        "all": count,
        "n": len(x),
        "told": int(told.sum()),
        "differing": differing,
        "expected": _flips(x[told], y[told]),
        "sign_distance": 2 * differing / max(1, int(told.sum())),
        "equal": int((x == y)[x != 0].sum() + ((x == 0) & (y == 0)).sum()),
        "kept": int((x == y)[told].sum()),
        "zeros_a": int(((x == 0) & (y != 0)).sum()),
        "zeros_b": int(((x != 0) & (y == 0)).sum()),
        "dot": dot,
        "square_a": square_a,
        "square_b": square_b,
        "size": size,
        "norm_a": norms[0],
        "norm_b": norms[1],
        "apart": float(((x - y) ** 2).mean()) * size if len(x) else float("nan"),
        "row_norms": _correlation(one.row_norms, other.row_norms),
        "spectrum": float(np.sqrt(np.mean((one.sigma - other.sigma) ** 2)))
        if len(one.sigma) and len(one.sigma) == len(other.sigma)
        else float("nan"),
    }


def _flips(x: np.ndarray, y: np.ndarray) -> float:
    """How many signs would differ if what x and y differ by had nothing to do with them: sum of Phi(-|x| / rms(y - x)).

    By the values themselves: of a pruned matrix none near zero is left that could change its sign.
    """
    apart = float(np.sqrt(np.mean((x - y) ** 2))) if len(x) else 0.0
    return float(ndtr(-np.abs(x) / apart).sum()) if apart > 0 else 0.0


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 8 or len(x) != len(y) or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _multiple(pair: dict[str, float]) -> bool:
    norm_a, norm_b = pair["square_a"] ** 0.5, pair["square_b"] ** 0.5
    return norm_a * norm_b > 0 and is_multiple(norm_a, norm_b, pair["dot"] / (norm_a * norm_b))


def _growth(pairs: list[dict[str, float]]) -> dict[str, float]:
    """growth and growth_error: the norms from all elements, the change from the samples.

    Of a random change d to a, |a + d|^2 - |a|^2 is |d|^2 + 2 a . d, whose second part has the deviation 2 |a| |d| /
    sqrt(n).
    """
    sums = {name: sum(each[name] for each in pairs) for name in ("norm_a", "norm_b", "apart", "size")}
    if not sums["apart"] > 0 or not math.isfinite(sums["norm_a"] + sums["norm_b"]):
        return {"growth": float("nan"), "growth_error": float("nan")}
    error = 2 * (sums["norm_a"] / sums["apart"] / sums["size"]) ** 0.5
    return {"growth": (sums["norm_b"] - sums["norm_a"]) / sums["apart"], "growth_error": error}


def _median(pairs: list[dict[str, float]], name: str, otherwise: float = float("nan")) -> float:
    values = [each[name] for each in pairs if not np.isnan(each[name])]
    return float(np.median(values)) if values else otherwise


def _relation(values: dict[str, float], pairs: list[dict[str, float]]) -> str:
    """The word for the numbers of two models with matrices of one place and shape."""
    differing, expected, told, kept = (
        sum(each[name] for each in pairs) for name in ("differing", "expected", "told", "kept")
    )
    if not told:
        return EMPTY
    if values["equal"] == 1:
        return FORMAT if values["retyped"] > 0 else SAME
    if max(values["zeros_a"], values["zeros_b"]) >= PRUNED and kept >= KEPT * told:
        return COPY_PRUNED
    if sum(map(_multiple, pairs)) >= MULTIPLES * len(pairs):
        return COPY_SCALED
    if values["cosine"] > ROUNDED and is_rounding(differing, expected, values["factor"], values["cosine"]):
        if values["retyped"] > 0.5 and (expected >= SIGNS_TOLD or not max(values["zeros_a"], values["zeros_b"])):
            return FORMAT
        if expected >= SIGNS_TOLD and differing <= FLIPPED * expected:
            return COPY_ROUNDED
    gap = values["sign_distance_null"] - values["sign_distance"]
    if values["sign_distance"] < KIN * values["sign_distance_null"]:
        return FAMILY
    if values["spectrum"] < SAME_SPECTRA * values["spectrum_null"]:
        return "rotated or permuted"
    if gap > LEAST and values["sign_z"] > DEVIATIONS:
        return DISTANT
    return "unrelated"
