"""How two models are related, in sentences with their evidence."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from weight_atlas.comparison.kinship import (
    COPY_PRUNED,
    COPY_ROUNDED,
    COPY_SCALED,
    DISTANT,
    EMPTY,
    FAMILY,
    FORMAT,
    SAME,
    Kinship,
)
from weight_atlas.comparison.verdict import NAMED, written

_TEXTS = {
    SAME: "{b} and {a} hold the same weights",
    FORMAT: "{b} and {a} hold the same weights in different formats",
    COPY_PRUNED: "{b} and {a} hold the same weights, but for zeros in one of them",
    COPY_ROUNDED: "{b} and {a} hold the same weights, one of them rounded",
    COPY_SCALED: "{b} is {a} times {factor}",
    EMPTY: "{b} and {a} have no values in common that could be compared: zeros, or values that are not finite",
    FAMILY: "{b} and {a} are of one family",
    DISTANT: "{b} and {a} have a part of their weights in common, as from one beginning or as a merge and its parent",
    "rotated or permuted": "{b} and {a} have the same spectra at other places: one is rotated or permuted",
    "unrelated": "{b} is unrelated to {a}, though of the same shape",
}


def finding(name: str, text: str, pair: Kinship) -> dict[str, Any]:
    """A sentence on a model, with what it rests on."""
    return {
        "grade": "info",
        "place": name,
        "text": f"{text}: {evidence(pair)}.",
        "value": pair.sign_distance,
        "null_value": pair.sign_distance_null,
        "looked_at": pair.tensors,
    }


def copied(name: str, other: str, pair: Kinship) -> str:
    """How a model is a copy of another. pair: of both, in any order."""
    whole = pair.tensors == pair.tensors_a == pair.tensors_b and not pair.moved
    if not whole:
        return f"{name} and {other} hold the same weights in the {pair.tensors} matrices that both have"
    factor = pair.factor if pair.b == name else 1 / pair.factor if pair.factor else float("nan")
    return {
        SAME: f"{name} is {other} itself",
        FORMAT: f"{name} is {other} in another format",
        COPY_PRUNED: f"{name} is {other} pruned",
        COPY_ROUNDED: f"{name} and {other} hold the same weights, one of them rounded",
        COPY_SCALED: f"{name} is {other} times {written(factor)}",
    }[pair.relation]


def apart(families: Sequence[Sequence[str]], found: dict[tuple[str, str], Kinship]) -> list[dict[str, Any]]:
    """What is to be said of models of different families: a sentence for each two families, by two of their members.

    found: pairs of models; of those that are not in it nothing is said.
    """
    told = []
    for one, other in combinations(families, 2):
        every = [found[pair] for a in one for b in other for pair in ((a, b), (b, a)) if pair in found]
        if not every:
            continue
        pair = min(every, key=lambda each: (-each.tensors, each.relation == "unrelated"))
        told.append({**finding(other[0], "", pair), "text": said(pair)})
    return told


def said(pair: Kinship) -> str:
    """The relation of two models in a sentence."""
    if not pair.tensors:
        return f"{pair.b} and {pair.a} have no matrix of one place and shape: another architecture."
    text = _TEXTS[pair.relation].format(a=pair.a, b=pair.b, factor=written(pair.factor))
    return f"{text}: {evidence(pair)}."


def evidence(pair: Kinship) -> str:
    """The numbers that a relation rests on."""
    told = [f"layers of {pair.b} stand at other places in {pair.a} ({_few(pair.moved_layers)})"] if pair.moved else []
    share, null = 50 * pair.sign_distance, 50 * pair.sign_distance_null
    if pair.relation != EMPTY:
        told += [f"{share:.3g} % of the signs differ (of unrelated matrices {null:.3g} %)", f"cosine {pair.cosine:.4g}"]
    told += [f"{100 * pair.equal:.3g} % of the values are equal" if pair.equal > 2 * max(pair.equal_null, 1e-4) else ""]
    told += [
        f"{100 * zeros:.3g} % are zeros in {name} alone"
        for name, zeros in ((pair.a, pair.zeros_a), (pair.b, pair.zeros_b))
        if zeros > 0.01
    ]
    told += [f"{100 * pair.not_finite:.3g} % are not finite on either side" if pair.not_finite else ""]
    if not np.isnan(pair.row_norms):
        null_norms = "" if np.isnan(pair.row_norms_null) else f" (of unrelated ones by {pair.row_norms_null:.2g})"
        told.append(f"row norms correlate by {pair.row_norms:.3g}{null_norms}")
    most = max(pair.tensors_a, pair.tensors_b)
    told += [f"{pair.tensors} of {most} matrices compared" if pair.tensors < most else ""]
    return ", ".join(filter(None, told))


def _few(listed: str) -> str:
    """The first names of a list that is joined by commas."""
    names = listed.split(", ")
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
