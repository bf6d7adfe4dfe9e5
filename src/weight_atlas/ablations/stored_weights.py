"""Weights that an ablation of the configuration names, looked up in a checkpoint's inventory before anything is loaded.

A module's name as the checkpoint stores it may be another in the running model: it is turned into a role, an expert and
a component of the family's table, which both have.
"""

from typing import Any

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.families.roles import Role


def located(settings: dict[str, Any], inventory: pd.DataFrame, where: str) -> dict[str, Any]:
    """The settings of an ablation, with the modules that its `weights` name resolved to roles.

    inventory: of tensors. Raises AtlasError, with what there is, for a weight that the checkpoint cannot hold. What the
    inventory does not list, such as the running model's own names, is looked up in the live model later.
    """
    if settings.get("weights") is None:
        return settings
    rows = inventory[inventory["stack"] != "other"]
    names = rows.role.where(rows.role != Role.BIAS, rows.of_role + ".bias")
    rows = rows.assign(name=names)
    weights = [_located(weight, rows, where) for weight in settings["weights"]]
    for weight in weights:
        _check(weight, rows, where)
    return {**settings, "weights": weights}


def _located(weight: dict[str, Any], rows: pd.DataFrame, where: str) -> dict[str, Any]:
    component, role = weight.get("component") or "", weight.get("role")
    named = _of_module(rows, weight.get("layer"), component) if component else rows.iloc[:0]
    if named.empty:
        return weight
    roles = _roles(named[named.role != Role.BIAS] if (named.role != Role.BIAS).any() else named)
    if role is None:
        if len(roles) > 1 and Role.W_DOWN not in roles:
            raise AtlasError(
                f"{component} holds {', '.join(roles)}", where=where, remedy="give the role of one of them beside it"
            )
        role = str(Role.W_DOWN) if Role.W_DOWN in roles else roles[0]
    chosen = named[named["name"] == role]
    if chosen.empty:
        raise AtlasError(f"{component} holds no {role}", where=where, remedy=f"it holds {', '.join(_roles(named))}")
    same = rows[(rows["name"] == role) & _in_layer(rows, weight.get("layer"))]
    alone = same[(same.component == chosen.component.iloc[0]) & same.expert.isin(chosen.expert)]
    # A component of the table that several modules share says less than the module's name.
    found = str(chosen.component.iloc[0]) if alone.tensor.nunique() == chosen.tensor.nunique() else component
    expert = weight.get("expert")
    if expert is None and len(chosen) == 1 and chosen.expert.notna().all():
        expert = int(chosen.expert.iloc[0])
    return {**weight, "role": role, "component": found, "expert": expert}


def _of_module(rows: pd.DataFrame, layer: int | None, module: str) -> pd.DataFrame:
    """The tensors of a module, or the tensor, of this name below its layer."""
    here = rows[_in_layer(rows, layer)]
    path = module if layer is None else f".{layer}.{module}"
    owner = here.tensor.str.rpartition(".")[0]
    exact = (here.tensor == module) | (owner == module)
    return here[exact | here.tensor.str.endswith(path) | owner.str.endswith(path)]


def _in_layer(rows: pd.DataFrame, layer: int | None) -> pd.Series:
    return rows.layer.isna() if layer is None else (rows.layer == layer).fillna(False).astype(bool)


def _roles(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["name"].tolist()))


def _check(weight: dict[str, Any], rows: pd.DataFrame, where: str) -> None:
    """Raise AtlasError for a layer, role, expert, row or column that the checkpoint does not have."""
    role, layer, expert = weight.get("role") or str(Role.W_DOWN), weight.get("layer"), weight.get("expert")
    of_role = rows[rows["name"] == role]
    if of_role.empty and (role == Role.W_DOWN or role == Role.W_U):
        return  # no MLP, which the live model says, or a head tied to the embedding
    layers = rows.layer.dropna()
    if layer is not None and layer not in set(layers):
        raise AtlasError(
            f"there is no layer {layer}",
            where=where,
            remedy=f"the model's are {int(layers.min())} to {int(layers.max())}, numbered from 0",
        )
    here = of_role[_in_layer(of_role, layer)]
    place = "outside of the layers" if layer is None else f"in layer {layer}"
    if here.empty:
        raise AtlasError(f"there is no {role} {place}", where=where, remedy=_elsewhere(of_role, rows, layer))
    if expert is not None and here.expert.notna().any() and expert not in set(here.expert.dropna()):
        raise AtlasError(
            f"there is no expert {expert} {place}",
            where=where,
            remedy=f"its experts are {int(here.expert.min())} to {int(here.expert.max())}",
        )
    for key, sizes in (("row", here.rows), ("col", here.cols)):
        if weight.get(key) is not None and sizes.notna().any() and weight[key] >= sizes.max():
            shape = f"{int(here.rows.max())} rows" + (
                f" and {int(here.cols.max())} columns" if here.cols.notna().any() else ""
            )
            raise AtlasError(
                f"{key} {weight[key]} lies outside {role} {place}",
                where=where,
                remedy=f"it has {shape}, numbered from 0; row is the output channel, col the input channel: of W_down "
                "the neuron",
            )


def _elsewhere(of_role: pd.DataFrame, rows: pd.DataFrame, layer: int | None) -> str:
    """Where there is such a role, or which roles there are."""
    layers = of_role.layer.dropna()
    if len(layers):
        return f"layers with it are {int(layers.min())} to {int(layers.max())}, numbered from 0"
    if len(of_role):
        return "it lies outside of the layers: leave the layer out"
    here = rows[_in_layer(rows, layer)]
    return f"there are: {', '.join(_roles(here if len(here) else rows))}"
