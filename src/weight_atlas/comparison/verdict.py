"""How two models are related, by the changes of all their matrices together."""

import math
from dataclasses import dataclass

import pandas as pd

from weight_atlas.comparison.table import pooled
from weight_atlas.families.roles import MATRIX_ROLES

_MATRICES = [role.value for role in MATRIX_ROLES]
# Fewest elements of a matrix whose cosine tells something.
LEAST = 256
# Median cosines of matrices: below the first, or so many times their null, models share nothing; from the second on one
# comes from the other by some training; from the third on by rounding, where the types differ.
UNRELATED, TIMES_NULL, DERIVED, ROUNDED = 0.1, 10.0, 0.5, 0.9
# Rounding turns a vector without changing signs: of what changes by chance, signs change in the angle's share of half a
# turn. Below this part of it, the change is rounding.
SIGNS_OF_ROUNDING = 0.5
# Of the tensors, where no more have changed, something was edited and nothing trained.
FEW = 0.1


@dataclass(frozen=True)
class Relation:
    """A word for how b stands to a, the sentence that says it, and the median cosine of matrices beside its null."""

    word: str
    text: str
    cosine: float
    null: float


def relation(a: str, b: str, table: pd.DataFrame, alone: pd.DataFrame) -> Relation:
    """How model b stands to model a.

    word: identical, same values, edited, rounded, derived, distant, unrelated, or nothing in common. table: see
    comparison_table; alone: see pairing.
    """
    weights = _telling(table)
    cosine, null = float(weights["cosine"].median()), float(weights["cosine_null"].median())
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
    whole = pooled(table)
    by = f"relative change {whole['relative']:.3g}, cosine {whole['cosine']:.6g}"
    if len(weights) and cosine < max(UNRELATED, TIMES_NULL * null):
        return "unrelated", (
            f"{b} has nothing of {a} but its shape: the cosine of their matrices is {cosine:.2g} in the median, that "
            f"of random matrices within {null:.1g}."
        )
    if count <= max(1, FEW * total):
        return "edited", f"{b} is {a} except for {count:,} of {total:,} tensors ({by})."
    retyped = changed[changed["dtype_a"] != changed["dtype_b"]]
    if len(retyped) >= 0.8 * count and not cosine < ROUNDED and is_rounding(whole["sign_share"], whole["cosine"]):
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
        f"{b} and {a} share a beginning, and little more: the cosine of their matrices is {cosine:.2g} in the median, "
        f"that of random matrices within {null:.1g}."
    )


def is_rounding(sign_share: float, cosine: float) -> bool:
    """Whether so few signs differ beside the cosine that the change is one of rounding and not of training."""
    return sign_share <= SIGNS_OF_ROUNDING * math.acos(min(1.0, max(-1.0, cosine))) / math.pi


def _same(a: str, b: str, table: pd.DataFrame, alone: pd.DataFrame) -> tuple[str, str]:
    rest = f"; {len(alone):,} tensors have no counterpart" if len(alone) else ""
    if (table["dtype_a"] != table["dtype_b"]).any():
        return "same values", f"{b} holds the values of {a} in other types: all {len(table):,} tensors are equal{rest}."
    return "identical", f"{b} is {a} bit for bit: all {len(table):,} tensors are the same{rest}."
