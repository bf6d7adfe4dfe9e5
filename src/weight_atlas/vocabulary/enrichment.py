"""Tests whether a neuron's effects differ between a class of tokens and the other tokens."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from weight_atlas.vocabulary.rank_sum import log_p_value


@dataclass(frozen=True)
class Classes:
    """Classes of tokens, prepared once for the tests of all neurons.

    ids: (n,) token ids. names: of the classes. members: for each class, positions among ids.
    """

    ids: np.ndarray
    names: list[str]
    members: list[np.ndarray]


def prepare_classes(names: list[str], matrix: np.ndarray, ids: np.ndarray) -> Classes:
    """Prepare classes of the tokens `ids` for tests; a class with none or all of them is left out.

    matrix: bool (V, classes).
    """
    members = [np.flatnonzero(column) for column in matrix[ids].T]
    kept = [number for number, positions in enumerate(members) if 0 < len(positions) < len(ids)]
    return Classes(np.asarray(ids), [names[number] for number in kept], [members[number] for number in kept])


def enrichment(effects: np.ndarray, classes: Classes) -> pd.DataFrame:
    """Difference of effects (V,) between each class and the other tokens: one row per class.

    Columns: class, tokens (size), mean_difference (mean in the class minus mean outside), score (eta squared: the share
    of the variance over tokens that the class explains), auc (probability that a token of the class has the larger
    effect, ties half), p (two-sided permutation test of auc) and its logarithm log10_p.

    A permutation draws as many random tokens as the class has. The test is of ranks, since a single token with an
    effect of a hundred standard deviations would decide any test of means. It is the same test for classes of all
    sizes, since their p values are compared: see `rank_sum`.
    """
    values = np.asarray(effects, dtype=np.float64)[classes.ids]
    centred = values - values.mean()
    total, n = float(centred @ centred), len(values)
    ranks = _ranks(values)
    rows = []
    for name, members in zip(classes.names, classes.members, strict=True):
        size = len(members)
        inside = centred[members].sum()
        explained = inside**2 / size + inside**2 / (n - size)
        pairs_won = ranks[members].sum() - size * (size + 1) / 2
        log_p = log_p_value(pairs_won, size, n - size)
        rows.append(
            {
                "class": name,
                "tokens": size,
                "mean_difference": inside / size + inside / (n - size),
                "score": explained / total if total > 0 else 0.0,
                "auc": pairs_won / (size * (n - size)),
                "p": float(np.exp(log_p)),
                "log10_p": log_p / np.log(10),
            }
        )
    return pd.DataFrame(rows, columns=["class", "tokens", "mean_difference", "score", "auc", "p", "log10_p"])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; ties have their mean rank."""
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    last = np.r_[first[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((first + last + 1) / 2, last - first)
    return ranks


def examples(effects: np.ndarray, classes: Classes, name: str, upwards: bool, k: int = 5) -> np.ndarray:
    """Ids of the k tokens of a class with the largest effects (upwards) or the smallest, strongest first."""
    ids = classes.ids[classes.members[classes.names.index(name)]]
    values = effects[ids] if upwards else -effects[ids]
    return ids[np.lexsort((ids, -values))][:k]
