"""What shape each tensor should have, as the `shapes` of a family's table say it.

They give logical rows and columns as expressions of quantities or keys of config.json: sums of products
("kv_rank + qk_rope_head_dim"), alternatives ("d_model or d_embedding": of a vector, one of them in all layers of a
kind), `same` (alike in all layers of a kind), `kind` (the same, if config.json gives the kinds of layers) or `any`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weight_atlas.families.matching import Match
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Family
from weight_atlas.families.sizes import Place, Sizes

SAME, KIND, ANY, VOCABULARY, NOTHING = "same", "kind", "any", "vocabulary", "0"
_HEADS = "n_heads", "n_kv_heads"


@dataclass(frozen=True)
class Dimension:
    """One size of one logical tensor: its row of the inventory, its axis, its expression, and the module it is in.

    Axis 2 stands for all sizes as they are stored, where they are more than two: several of them read as one matrix.
    """

    row: dict[str, Any]
    axis: int
    expression: str
    module: str
    place: Place

    @property
    def size(self) -> int | str:
        """The size as it is; 0 for the columns of a vector."""
        if self.axis == 2:
            stored = self.row["stored_shape"]
            return stored.partition("x")[2] if "stacked" in self.row["layout"] else stored
        return self.row["cols" if self.axis else "rows"] or 0

    @property
    def expressions(self) -> list[str]:
        """The alternatives that the table gives; none where the size follows from other tensors only."""
        return [] if self.expression in (SAME, ANY) else self.expression.split(" or ")


def module_of(pattern: str) -> str:
    """The module that a pattern of tensor names belongs to."""
    return pattern.removesuffix(".weight").removesuffix(".bias")


def expected(family: Family, match: Match, role: str, expert: bool) -> tuple[str, ...]:
    """Expressions for the rows and columns of a matched tensor's piece, or () where the family's table gives none.

    Looked up by tensor, by module, by role of an expert ("expert W_up") or of a part outside the layers ("outer norm"),
    by role, with the component if there is one ("W_dense(pooler)"). A bias has the rows of its matrix.
    """
    if wanted := family.shapes.get(match.pattern):
        return wanted
    named = f"{role}({match.row.component})" if match.row.component else role
    special = f"expert {named}" if expert else f"outer {named}" if match.layer is None else named
    for key in (module_of(match.pattern), special, named):
        if wanted := family.shapes.get(key):
            return (wanted[0], NOTHING) if match.row.bias or len(wanted) == 1 else wanted
    return (SAME, NOTHING) if match.row.bias else ()


def dimensions(
    family: Family, sizes: Sizes, rows: Iterable[dict[str, Any]], matches: Mapping[str, Match]
) -> Iterator[Dimension]:
    """The sizes of those rows of an inventory that the model's own parts have and that can be read."""
    for row in rows:
        match = matches[row["tensor"]]
        if row["role"] == Role.OTHER or not row["readable"] or match.row.stack == "other":
            continue
        wanted = expected(family, match, row["of_role"] or row["role"], row["expert"] is not None)
        place = sizes.place(row["stack"], row["layer"])
        module = f"{module_of(match.pattern)}#{row['piece']}"
        for axis in (0, 1):
            expression = wanted[axis] if axis < len(wanted) else SAME
            if expression == KIND or (match.row.head_dim and any(word in expression for word in _HEADS)):
                expression = SAME if place.kind else ANY  # differs from layer to layer
            yield Dimension(row, axis, expression, module, place)
        if row["stored_shape"].count("x") > 1 and "stacked_rows" not in row["layout"]:
            yield Dimension(row, 2, SAME, module, place)
