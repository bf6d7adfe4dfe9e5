"""A recipe for one model: the allocation of types that fits a size with the least noise, as a table."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.inventory_row import Load
from weight_atlas.quantization.recipes.allocate import Allocation, allocate
from weight_atlas.quantization.recipes.costs import Costs, unit_costs
from weight_atlas.quantization.recipes.types import EXCLUSIVE, TYPES, StoredType
from weight_atlas.quantization.recipes.uniform import largest_within, recorded, uniforms
from weight_atlas.quantization.recipes.units import Unit
from weight_atlas.settings.quantization import Recipe

if TYPE_CHECKING:
    pass

_SPARED_BITS = 8  # fewest bits of a tensor with a super weight


@dataclass(frozen=True)
class Allocated:
    """table: a row a unit. chosen: the type of each. summary: size, noise and gap, in plain values."""

    table: pd.DataFrame
    chosen: list[tuple[Unit, str]]
    summary: dict[str, Any]


def allocated(
    units: list[Unit],
    inventory: pd.DataFrame,
    load: Load,
    importance: Callable[[Any], tuple[np.ndarray | None, str]],
    spared: Collection[str],
    recipe: Recipe,
    threads: int = 1,
) -> Allocated:
    """Choose the types of all units. spared: ids of matrices that keep 8 bits or more, for their super weights."""
    if not units:
        raise NotApplicable(f"{recipe.format} quantizes none of its matrices")
    rows = {row.id: row for row in inventory.itertuples(index=False)}
    types = TYPES[recipe.format]
    with ThreadPoolExecutor(threads) as pool:
        costs = unit_costs(units, types, rows, load, importance, pool)
    costs = _sparing(costs, types, [bool(set(unit.ids) & set(spared)) for unit in units])
    fixed, parameters = _fixed_bits(units, inventory, recipe.format)
    budget = recipe.gb * 8e9 if recipe.gb is not None else (recipe.bits or 0.0) * parameters
    found, noise = _least(costs, types, recipe.format, budget - fixed, fixed, parameters)
    picked = np.arange(len(units)), found.chosen
    size = float(costs.sizes[picked].sum()) + fixed
    table = pd.DataFrame(
        {
            "unit": [unit.name for unit in units],
            "matrices": [len(unit.ids) for unit in units],
            "weights": costs.weights,
            "type": [types[kind].name for kind in found.chosen],
            "bits": costs.sizes[picked] / costs.weights,
            "bytes": np.ceil(costs.sizes[picked] / 8).astype(np.int64),
            "noise": noise[picked],
            "sqnr_db": _decibels(noise[picked]),
            "weighted_by": costs.bases,
            "spared": [bool(set(unit.ids) & set(spared)) for unit in units],
        }
    )
    single = uniforms(costs, types, recipe.format)
    best = largest_within(single, budget - fixed)
    summary = {
        "format": recipe.format,
        "budget_bytes": budget / 8,
        "bytes": size / 8,
        "bits_per_weight": size / parameters,
        "noise": float(noise[picked].sum()),
        "gap": found.gap,
        "units": len(units),
        "fixed_bytes": fixed / 8,
        "uniform": best and {"type": best.type, "bytes": best.bits / 8, "noise": best.noise},
        "uniforms": recorded(single, types, [unit.name for unit in units], fixed),
    }
    return Allocated(table, [(unit, types[kind].name) for unit, kind in zip(units, found.chosen, strict=True)], summary)


def spared_ids(inventory: pd.DataFrame, super_weights: dict[str, Any] | None) -> set[str]:
    """The matrices that hold super weights; super_weights: their artifact, None where they were not looked for."""
    found: set[str] = set()
    for record in (super_weights or {}).get("super_weights", []):
        same = inventory["tensor"].map(lambda name, wanted=record["tensor"]: _same(name, wanted))
        expert, number = inventory["expert"], record["expert_id"]
        here = expert.isna() if number is None else expert.eq(number).fillna(False)
        found |= set(inventory.loc[same & here, "id"])
    return found


def _same(name: str, other: str) -> bool:
    """Names of one tensor, of which one may stand below the part that the head is on."""
    return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")


def _sparing(costs: Costs, types: tuple[StoredType, ...], spared: list[bool]) -> Costs:
    sizes = costs.sizes.copy()
    for number in np.flatnonzero(spared):
        sizes[number, sizes[number] < _SPARED_BITS * costs.weights[number]] = np.inf
    return replace(costs, sizes=sizes)


def _fixed_bits(units: list[Unit], inventory: pd.DataFrame, tool: str) -> tuple[float, int]:
    """Bits of all that is in no unit, and the parameters of the model: 16 bits each; llama.cpp keeps vectors in 32."""
    own = inventory[(inventory["tied_to"] == "") & (inventory["parameters"] > 0)]
    rest = own[~own["id"].isin([name for unit in units for name in unit.ids])]
    wide = rest["cols"].isna() & (tool == "llama.cpp")
    return float((rest["parameters"] * np.where(wide, 32, 16)).sum()), int(own["parameters"].sum())


def _least(
    costs: Costs, types: tuple[StoredType, ...], tool: str, room: float, fixed: float, parameters: int
) -> tuple[Allocation, np.ndarray]:
    """The best allocation, over the kinds of which a model can have one only; with the noise that it chose from."""
    names = [kind.name for kind in types]
    only = EXCLUSIVE.get(tool, ("",))
    best: tuple[float, Allocation] | None = None
    for kept in only:
        others = [names.index(name) for name in only if name and name != kept]
        sizes = costs.sizes.copy()
        sizes[:, others] = np.inf
        smallest = sizes.min(axis=1).sum()
        if smallest <= room:
            found = allocate(sizes, costs.noise, room)
            noise = float(costs.noise[np.arange(len(sizes)), found.chosen].sum())
            best = (noise, found) if best is None or noise < best[0] else best
    if best is None:
        least = (costs.sizes.min(axis=1).sum() + fixed) / parameters
        gigabytes = np.ceil(least * parameters / 8e3) / 1e6  # rounded up, so that it does
        raise AtlasError(
            f"the recipe asks for {(room + fixed) / parameters:.4g} bits per weight, and {tool} can do no less than "
            f"{least:.4g}",
            where="recipes",
            remedy=f"give bits: {np.ceil(least * 100) / 100:g} or more, or gb: {gigabytes:g} or more",
        )
    return best[1], costs.noise


def _decibels(noise: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -10 * np.log10(noise)
