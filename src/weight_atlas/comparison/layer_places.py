"""Layers of a model that stand at other places in another, as where layers were dropped, doubled or exchanged."""

from collections.abc import Iterable

import numpy as np

from weight_atlas.comparison.pairing import KEY
from weight_atlas.comparison.profiles import Key, Matrix, ModelProfile

_STACK, _LAYER = KEY.index("stack"), KEY.index("layer")
# A layer is another one where it is at least this much like it, and by this much more than like that of its own place.
ALIKE, NEARER = 0.5, 0.25
Place = tuple[str, int]


def origins(a: ModelProfile, b: ModelProfile) -> dict[Place, int]:
    """The layers of b that are layers of other places in a: {(stack, layer of b): layer of a}.

    By the mean cosine of the samples of all matrices of two layers, which is near 0 for unrelated ones.
    """
    found: dict[Place, int] = {}
    for stack in dict.fromkeys(str(key[_STACK]) for key in b.matrices):
        one, other = (_by_kind(each, stack) for each in (a, b))
        kinds = [kind for kind in other if kind in one]
        if kinds:
            found |= {(stack, layer): place for layer, place in _moved(one, other, kinds).items()}
    return found


def matched(a: ModelProfile, b: ModelProfile, moved: dict[Place, int]) -> list[tuple[Key, Key]]:
    """Keys of a and of b that hold one matrix: of one place and shape, of moved layers where they come from."""
    pairs = []
    for key, matrix in b.matrices.items():
        layer = moved.get((str(key[_STACK]), key[_LAYER]), key[_LAYER])
        origin = (*key[:_LAYER], layer, *key[_LAYER + 1 :])
        if origin in a.matrices and a.matrices[origin].shape == matrix.shape:
            pairs.append((origin, key))
    return pairs


def mismatched(pairs: Iterable[tuple[Key, Key]]) -> list[tuple[Key, Key]]:
    """Of matched keys those of one role and shape, but of different layers: what has nothing in common but its kind.

    Each matrix of a with that of b in the next layer which comes from another layer of a, the last with the first.
    """
    by_kind: dict[tuple, list[tuple[Key, Key]]] = {}
    for one, other in pairs:
        by_kind.setdefault(_kind(other), []).append((one, other))
    crossed = []
    for places in by_kind.values():
        for number, (one, _) in enumerate(places):
            after = [*places[number + 1 :], *places[:number]]
            crossed += [(one, other) for origin, other in after if origin != one][:1]
    return crossed


def _kind(key: Key) -> tuple:
    return tuple(part for place, part in enumerate(key) if place != _LAYER)


def _by_kind(model: ModelProfile, stack: str) -> dict[tuple, dict[int, Matrix]]:
    """Matrices of layers by kind and shape, then by layer."""
    found: dict[tuple, dict[int, Matrix]] = {}
    for key, matrix in model.matrices.items():
        if str(key[_STACK]) == stack and key[_LAYER] >= 0:
            found.setdefault((_kind(key), matrix.shape), {})[key[_LAYER]] = matrix
    return found


def _moved(one: dict, other: dict, kinds: list[tuple]) -> dict[int, int]:
    """Layers of b and where they stand in a, of those that are not what stands at their own place."""
    layers_a = sorted({layer for kind in kinds for layer in one[kind]})
    layers_b = sorted({layer for kind in kinds for layer in other[kind]})
    sums, counts = np.zeros((len(layers_b), len(layers_a))), np.zeros((len(layers_b), len(layers_a)))
    own = {layer: _own(one, other, kinds, layer) for layer in layers_b}
    if all(cosine > ALIKE for cosine in own.values()):
        return {}
    for kind in kinds:
        (rows, x), (cols, y) = (
            _directions(each[kind], layers) for each, layers in ((other, layers_b), (one, layers_a))
        )
        width = min(x.shape[1], y.shape[1])
        sums[np.ix_(rows, cols)] += x[:, :width] @ y[:, :width].T
        counts[np.ix_(rows, cols)] += 1
    cosines = sums / np.maximum(counts, 1)
    best = {
        layer: (layers_a[int(row.argmax())], float(row.max())) for layer, row in zip(layers_b, cosines, strict=True)
    }
    return {
        layer: place
        for layer, (place, cosine) in best.items()
        if place != layer and cosine > max(ALIKE, own[layer] + NEARER)
    }


def _own(one: dict, other: dict, kinds: list[tuple], layer: int) -> float:
    """Mean cosine of the layers of one number; 0 where a has none."""
    cosines = []
    for kind in kinds:
        if layer in one[kind] and layer in other[kind]:
            _, x = _directions({layer: one[kind][layer]}, [layer])
            _, y = _directions({layer: other[kind][layer]}, [layer])
            width = min(x.shape[1], y.shape[1])
            cosines.append(float(x[0, :width] @ y[0, :width]))
    return float(np.mean(cosines)) if cosines else 0.0


def _directions(matrices: dict[int, Matrix], layers: list[int]) -> tuple[list[int], np.ndarray]:
    """The places of the layers of a kind among all, and their samples as unit vectors (layers, samples)."""
    own = [layer for layer in layers if layer in matrices]
    width = min(len(matrices[layer].values) for layer in own)
    values = np.nan_to_num(np.stack([matrices[layer].values[:width] for layer in own]), posinf=0, neginf=0)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return [layers.index(layer) for layer in own], values / np.where(norms > 0, norms, 1.0)
