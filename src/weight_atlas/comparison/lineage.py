"""How several models are related: their distances, a tree, families with their centres, and merges, in sentences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from weight_atlas.comparison.kinship import COPIES, COPY_PRUNED, FORMAT, KIN, PRUNED, RELATED, Kinship, kinship
from weight_atlas.comparison.lineage_words import apart, copied, finding, said
from weight_atlas.comparison.merges import COLUMNS, Merge, merge_of, pieces_of
from weight_atlas.comparison.profiles import ModelProfile
from weight_atlas.errors import AtlasError

# Two models lie this much farther from each other than from a third that both were tuned from; sqrt 2 by chance.
OWN_WAYS = 1.15
# A norm has grown or shrunk beyond chance: by at least so many deviations.
GROWTH_DEVIATIONS = 2.0
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
    """Relate two or more models by their profiles; AtlasError for fewer."""
    names = [each.name for each in profiles]
    if len(names) < 2:
        raise AtlasError("one model has no relations", where="lineage.models", remedy="name two or more")
    found = {(a.name, b.name): kinship(a, b) for a, b in combinations(profiles, 2)}
    distances = np.zeros((len(names), len(names)))
    for (a, b), each in found.items():
        one, other = names.index(a), names.index(b)
        distances[one, other] = distances[other, one] = each.distance
    tree = linkage(squareform(distances, checks=False), method="average")
    clusters = fcluster(tree, KIN, criterion="distance")
    families = [
        [name for name, own in zip(names, clusters, strict=True) if own == cluster]
        for cluster in dict.fromkeys(clusters)
    ]
    merges = _merges(profiles, found)
    tables = [merge.tensors for merge in merges]
    return Lineage(
        names=names,
        distances=distances,
        tree=tree,
        order=[int(leaf) for leaf in leaves_list(tree)],
        families=families,
        pairs=pd.DataFrame([{**asdict(each), "text": said(each)} for each in found.values()], columns=PAIR_COLUMNS),
        merges=pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS),
        told=[each for family in families for each in _told(family, profiles, found, merges)]
        + apart(families, {pair: each for pair, each in found.items() if not _is_parent(pair, merges)}),
    )


def told_table(told: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What is told of each model, a row for each sentence: TOLD_COLUMNS."""
    rows = [{"model": each["place"], **{name: each.get(name) for name in TOLD_COLUMNS[1:]}} for each in told]
    return pd.DataFrame(rows, columns=TOLD_COLUMNS)


def _between(a: str, b: str, found: dict[tuple[str, str], Kinship]) -> Kinship:
    return found[(a, b)] if (a, b) in found else found[(b, a)]


def _copies(
    family: Sequence[str], profiles: Sequence[ModelProfile], found: dict[tuple[str, str], Kinship]
) -> dict[str, str]:
    """Members that are copies of others, and of which: the one without zeros, or of more bits, else the first."""
    bits = {each.name: each.bits for each in profiles}
    copies: dict[str, str] = {}
    for a, b in combinations(family, 2):
        pair = _between(a, b, found)
        if pair.relation in COPIES:
            finer = b if pair.relation == FORMAT and pair.equal < 1 and bits[b] > bits[a] else a
            if pair.relation == COPY_PRUNED:
                finer = pair.b if pair.zeros_a > pair.zeros_b else pair.a
            copies.setdefault(a if finer == b else b, finer)
    return copies


def _pruned(family: Sequence[str], found: dict[tuple[str, str], Kinship]) -> set[str]:
    """Members with many zeros where others have none: what was pruned is no one's beginning."""
    pairs = [_between(a, b, found) for a, b in combinations(family, 2)]
    return {each.a for each in pairs if each.zeros_a > PRUNED} | {each.b for each in pairs if each.zeros_b > PRUNED}


def _merges(profiles: Sequence[ModelProfile], found: dict[tuple[str, str], Kinship]) -> list[Merge]:
    """The merges among models that are no copies, each of its kin in all families: halves of two are far from both."""
    copies = _copies([each.name for each in profiles], profiles, found)
    own = [each for each in profiles if each.name not in copies]
    made = []
    for model in own:
        others = [other for other in own if other is not model]
        kin = [other for other in others if _between(model.name, other.name, found).relation in RELATED]
        if len(kin) > 1 and (merge := merge_of(model, kin)) is not None:
            made.append(merge)
    return made


def _is_parent(pair: tuple[str, str], merges: Sequence[Merge]) -> bool:
    """Whether one of two models is a merge of the other, which is then told as that."""
    return any(merge.model in pair and {*pair} - {merge.model} <= {*merge.weights} for merge in merges)


def centre(family: Sequence[str], found: dict[tuple[str, str], Kinship], others: set[str]) -> str | None:
    """The member of a family that the others were tuned from; None where the distances do not tell.

    others: members that come from others, copies and merges: they are no centre. Models that were tuned from one each
    in its own way lie farther from each other than from it; tuned alike they do not. In a line of three, the middle one
    has the same distances. But training makes norms larger, or with weight decay smaller, and that all along a line:
    beside its middle one lies one of a larger norm and one of a smaller.
    """
    own = [name for name in family if name not in others]
    if len(own) == 1:
        return own[0]
    for name in own if len(own) > 2 else ():
        pairs = {other: _between(name, other, found) for other in own if other != name}
        if {_norm_moved(name, pair) for pair in pairs.values()} in ({1}, {-1}) and all(
            _between(x, y, found).sign_distance > OWN_WAYS * max(pairs[x].sign_distance, pairs[y].sign_distance)
            for x, y in combinations(pairs, 2)
        ):
            return name
    return None


def _norm_moved(name: str, pair: Kinship) -> int:
    """Whether the norm of the other of two is larger (1) or smaller (-1) than this one's, beyond chance; else 0."""
    growth = pair.growth if pair.a == name else -pair.growth
    return int(np.sign(growth)) if abs(growth) > GROWTH_DEVIATIONS * pair.growth_error else 0


def _told(
    family: list[str],
    profiles: Sequence[ModelProfile],
    found: dict[tuple[str, str], Kinship],
    merges: list[Merge],
) -> list[dict[str, Any]]:
    """What is to be said of the members of one family."""
    copies = _copies(family, profiles, found)
    merged = {merge.model: merge for merge in merges}
    pieces = _pieces(family, profiles, {*copies, *merged})
    made = {*copies, *merged, *pieces}
    middle = centre(family, found, {*made, *_pruned(family, found)})
    told = []
    for number, name in enumerate(family):
        earlier = [other for other in family[:number] if other not in made]
        if name in copies:
            pair = _between(name, copies[name], found)
            told.append(finding(name, copied(name, copies[name], pair), pair))
        elif name in merged:
            told.append(_merge_told(merged[name]))
        elif name in pieces:
            told.append(_pieces_told(name, pieces[name]))
        elif middle is not None and name != middle:
            told.append(finding(name, f"{name} is a fine-tune of {middle}", _between(name, middle, found)))
        elif middle is None and earlier:
            near = min(earlier, key=lambda other: (_between(name, other, found).sign_distance, earlier.index(other)))
            text = f"{name} and {near} come from one another or from one beginning"
            text += " (which was first, the weights do not tell)"
            told.append(finding(name, text, _between(name, near, found)))
    return told


def _pieces(family: Sequence[str], profiles: Sequence[ModelProfile], others: set[str]) -> dict[str, dict[str, int]]:
    """Members whose matrices are all those of other models, bit for bit, and how many of each."""
    own = [each for each in profiles if each.name not in others]
    found = {
        model.name: pieces_of(model, [other for other in own if other is not model])
        for model in own
        if model.name in family
    }
    return {name: pieces for name, pieces in found.items() if pieces}


def _pieces_told(name: str, pieces: dict[str, int]) -> dict[str, Any]:
    parts = " and ".join(f"{count:,} of {parent}" for parent, count in pieces.items())
    return {
        "grade": "info",
        "place": name,
        "text": f"Every matrix of {name} is one of {len(pieces)} others: {parts}, as of a merge that takes whole "
        "layers, or of models that were tuned in some layers only.",
        "value": 0.0,
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
