"""Clusters among the heads of a layer: average linkage, what belongs together, and how clustered the layer is."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from weight_atlas.embeddings.similarity import Likeness, chance_of

# Random layers that the null of a layer's clusteredness is drawn from.
DRAWS = 200


@dataclass(frozen=True)
class Tree:
    """Heads joined one after the other by the mean distance between groups (average linkage).

    linkage: (h - 1, 4), as of scipy.cluster.hierarchy. cophenetic: correlation of the heights at which two heads join
    with their distances, 1 where the tree tells all; missing for two heads. clusteredness: the agglomerative
    coefficient (Kaufman and Rousseeuw, Finding groups in data, 1990, chapter 5), the mean over heads of
    1 - (height of its first join) / (height of the last); near 0 where all heads are equally far from each other. null,
    null_high: median and 99 % quantile of it for Gaussian heads.
    """

    linkage: np.ndarray
    cophenetic: float
    clusteredness: float
    null: float
    null_high: float


def tree_of(likeness: Likeness) -> Tree:
    """The tree of a layer's heads, and how clustered they are beside Gaussian heads of the same shapes and groups."""
    from scipy.cluster.hierarchy import cophenet, linkage
    from scipy.spatial.distance import squareform

    condensed = squareform(likeness.distances, checks=False)
    joined = linkage(condensed, "average")
    spread = len(condensed) > 1 and np.ptp(condensed) > 0
    cophenetic = float(cophenet(joined, condensed)[0]) if spread else float("nan")
    groups = tuple(int(group) for group in likeness.kv_head)
    null, high = _null(groups, likeness.width, likeness.left, likeness.right)
    return Tree(joined, cophenetic, agglomerative_coefficient(joined), null, high)


def agglomerative_coefficient(joined: np.ndarray) -> float:
    """Mean over leaves of 1 - (height of the leaf's first join) / (height of the last); 0 for a tree of height 0."""
    count, last = len(joined) + 1, float(joined[-1, 2])
    first = np.zeros(count)
    for one, other, height, _ in joined:
        for leaf in (int(one), int(other)):
            if leaf < count:
                first[leaf] = height
    return float(1 - first.mean() / last) if last > 0 else 0.0


@lru_cache(maxsize=64)
def _null(groups: tuple[int, ...], width: int, left: int, right: int) -> tuple[float, float]:
    """Median and 99 % quantile over layers of Gaussian heads, whose cosines are independent normal numbers."""
    from scipy.cluster.hierarchy import linkage

    random = np.random.default_rng([len(groups), width, left, right])
    rows, columns = np.triu_indices(len(groups), 1)
    own = np.asarray(groups)
    apart, shared = (chance_of(width, left, right, shared=same) for same in (False, True))
    deviation = np.where(own[rows] == own[columns], shared, apart)
    drawn = random.standard_normal((DRAWS, len(rows))) * deviation
    heights = np.sqrt(2 - 2 * np.clip(drawn, -1, 1))
    found = [agglomerative_coefficient(linkage(row, "average")) for row in heights]
    return float(np.median(found)), float(np.quantile(found, 0.99))


def clusters_of(tree: Tree, least: float) -> np.ndarray:
    """(h,) number of each head's cluster, from 0 in the order of the heads; -1 for a head that is in none.

    least: mean cosine that two groups need to be joined; the cut lies at the distance sqrt(2 - 2 least).
    """
    from scipy.cluster.hierarchy import fcluster

    labels = fcluster(tree.linkage, (2 - 2 * least) ** 0.5, "distance")
    order = [label for label in dict.fromkeys(labels) if (labels == label).sum() > 1]
    numbers = {label: number for number, label in enumerate(order)}
    return np.array([numbers.get(label, -1) for label in labels])
