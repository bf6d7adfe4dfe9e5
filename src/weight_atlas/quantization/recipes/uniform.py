"""One type for all units of a model: what a recipe is to beat."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from weight_atlas.quantization.recipes.costs import Costs
from weight_atlas.quantization.recipes.types import EXCLUSIVE, StoredType


@dataclass(frozen=True)
class Uniform:
    """A type for all units, with the one nearest in size where a unit cannot have it.

    chosen: number of the type of each unit. bits, noise: sums over the units.
    """

    type: str
    chosen: np.ndarray
    bits: float
    noise: float


def uniforms(costs: Costs, types: tuple[StoredType, ...], tool: str) -> list[Uniform]:
    """Each type that some unit can have, in the order of the types."""
    only, found = EXCLUSIVE.get(tool, ()), []
    for kind, stored in enumerate(types):
        possible = np.isfinite(costs.sizes)
        if stored.name in only:
            possible[:, [number for number, each in enumerate(types) if each.name in only and number != kind]] = False
        if not possible[:, kind].any():
            continue
        distance = np.abs(costs.sizes - stored.nominal_bits * costs.weights[:, None])
        chosen = np.where(possible[:, kind], kind, np.where(possible, distance, np.inf).argmin(axis=1))
        picked = np.arange(len(chosen)), chosen
        found.append(Uniform(stored.name, chosen, float(costs.sizes[picked].sum()), float(costs.noise[picked].sum())))
    return found


def largest_within(found: Iterable[Uniform], room: float) -> Uniform | None:
    """Of those of at most so many bits the one with the least noise, the first of equals."""
    return min((each for each in found if each.bits <= room), key=lambda each: each.noise, default=None)


def recorded(
    found: Iterable[Uniform], types: tuple[StoredType, ...], names: list[str], fixed: float
) -> list[dict[str, Any]]:
    """In plain values: type, bytes of the whole model, noise, and instead, the types of units that have another one.

    names: of the units. fixed: bits of all that is in no unit.
    """
    return [
        {
            "type": each.type,
            "bytes": (each.bits + fixed) / 8,
            "noise": each.noise,
            "instead": {
                name: types[kind].name
                for name, kind in zip(names, each.chosen, strict=True)
                if types[kind].name != each.type
            },
        }
        for each in found
    ]
