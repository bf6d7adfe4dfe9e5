"""How several models are related: their distances, a tree, families with their centres, and merges, in sentences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from weight_atlas.comparison.kinship import FORMAT, KIN, SAME, Kinship, kinship
from weight_atlas.comparison.merges import COLUMNS, Merge, merge_of
from weight_atlas.comparison.profiles import ModelProfile

# Two models lie this much farther from each other than from a third that both were tuned from; sqrt 2 by chance.
OWN_WAYS = 1.15
TOLD_COLUMNS = ["model", "text", "value", "null_value"]
PAIR_COLUMNS = [*[each.name for each in fields(Kinship)], "text"]


@dataclass(frozen=True)
class Lineage:
    """The relations of several models.

    names: in their order. distances: (models, models), 2 times the share of signs that differ, 1 where nothing can be
    compared. tree: scipy's linkage by average distance; order: of its leaves. families: of names, those alone included.
    pairs: a row for each two, see Kinship, and a sentence. merges: a row for each matrix and parent. told: sentences,
    one for each model that has something to say, with its evidence.
    """

    names: list[str]
    distances: np.ndarray
    tree: np.ndarray
    order: list[int]
    families: list[list[str]]
    pairs: pd.DataFrame
    merges: pd.DataFrame
    told: list[dict[str, Any]]


def lineage(profiles: Sequence[ModelProfile]) -> Lineage:
    """Relate two or more models by their profiles."""
    names = [each.name for each in profiles]
    found = {(a.name, b.name): kinship(a, b) for a, b in combinations(profiles, 2)}
    distances = np.zeros((len(names), len(names)))
    for (a, b), each in found.items():
        one, other = names.index(a), names.index(b)
        near = 1.0 if not each.tensors else min(1.0, each.sign_distance)
        distances[one, other] = distances[other, one] = near
    tree = linkage(squareform(distances, checks=False), method="average")
    clusters = fcluster(tree, KIN, criterion="distance")
    families = [
        [name for name, own in zip(names, clusters, strict=True) if own == cluster]
        for cluster in dict.fromkeys(clusters)
    ]
    merges = [merge for family in families for merge in _merges(family, profiles, found)]
    tables = [merge.tensors for merge in merges]
    return Lineage(
        names=names,
        distances=distances,
        tree=tree,
        order=[int(leaf) for leaf in leaves_list(tree)],
        families=families,
        pairs=pd.DataFrame([{**asdict(each), "text": _said(each)} for each in found.values()], columns=PAIR_COLUMNS),
        merges=pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS),
        told=[each for family in families for each in _told(family, _copies(family, profiles, found), found, merges)]
        + _apart(families, found),
    )


def told_table(told: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What is told of each model, a row for each sentence: TOLD_COLUMNS."""
    rows = [{"model": each["place"], **{name: each[name] for name in TOLD_COLUMNS[1:]}} for each in told]
    return pd.DataFrame(rows, columns=TOLD_COLUMNS)


def _between(a: str, b: str, found: dict[tuple[str, str], Kinship]) -> Kinship:
    return found[(a, b)] if (a, b) in found else found[(b, a)]


def _copies(
    family: Sequence[str], profiles: Sequence[ModelProfile], found: dict[tuple[str, str], Kinship]
) -> dict[str, str]:
    """Members that are others in another format, or the same, and what each is a copy of: the finer, else the first."""
    bits = {each.name: each.bits for each in profiles}
    copies: dict[str, str] = {}
    for a, b in combinations(family, 2):
        pair = _between(a, b, found)
        if pair.relation in (FORMAT, SAME):
            finer = b if pair.equal < 1 and bits[b] > bits[a] else a
            copies.setdefault(a if finer == b else b, finer)
    return copies


def _merges(
    family: Sequence[str], profiles: Sequence[ModelProfile], found: dict[tuple[str, str], Kinship]
) -> list[Merge]:
    """The merges in a family, by its members that are no copies."""
    copies = _copies(family, profiles, found)
    own = [each for each in profiles if each.name in family and each.name not in copies]
    made = [merge_of(model, [other for other in own if other is not model]) for model in own] if len(own) > 2 else []
    return [merge for merge in made if merge is not None]


def centre(family: Sequence[str], found: dict[tuple[str, str], Kinship], apart: set[str]) -> str | None:
    """The member of a family that the others were tuned from; None where the distances do not tell.

    apart: members that come from others, copies and merges: they are no centre. Models that were tuned from one each in
    its own way lie farther from each other than from it; tuned alike, or one after the other, they do not.
    """
    own = [name for name in family if name not in apart]
    if len(own) == 1:
        return own[0]
    for name in own if len(own) > 2 else ():
        away = {other: _between(name, other, found).sign_distance for other in own if other != name}
        if all(
            _between(x, y, found).sign_distance > OWN_WAYS * max(away[x], away[y]) for x, y in combinations(away, 2)
        ):
            return name
    return None


def _told(
    family: list[str], copies: dict[str, str], found: dict[tuple[str, str], Kinship], merges: list[Merge]
) -> list[dict[str, Any]]:
    """What is to be said of the members of one family."""
    merged = {merge.model: merge for merge in merges}
    middle = centre(family, found, {*copies, *merged})
    told = []
    for number, name in enumerate(family):
        earlier = [other for other in family[:number] if other not in {*copies, *merged}]
        if name in copies:
            pair = _between(name, copies[name], found)
            how = "in another format" if pair.relation == FORMAT else "itself"
            told.append(_finding(name, f"{name} is {copies[name]} {how}", pair))
        elif name in merged:
            told.append(_merge_told(merged[name]))
        elif middle is not None and name != middle:
            told.append(_finding(name, f"{name} is a fine-tune of {middle}", _between(name, middle, found)))
        elif middle is None and earlier:
            near = min(earlier, key=lambda other: (_between(name, other, found).sign_distance, earlier.index(other)))
            text = f"{name} and {near} come from one another or from one beginning"
            text += " (which was first, the weights do not tell)"
            told.append(_finding(name, text, _between(name, near, found)))
    return told


def _finding(name: str, text: str, pair: Kinship) -> dict[str, Any]:
    return {
        "grade": "info",
        "place": name,
        "text": f"{text}: {_evidence(pair)}.",
        "value": pair.sign_distance,
        "null_value": pair.sign_distance_null,
        "looked_at": pair.tensors,
    }


def _merge_told(merge: Merge) -> dict[str, Any]:
    parts = " + ".join(f"{weight:.2f} {name}" for name, weight in merge.weights.items())
    return {
        "grade": "info",
        "place": merge.model,
        "text": f"{merge.model} is a merge: {parts}, which leaves {merge.residual:.2g} of its norm, the nearest parent "
        f"alone {merge.nearest:.2g}.",
        "value": merge.residual,
        "null_value": merge.nearest,
    }


def _apart(families: list[list[str]], found: dict[tuple[str, str], Kinship]) -> list[dict[str, Any]]:
    """What is to be said of models of different families: a sentence for each two families, by two of their members."""
    told = []
    for one, other in combinations(families, 2):
        every = [_between(a, b, found) for a in one for b in other]
        pair = min(every, key=lambda each: (-each.tensors, each.relation == "unrelated"))
        told.append(
            {
                "grade": "info",
                "place": other[0],
                "text": _said(pair),
                "value": pair.sign_distance,
                "null_value": pair.sign_distance_null,
                "looked_at": pair.tensors,
            }
        )
    return told


def _said(pair: Kinship) -> str:
    """The relation of two models in a sentence."""
    a, b = pair.a, pair.b
    texts = {
        "another architecture": f"{b} and {a} have no matrix of one place and shape: another architecture.",
        SAME: f"{b} and {a} hold the same weights",
        FORMAT: f"{b} and {a} hold the same weights in different formats",
        "one family": f"{b} and {a} are of one family",
        "distant kin": f"{b} and {a} share a beginning, and little more",
        "rotated or permuted": f"{b} and {a} have the same spectra at other places: one is rotated or permuted",
        "unrelated": f"{b} is unrelated to {a}, though of the same shape",
    }
    text = texts[pair.relation]
    return text if not pair.tensors else f"{text}: {_evidence(pair)}."


def _evidence(pair: Kinship) -> str:
    share, null = 50 * pair.sign_distance, 50 * pair.sign_distance_null
    told = [f"{share:.3g} % of the signs differ (of unrelated matrices {null:.3g} %)", f"cosine {pair.cosine:.4g}"]
    told += [f"{100 * pair.equal:.3g} % of the values are equal" if pair.equal > 2 * max(pair.equal_null, 1e-4) else ""]
    if not np.isnan(pair.row_norms):
        null_norms = "" if np.isnan(pair.row_norms_null) else f" (of unrelated ones by {pair.row_norms_null:.2g})"
        told.append(f"row norms correlate by {pair.row_norms:.3g}{null_norms}")
    part = min(pair.tensors_a, pair.tensors_b)
    told += [f"{pair.tensors} of {part} matrices compared" if pair.tensors < part else ""]
    return ", ".join(filter(None, told))
