"""The interventions that show what a recipe is worth: its own types, and single types of its size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weight_atlas.dtypes import DTYPES
from weight_atlas.errors import AtlasError
from weight_atlas.interventions.intervention import UNCHANGED, Intervention
from weight_atlas.interventions.rounded_matrices import MatrixPlace, RoundedAs
from weight_atlas.quantization.recipes.types import SIXTEEN, TYPES, StoredType
from weight_atlas.quantization.recipes.units import Unit

RECIPE, UNIFORM, LARGER = "recipe", "uniform", "larger"


@dataclass(frozen=True)
class Sized:
    """An intervention and what it takes: the single type of it, "" for several or none, and bytes of the model."""

    intervention: Intervention
    type: str
    bytes: float


def recipe_variants(
    units: list[Unit],
    table: pd.DataFrame,
    summary: Mapping[str, Any],
    inventory: pd.DataFrame,
    stacks: Iterable[str],
    *,
    larger: bool,
    threads: int = 1,
) -> list[Sized]:
    """The unchanged model, the recipe, the best single type that is no larger, and the next larger one if asked for.

    table, summary: of recipes.recipe.Allocated. stacks: of the running model; what lies in others, such as the image
    encoder of a model that also reads text, does not run. Single types that there are none of are left out.
    """
    if list(table["unit"]) != [unit.name for unit in units]:
        raise AtlasError(
            "the recipe is of other units than the model's", where="recipe", remedy="make the recipe of this model anew"
        )
    own = inventory[(inventory["tied_to"] == "") & (inventory["parameters"] > 0)]
    running = own[own["stack"].isin(list(stacks))]
    rows = {row.id: row for row in running.itertuples(index=False)}
    known = {kind.name: kind for kind in TYPES[summary["format"]]}

    def rounded(name: str, kind: str, types: Iterable[str]) -> Intervention:
        kinds = _kinds(units, [known[each] for each in types], rows)
        weights = sum(where.shape[0] * where.shape[1] for where, _ in kinds)
        return Intervention(kind, RoundedAs(tuple(kinds), weights, threads), name=name)

    found = [
        Sized(UNCHANGED, "", float(own["bytes"].sum())),
        Sized(rounded(RECIPE, "recipe", table["type"]), "", summary["bytes"]),
    ]
    for name, single in single_types(summary, larger=larger).items():
        types = [single["instead"].get(unit.name, single["type"]) for unit in units]
        found.append(Sized(rounded(name, "uniform", types), single["type"], single["bytes"]))
    return found


def single_types(summary: Mapping[str, Any], *, larger: bool) -> dict[str, dict[str, Any]]:
    """Of the single types of a recipe's summary the best that is no larger than it, and the next larger one."""
    size = summary["bytes"] * (1 + 1e-9)  # sums of the same sizes in another order
    within = [each for each in summary["uniforms"] if each["bytes"] <= size]
    beyond = [each for each in summary["uniforms"] if each["bytes"] > size]
    found = {UNIFORM: min(within, key=lambda each: each["noise"], default=None)}
    if larger:
        found[LARGER] = min(beyond, key=lambda each: (each["bytes"], each["noise"]), default=None)
    return {name: each for name, each in found.items() if each is not None}


def _kinds(units: list[Unit], types: list[StoredType], rows: Mapping[str, Any]) -> list[tuple[MatrixPlace, StoredType]]:
    """What each matrix is rounded to; one that 16 bits hold as it is stored is none of them."""
    return [
        (_place(rows[name]), kind)
        for unit, kind in zip(units, types, strict=True)
        for name in unit.ids
        if name in rows and not (kind.name == SIXTEEN and _holds(rows[name].dtype))
    ]


def _holds(dtype: str) -> bool:
    """Whether 16 bits hold what is stored in a type; packed ones, such as GGUF's, are unfolded to float32."""
    return dtype in DTYPES and DTYPES[dtype].bits <= 16


def _place(row: Any) -> MatrixPlace:
    layer, expert = (None if pd.isna(each) else int(each) for each in (row.layer, row.expert))
    return MatrixPlace(row.role, row.component, row.stack, layer, expert, (int(row.rows), int(row.cols)))
