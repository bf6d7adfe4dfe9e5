"""Is a neuron's effect larger on some class of tokens than chance would have it?"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

# Classes up to this size are tested by drawing; for larger ones the mean of a draw is normal to many digits.
DRAWN = 2000


@dataclass(frozen=True)
class Classes:
    """Classes of the tokens that are tested, prepared once for all neurons.

    ids: (n,) token ids. names: of the classes. members: for each class, positions among ids. draws: for each class of
    at most DRAWN tokens, int32 (permutations, size): positions that a random class of its size takes, else None.
    """

    ids: np.ndarray
    names: list[str]
    members: list[np.ndarray]
    permutations: int
    draws: list[np.ndarray | None] = field(repr=False)


def prepare_classes(
    names: list[str], matrix: np.ndarray, ids: np.ndarray, *, permutations: int = 999, seed: int = 0
) -> Classes:
    """Prepare classes for tests among the tokens ids; a class with none or all of them is left out.

    matrix: bool (V, classes). The draws depend on seed, sizes and number of tokens alone.
    """
    kept, members, draws = [], [], []
    for name, column in zip(names, matrix[ids].T, strict=True):
        own = np.flatnonzero(column)
        if 0 < len(own) < len(ids):
            kept.append(name)
            members.append(own)
            draws.append(_draws(len(ids), len(own), permutations, seed) if len(own) <= DRAWN else None)
    return Classes(np.asarray(ids), kept, members, permutations, draws)


def _draws(n: int, size: int, permutations: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, n, size])
    return np.stack([generator.choice(n, size, replace=False, shuffle=False) for _ in range(permutations)]).astype(
        np.int32
    )


def enrichment(effects: np.ndarray, classes: Classes) -> pd.DataFrame:
    """How effects (V,) differ between each class and the other tokens: one row per class.

    Columns: class, tokens (size), mean_difference (mean in the class minus mean outside), score (eta squared: the share
    of the variance over tokens that the class explains), auc (probability that a token of the class has the larger
    effect, ties half), p (two-sided permutation test of the mean), p_method.

    A permutation gives the class's labels to as many random tokens. Small classes draw: p = (1 + permutations at least
    as far from the mean) / (1 + permutations). For large ones the permutation distribution is taken as normal with
    its exact mean and variance (Hoeffding 1951).
    """
    values = np.asarray(effects, dtype=np.float64)[classes.ids]
    centred = values - values.mean()
    total, n = float(centred @ centred), len(values)
    ranks = _ranks(values)
    single = centred.astype(np.float32)
    rows = []
    for name, members, draws in zip(classes.names, classes.members, classes.draws, strict=True):
        size = len(members)
        inside = centred[members].sum()
        difference = inside / size + inside / (n - size)
        explained = inside**2 / size + inside**2 / (n - size)
        auc = (ranks[members].sum() - size * (size + 1) / 2) / (size * (n - size))
        rows.append(
            {
                "class": name,
                "tokens": size,
                "mean_difference": difference,
                "score": explained / total if total > 0 else 0.0,
                "auc": auc,
                "p": _permutation_p(inside, size, single, draws, total) if total > 0 else 1.0,
                "p_method": "normal limit" if draws is None else f"{classes.permutations} draws",
            }
        )
    return pd.DataFrame(rows)


def _permutation_p(inside: float, size: int, centred: np.ndarray, draws: np.ndarray | None, total: float) -> float:
    if draws is not None:
        sums = np.abs(centred[draws].sum(axis=1, dtype=np.float64))
        # Equal sums count as far: rounding must not decide.
        return float((1 + np.count_nonzero(sums >= abs(inside) * (1 - 1e-6))) / (1 + len(draws)))
    from scipy.special import ndtr

    n = len(centred)
    variance = size * (n - size) / (n * (n - 1)) * total
    return float(max(2 * ndtr(-abs(inside) / np.sqrt(variance)), np.finfo(float).tiny))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties at their mean."""
    order = np.argsort(values)
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    last = np.r_[first[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((first + last + 1) / 2, last - first)
    return ranks


def adjusted(p: np.ndarray) -> np.ndarray:
    """P values corrected for their number (Benjamini and Hochberg 1995): the false discovery rate of each."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    result = np.empty(len(p))
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result


def examples(effects: np.ndarray, classes: Classes, name: str, upwards: bool, k: int = 5) -> np.ndarray:
    """Ids of the k tokens of a class with the largest effects (upwards) or the smallest, strongest first."""
    ids = classes.ids[classes.members[classes.names.index(name)]]
    values = effects[ids] if upwards else -effects[ids]
    return ids[np.lexsort((ids, -values))][:k]
