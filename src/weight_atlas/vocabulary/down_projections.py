"""Which tensors of a checkpoint are MLP output projections, whose columns are neurons."""

import pandas as pd

from weight_atlas.errors import NotApplicable
from weight_atlas.families.roles import Role
from weight_atlas.inventory_row import InventoryRow


def down_projections(inventory: pd.DataFrame) -> pd.DataFrame:
    """The decoder's MLP output projections, as rows of an inventory in the order of layers."""
    every = inventory[(inventory["role"] == Role.W_DOWN.value) & inventory.layer.notna()]
    rows = every[every["stack"] == "decoder"]
    if rows.empty:
        raise NotApplicable(
            "the model has no MLP output projection, so there are no neurons"
            if every.empty
            else "the model has no decoder: the neurons of an encoder predict no next token",
            remedy="switch off the vocabulary analyses of this model",
        )
    return rows[rows.readable].reset_index(drop=True)


def projections_of(inventory: pd.DataFrame, neurons: pd.DataFrame) -> pd.DataFrame:
    """The output projections of some neurons (columns layer, expert, component)."""
    rows = down_projections(inventory)
    wanted = set(map(_place, neurons.itertuples()))
    return rows[[_place(row) in wanted for row in rows.itertuples()]].reset_index(drop=True)


def of_component(rows: pd.DataFrame, component: str) -> pd.DataFrame:
    """Of the output projections of one layer or expert, those that match a live module's path (or "").

    A layer may have shared experts beside a dense MLP; live modules and the inventory name them differently.
    """
    if len(rows) < 2:
        return rows
    shared = rows.component.str.contains("shared")
    return rows[shared if "shared" in component else ~shared]


def _place(row: InventoryRow) -> tuple[int, int, str]:
    return int(row.layer), -1 if pd.isna(row.expert) else int(row.expert), row.component
