"""The updates of an adapter, each with the tensor of the model that it changes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from weight_atlas.comparison.sources import Stored, Update, Updated
from weight_atlas.errors import AtlasError
from weight_atlas.families.adapters import experts_of, scale_of
from weight_atlas.families.layouts import Selection, extract
from weight_atlas.families.pieces import load_piece
from weight_atlas.families.roles import Role

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint

PLACE = ["stack", "layer", "expert", "of_role", "component"]
_VALUES = r"\.lora_E(?:\.|$)"  # in the names of AdaLoRA's singular values, whose role is that of any other tensor
_OTHER_PARTS = r"\.(?:lora_|ia3_l|trainable_tokens|token_indices)"  # biases of updates, factors of activations, rows
_PARTS = (Role.LORA_A.value, Role.LORA_B.value, Role.LORA_MAGNITUDE.value)


def others(inventory: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What an adapter's inventory holds beside its updates: tensors stored whole, and parts of other changes."""
    between = inventory["tensor"].str.contains(_VALUES)
    rest = inventory[~(inventory["role"].isin(_PARTS) | between)]
    parts = rest["tensor"].str.contains(_OTHER_PARTS)
    return rest[~parts], rest[parts]


@dataclass(frozen=True)
class Changed:
    """One update of an adapter: the rows of its inventory that hold it.

    magnitude: of DoRA, values: the singular values between the factors of AdaLoRA; else None.
    """

    place: tuple
    down: Any
    up: Any
    magnitude: Any | None
    values: Any | None

    @property
    def of(self) -> list[str]:
        """The roles of what it changes; several of a fused tensor."""
        return str(self.down.of_role).split("+")


def updates(inventory: pd.DataFrame) -> list[Changed]:
    """The updates in an adapter's inventory, in its order; factors without their other half are left out."""
    found: dict[tuple, dict[str, Any]] = {}
    between = inventory["tensor"].str.contains(_VALUES)
    for row in inventory[inventory["role"].isin(_PARTS) | between].itertuples(index=False):
        place = tuple(-1 if pd.isna(value) else value for value in (getattr(row, name) for name in PLACE))
        part = row.role if row.role in _PARTS else _VALUES
        found.setdefault(place, {}).setdefault(part, row)
    down, up, magnitude = _PARTS
    return [
        Changed(place, each[down], each[up], each.get(magnitude), each.get(_VALUES))
        for place, each in found.items()
        if {down, up} <= each.keys()
    ]


def changed_rows(update: Changed, inventory: pd.DataFrame) -> Iterator[Any]:
    """The tensors of a model's inventory that an update changes: one, or the pieces of a fused one."""
    stack, layer, expert, _, component = update.place
    for row in inventory.itertuples(index=False):
        place = tuple(-1 if pd.isna(value) else value for value in (row.layer, row.expert))
        if (row.stack, *place, row.component) == (stack, layer, expert, component) and row.role in update.of:
            yield row


def update_of(adapter: "Checkpoint", update: Changed, row: Any | None) -> Update:
    """The update of one tensor by its factors.

    row: of the model's inventory, a piece of a fused tensor perhaps; None for the update as it stands in the adapter.
    AtlasError where the factors do not fit the tensor, or where their scale is not known.
    """
    down, up = (load_piece(adapter, each) for each in (update.down, update.up))
    rank, dtype = down.shape[0], down.dtype
    scale = scale_of(adapter.config, update.down.tensor, rank)
    if scale is None:
        raise _misfit(update, "adapter_config.json gives no alpha and rank")
    if (experts := experts_of(adapter.config, update.down.tensor, rank)) > 1:
        raise AtlasError(
            f"factors of {experts} experts lie side by side in one update, which cannot be compared",
            where=update.down.tensor,
            remedy="merge the adapter into its model, and compare the merged model",
        )
    if update.values is not None:
        values = load_piece(adapter, update.values).double().reshape(-1, 1)
        if len(values) != rank:
            raise _misfit(update, f"it has {len(values)} singular values for a rank of {rank}")
        down = values * down.double()
    if "lora_embedding" in update.down.tensor:
        down, up = up.T, down.T
    if row is None:
        return Update(up.double(), down.double(), scale, dtype)
    if len(update.of) > 1:
        selection = Selection.decode(row.selection)
        if selection.piece is None:
            raise _misfit(update, "it is for a fused tensor, which the model does not have")
        up = extract(up.contiguous(), replace(selection, expert=None, experts=0, transposed=False, rotary_heads=0))
    if (up.shape[0], down.shape[1]) != (row.rows, row.cols):
        raise _misfit(update, f"it is for {up.shape[0]}x{down.shape[1]}, the model has {row.rows}x{row.cols}")
    return Update(up.double(), down.double(), scale, dtype)


def updated(model: "Checkpoint", adapter: "Checkpoint", update: Changed, row: Any) -> tuple[Stored, Updated]:
    """A tensor of the model, and the same one with the update."""
    base = Stored(load_piece(model, row))
    change = update_of(adapter, update, row)
    magnitudes: torch.Tensor | None = None
    if update.magnitude is not None:
        magnitudes = load_piece(adapter, update.magnitude).double().reshape(-1)
        if len(update.of) > 1:
            selection = replace(
                Selection.decode(row.selection), expert=None, experts=0, transposed=False, rotary_heads=0
            )
            magnitudes = extract(magnitudes, selection)
        if len(magnitudes) != row.rows:
            raise _misfit(update, f"it has {len(magnitudes)} magnitudes, the model {row.rows} rows")
    return base, Updated.of(base, change, magnitudes)


def _misfit(update: Changed, why: str) -> AtlasError:
    return AtlasError(
        f"an update cannot be applied: {why}", where=update.down.tensor, remedy="compare it with its own base"
    )
