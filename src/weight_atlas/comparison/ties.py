"""Of two models one of whose output embeddings is its token embedding, and the other's a matrix of its own."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from weight_atlas.comparison.sides import Sides
from weight_atlas.families.roles import Role
from weight_atlas.families.ties import same_values


def told_of_ties(sides: Sides, models: Sequence[str]) -> dict[str, Any] | None:
    """A finding that says whose embeddings are tied, and whether those of the other hold the same values all the same.

    None where both are tied, or neither, or one of the models has no output embedding. models: the names of a and b.
    """
    if sides.adapter is not None:
        return None
    found = [_embeddings(inventory) for inventory in sides.inventories]
    if not all({*each} == {Role.W_E.value, Role.W_U.value} for each in found):
        return None
    tied = [(number, row) for number, each in enumerate(found) for row in each.values() if row.tied_to]
    if len(tied) != 1:
        return None
    ((number, tie),) = tied
    own = found[1 - number]
    one, other = own[Role.W_U.value], own[Role.W_E.value]
    same = same_values(sides.checkpoints[1 - number], one.tensor, other.tensor)
    how = f"a copy of its {other.tensor}" if same else f"another matrix than its {other.tensor}"
    return {
        "grade": "info" if same else "notable",
        "text": f"The output embedding of {models[number]} is its token embedding ({tie.tied_to}); "
        f"{models[1 - number]} stores its own, {one.tensor}, {how}.",
        "place": one.id,
    }


def _embeddings(inventory: pd.DataFrame) -> dict[str, Any]:
    """The rows of the token embedding and the output embedding by their roles, where there is one of each."""
    rows = [
        row for row in inventory.itertuples() if row.role in (Role.W_E, Role.W_U) and not row.component and row.readable
    ]
    return {row.role: row for row in rows} if len(rows) == 2 else {}
