"""How two models are related, by the changes of all their matrices together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from weight_atlas.comparison.table import pooled
from weight_atlas.families.roles import MATRIX_ROLES

_MATRICES = [role.value for role in MATRIX_ROLES]
NAMED = 3
# Fewest elements of a matrix whose cosine tells something.
LEAST = 256
# Median cosines of matrices: below the first, or so many times their null, models share nothing; from the second on one
# comes from the other by some training; from the third on by rounding, where the types differ.
UNRELATED, TIMES_NULL, DERIVED, ROUNDED = 0.1, 10.0, 0.5, 0.9
# Rounding turns a vector without changing signs: of what changes by chance, signs change in the angle's share of half a
# turn. Below this part of it, the change is rounding.
SIGNS_OF_ROUNDING = 0.5
# Of a tensor times a number, the part of the change along it is so many times the part across; of a whole model where
# this share of its matrices are.
ALONG, MULTIPLES = 10.0, 0.9
# Of the tensors, where no more have changed, something was edited and nothing trained.
FEW = 0.1


@dataclass(frozen=True)
class Relation:
    """A word for how b stands to a, the sentence that says it, and the median cosine of matrices beside its null."""

    word: str
    text: str
    cosine: float
    null: float


def relation(
    a: str, b: str, table: pd.DataFrame, alone: pd.DataFrame, moved: Sequence[str] = (), adapted: str | None = None
) -> Relation:
    """How model b stands to model a.

    word: identical, same values, adapter, edited, multiplied, rounded, derived, distant, rearranged, unrelated, empty,
    or nothing in common. table: see comparison_table; alone: see pairing; moved: which layers of b stand at another
    place in a; adapted: which side is an adapter to the other.
    """
    weights = _telling(table)
    cosine, null = float(weights["cosine"].median()), float(weights["cosine_null"].median())
    if adapted is not None:
        word, text = _adapter(*((a, b) if adapted == "b" else (b, a)), table)
    elif moved:
        word, text = _rearranged(a, b, table, alone, moved)
    else:
        word, text = _told(a, b, table, alone, weights, cosine, null)
    return Relation(word, text, cosine, null)


def _telling(table: pd.DataFrame) -> pd.DataFrame:
    """The matrices whose cosine tells something; vectors such as gains of norms are alike in all models."""
    return table[
        table["role"].isin(_MATRICES) & table["cols"].notna() & (table["n"] >= LEAST) & table["cosine"].notna()
    ]


def _told(
    a: str, b: str, table: pd.DataFrame, alone: pd.DataFrame, weights: pd.DataFrame, cosine: float, null: float
) -> tuple[str, str]:
    changed = table[table["changed"] > 0]
    count, total = len(changed), len(table)
    if not total:
        return "nothing in common", f"{b} and {a} have no tensor in common that could be compared."
    if not count:
        return _same(a, b, table, alone)
    gone = _empty(a, b, table)
    if gone:
        return "empty", gone
    whole = pooled(table)
    finite = "" if not changed[["not_finite_a", "not_finite_b"]].to_numpy().any() else "of the finite values "
    by = f"{finite}relative change {whole['relative']:.3g}, cosine {whole['cosine']:.6g}"
    if (changed["reordered"] != "").all():
        return "rearranged", (
            f"{b} is {a} with rows or columns of {count:,} of {total:,} tensors in another order, as of neurons or "
            "heads at other places."
        )
    factor = _factor(weights)
    if factor is not None:
        return "multiplied", f"{b} is {a} times {written(factor)}: {count:,} of {total:,} tensors changed ({by})."
    if len(weights) and abs(cosine) < max(UNRELATED, TIMES_NULL * null):
        return "unrelated", (
            f"{b} has nothing of {a} but its shape: the cosine of their matrices is {cosine:.2g} in the median, that "
            f"of random matrices within {null:.1g}."
        )
    if count <= max(1, FEW * total):
        return "edited", f"{b} is {a} except for {count:,} of {total:,} tensors ({by})."
    retyped = changed[changed["dtype_a"] != changed["dtype_b"]]
    if len(retyped) >= 0.8 * count and not cosine < ROUNDED and _is_rounded(changed, whole["cosine"]):
        types = ", ".join(
            f"{one} to {other}"
            for one, other in dict.fromkeys(zip(retyped["dtype_a"], retyped["dtype_b"], strict=True))
        )
        return "rounded", f"{b} is {a} in another format ({types}): {by} over all {total:,} tensors."
    if not cosine < DERIVED:
        return "derived", (
            f"{b} comes from {a} by further training or editing: {count:,} of {total:,} tensors changed ({by}; "
            f"{whole['changed_share']:.1%} of the values, {whole['sign_share']:.2%} of the signs)."
        )
    return "distant", (
        f"{b} and {a} have a part of their weights in common, as from one beginning or as a merge and its parent: the "
        f"cosine of their matrices is {cosine:.2g} in the median, that of random matrices within {null:.1g}."
    )


def _adapter(model: str, adapter: str, table: pd.DataFrame) -> tuple[str, str]:
    """What is said of an adapter and its model."""
    changed, whole = table[table["changed"] > 0], pooled(table)
    if changed.empty:
        return "adapter", (
            f"{adapter} is an adapter to {model} that changes nothing: its update of {len(table):,} "
            f"{'tensor' if len(table) == 1 else 'tensors'} is zero."
        )
    return "adapter", (
        f"{adapter} is an adapter to {model}, and changes {len(changed):,} of its tensors (together relative change "
        f"{whole['relative']:.3g}, cosine {whole['cosine']:.6g})."
    )


def _rearranged(a: str, b: str, table: pd.DataFrame, alone: pd.DataFrame, moved: Sequence[str]) -> tuple[str, str]:
    same = int((table["changed"] == 0).sum())
    return "rearranged", (
        f"{b} has layers of {a} at other places: {listed(moved)}. All numbers are those of layers of one number; "
        f"{same:,} of {len(table):,} tensors are the same there, {len(alone):,} have no counterpart."
    )


def _empty(a: str, b: str, table: pd.DataFrame) -> str:
    """What is said where one side has no values in most tensors that the other has some in; "" elsewhere."""
    for name, other, side, against in ((b, a, "b", "a"), (a, b, "a", "b")):
        zeros = (table[f"norm_{side}"] == 0) & (table[f"not_finite_{side}"] == 0) & (table[f"norm_{against}"] > 0)
        lost = (table[f"not_finite_{side}"] == table["n"]) & (table[f"not_finite_{against}"] < table["n"])
        if zeros.sum() + lost.sum() > len(table) / 2:
            return (
                f"{name} has no values in most tensors of {other}: of {len(table):,}, {int(zeros.sum()):,} are all "
                f"zero and {int(lost.sum()):,} hold nothing finite."
            )
    return ""


def _factor(weights: pd.DataFrame) -> float | None:
    """The number that b is a times in all matrices, up to rounding; None where there is no such."""
    multiples = [
        row.norm_b / row.norm_a * row.cosine
        for row in weights.itertuples()
        if is_multiple(row.norm_a, row.norm_b, row.cosine)
    ]
    if not multiples or len(multiples) < MULTIPLES * len(weights):
        return None
    middle = float(np.median(multiples))
    near = [value for value in multiples if abs(value - middle) <= max(0.01 * abs(middle - 1), 1e-6)]
    return middle if len(near) >= MULTIPLES * len(weights) else None


def _is_rounded(changed: pd.DataFrame, cosine: float) -> bool:
    """Whether all that changed is what rounding leaves: signs beside the angle of each tensor by itself."""
    known = changed[changed["cosine"].notna() & (changed["norm_a"] > 0)]
    expected = float((known["n"] * known["cosine"].map(angle_share)).sum())
    squares = (known["norm_a"] ** 2).sum(), (known["norm_a"] * known["norm_b"] * known["cosine"]).sum()
    factor = float(squares[1] / squares[0]) if squares[0] else 1.0
    return is_rounding(float(known["signs"].sum()), expected, factor, cosine)


def listed(names: Sequence[str], joined: str = ", ") -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return joined.join(names[:NAMED]) + more


def written(factor: float) -> str:
    """A number that values were multiplied by, near 1 by its difference to it."""
    return f"{factor:.6g}" if abs(factor - 1) < 0.01 else f"{factor:.4g}"


def angle_share(cosine: float) -> float:
    """The angle of two vectors over half a turn: the share of signs in which they differ where all else is chance."""
    return math.acos(min(1.0, max(-1.0, cosine))) / math.pi


def is_rounding(signs: float, expected: float, factor: float, cosine: float) -> bool:
    """Whether a change is one of rounding: few signs differ beside the angles, and hardly any of it is a factor.

    signs: that differ; expected: sum over matrices of their elements times angle_share, which change by chance would
    give: of each by itself, since training may have changed a few of many. factor: the number that b is nearest to a
    times; of errors that have nothing to do with the values it is 1.
    """
    across = max(0.0, 1 - cosine**2) ** 0.5
    return signs <= SIGNS_OF_ROUNDING * expected and not abs(factor - 1) > max(across, 1e-6)


def is_multiple(norm_a: float, norm_b: float, cosine: float) -> bool:
    """Whether b is a times a number other than 1, up to what rounding leaves; False where either is zero.

    The best number is (|b| / |a|) cos(a, b), and leaves |b| sin(a, b).
    """
    if not (norm_a > 0 and abs(cosine) > 0):
        return False
    along = abs(norm_b * cosine - norm_a)
    return along > max(ALONG * norm_b * max(0.0, 1 - cosine**2) ** 0.5, 1e-6 * norm_a)


def _same(a: str, b: str, table: pd.DataFrame, alone: pd.DataFrame) -> tuple[str, str]:
    other = bool((table["dtype_a"] != table["dtype_b"]).any())
    word = "same values" if other else "identical"
    if len(alone):
        what = "equal, in other types" if other else "the same bit for bit"
        rest = "1 tensor has" if len(alone) == 1 else f"{len(alone):,} tensors have"
        return word, (f"The {len(table):,} tensors that {b} and {a} have in common are {what}; {rest} no counterpart.")
    if other:
        return word, f"{b} holds the values of {a} in other types: all {len(table):,} tensors are equal."
    return word, f"{b} is {a} bit for bit: all {len(table):,} tensors are the same."
