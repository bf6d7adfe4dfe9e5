"""A model as a weighted sum of others: least squares over samples of all matrices, and over those of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from weight_atlas.comparison.profiles import Key, ModelProfile, shared

# Weights from here on count as none, or as negative.
NEGLIGIBLE = 0.02
# A merge leaves at most this share of the way to its nearest parent, or what rounding explains.
LEFT, ROUNDINGS = 0.15, 1.5
COLUMNS = ["model", "id", "role", "layer", "parent", "weight", "residual", "nearest"]


@dataclass(frozen=True)
class Merge:
    """A model as a sum of parents, whose weights add up to 1.

    residual: norm of what is left over the norm of the model, over all samples; nearest: of what its nearest parent
    leaves. tensors: a row for each matrix and parent, see COLUMNS.
    """

    model: str
    weights: dict[str, float]
    residual: float
    nearest: float
    tensors: pd.DataFrame


def merge_of(model: ModelProfile, candidates: Sequence[ModelProfile]) -> Merge | None:
    """The merge that explains a model; None where no sum of two or more others with positive weights does.

    Weights that come out negative are left out one by one: of an exact merge each parent is a sum too, but with one.
    """
    keys = [key for key in model.matrices if all(key in shared(model, other) for other in candidates)]
    parents = list(candidates)
    while len(parents) >= 2 and keys:
        weights = _weights(model, parents, keys)
        least = int(np.argmin(weights))
        if weights[least] >= NEGLIGIBLE:
            return _judged(model, parents, weights, keys)
        parents.pop(least)
    return None


def _samples(model: ModelProfile, parents: Sequence[ModelProfile], key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Values of a matrix of the model, (n,), and of its parents, (n, parents), at places where all are finite."""
    every = [each.matrices[key].values for each in (model, *parents)]
    count = min(map(len, every))
    table = np.stack([values[:count] for values in every], axis=1)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0], table[:, 1:]


def _weights(model: ModelProfile, parents: Sequence[ModelProfile], keys: Sequence[Key]) -> np.ndarray:
    """Weights that add up to 1 with the least squares left, by the normal equations of differences to one parent."""
    gram, right = np.zeros((len(parents) - 1,) * 2), np.zeros(len(parents) - 1)
    for key in keys:
        target, values = _samples(model, parents, key)
        steps = values[:, 1:] - values[:, :1]
        gram += steps.T @ steps
        right += steps.T @ (target - values[:, 0])
    found = np.linalg.lstsq(gram, right, rcond=1e-10)[0]
    return np.concatenate([[1 - found.sum()], found])


def _judged(
    model: ModelProfile, parents: Sequence[ModelProfile], weights: np.ndarray, keys: Sequence[Key]
) -> Merge | None:
    left, whole, rounding, apart = 0.0, 0.0, 0.0, np.zeros(len(parents))
    for key in keys:
        target, values = _samples(model, parents, key)
        energy = float(target @ target)
        left += float(np.sum((target - values @ weights) ** 2))
        apart += ((target[:, None] - values) ** 2).sum(axis=0)
        whole += energy
        rounding += energy * model.matrices[key].rounding ** 2
    if whole == 0 or left > max(LEFT**2 * apart.min(), ROUNDINGS**2 * rounding) or apart.min() < 9 * rounding:
        return None
    names = [parent.name for parent in parents]
    return Merge(
        model.name,
        dict(zip(names, map(float, weights), strict=True)),
        (left / whole) ** 0.5,
        (float(apart.min()) / whole) ** 0.5,
        pd.DataFrame([row for key in keys for row in _by_tensor(model, parents, key)], columns=COLUMNS),
    )


def _by_tensor(model: ModelProfile, parents: Sequence[ModelProfile], key: Key) -> list[dict[str, object]]:
    weights = _weights(model, parents, [key])
    target, values = _samples(model, parents, key)
    norm = max(float(np.linalg.norm(target)), 1e-300)
    residual = float(np.linalg.norm(target - values @ weights)) / norm
    nearest = float(np.sqrt(((target[:, None] - values) ** 2).sum(axis=0).min())) / norm
    layer = None if key[1] == -1 else key[1]
    place = {"model": model.name, "id": model.matrices[key].id, "role": key[3], "layer": layer}
    return [
        {**place, "parent": parent.name, "weight": float(weight), "residual": residual, "nearest": nearest}
        for parent, weight in zip(parents, weights, strict=True)
    ]


def pieces_of(model: ModelProfile, candidates: Sequence[ModelProfile]) -> dict[str, int]:
    """How many matrices of a model are those of each other one, where all are, and no single one has them all.

    A matrix that several have counts for the first of the fewest that are needed; {} where some matrix is in none.
    """
    same = {other.name: {key for key in shared(model, other) if _equal(model, other, key)} for other in candidates}
    left, found = set(model.matrices), {}
    while left:
        best = max(same, key=lambda name: len(same[name] & left), default=None)
        if best is None or not same[best] & left:
            return {}
        found[best] = len(same[best] & left)
        left -= same[best]
    return found if len(found) > 1 else {}


def _equal(model: ModelProfile, other: ModelProfile, key: Key) -> bool:
    x, y = model.matrices[key].values, other.matrices[key].values
    count = min(len(x), len(y))
    return np.array_equal(x[:count], y[:count], equal_nan=True)
