"""What shape each tensor should have, as the `shapes` of a family's table say it.

They give logical rows and columns as expressions of quantities or keys of config.json: sums of products
("kv_rank + qk_rope_head_dim"), alternatives ("d_model or d_embedding": of a vector, one of them in all layers of a
kind), `same` (alike in all layers of a kind), `kind` (the same, if config.json gives the kinds of layers) or `any`.
A size that config.json does not give is taken from the tensors.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weight_atlas.families.matching import Match
from weight_atlas.families.quantities import WHOLE_MODEL, Quantities
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Family

SAME, KIND, ANY, VOCABULARY, NOTHING = "same", "kind", "any", "vocabulary", "0"
_HEADS = "n_heads", "n_kv_heads"
# Columns of the inventory that say which sizes a row must have, and which it has.
_SAYING = "piece", "role", "of_role", "stack", "layer", "rows", "cols", "stored_shape", "layout"


@dataclass(frozen=True)
class Place:
    """Where a size counts: the stack, the layer and its kind."""

    stack: str
    layer: int | None = None
    kind: str | None = None


class Sizes:
    """Quantities and keys of config.json, and sums of products of them; unknown ones are inferred from tensors."""

    def __init__(self, quantities: Quantities):
        self._quantities = quantities
        self._inferred: dict[tuple, int] = {}
        self._known: dict[tuple[str, Place], int | None] = {}
        self._kinds: dict[int | None, str | None] = {}

    def place(self, stack: str, layer: int | None) -> Place:
        """The place of a tensor."""
        if layer not in self._kinds:
            kind = self._quantities.kind(layer)
            self._kinds[layer] = None if kind is None else str(kind)
        return Place(stack, layer, self._kinds[layer])

    def of(self, word: str, place: Place) -> int | None:
        """One factor: a number, a quantity or a key of config.json."""
        if (word, place) not in self._known:
            self._known[word, place] = int(word) if word.isdigit() else self._look_up(word, place)
        return self._known[word, place]

    def _look_up(self, word: str, place: Place) -> int | None:
        encoder = self._quantities.size(f"encoder_{word}", place.layer) if place.stack == "encoder" else None
        value = encoder if encoder is not None else self._quantities.size(word, place.layer)
        if isinstance(value, list):  # differs by layer, and this place is in none
            value = None
        return self._inferred.get((word, *_scope(word, place))) if value is None else value

    def value(self, expression: str, place: Place) -> int | None:
        """The value of a sum of products, as "kv_rank + 2*head_width"; None if a factor is not known."""
        total = 0
        for term in _terms(expression):
            values = [value for word in term if (value := self.of(word, place)) is not None]
            if len(values) < len(term):
                return None
            total += math.prod(values)
        return total

    def infer(self, found: Iterable[tuple[str, Place, int, int]]) -> None:
        """Take what config.json does not give from sizes found: what most say, single ones first, then factors.

        found: expression, place, size, and in how many tensors.
        """
        products = [
            (terms[0], place, size, count) for text, place, size, count in found if len(terms := _terms(text)) == 1
        ]
        for alone in (True, False):
            votes: dict[tuple, Counter] = defaultdict(Counter)
            for words, place, size, count in products:
                unknown = [word for word in words if self.of(word, place) is None]
                if len(unknown) != 1 or (len(words) == 1) != alone:
                    continue
                known = math.prod(value for word in words if (value := self.of(word, place)))
                if size and size % known == 0:
                    votes[unknown[0], *_scope(unknown[0], place)][size // known] += count
            for (word, *scope), counts in votes.items():
                self._inferred[word, *scope] = counts.most_common(1)[0][0]
                if not scope:
                    self._quantities.infer(word, self._inferred[word, *scope])
            self._known.clear()

    def explain(self, expression: str, place: Place) -> str:
        """The factors of an expression with their values and where they come from, for a message."""
        words = dict.fromkeys(word for term in _terms(expression) for word in term if not word.isdigit())
        return ", ".join(f"{word} = {self.of(word, place)} ({self._origin(word, place)})" for word in words)

    def _origin(self, word: str, place: Place) -> str:
        for name in (f"encoder_{word}", word) if place.stack == "encoder" else (word,):
            if use := self._quantities.source(name, place.layer):
                return f"{self._quantities.keys(use, place.layer)} in config.json"
        return "in config.json" if self._quantities.key(word) is not None else "as other tensors have it"


def _terms(expression: str) -> list[list[str]]:
    return [[word.strip() for word in term.split("*")] for term in expression.split("+")]


def _scope(word: str, place: Place) -> tuple:
    return () if word in WHOLE_MODEL else (place.stack, place.kind)


@dataclass(frozen=True)
class Dimension:
    """One size of a logical tensor: its axis, its expression, and the module it is in.

    rows: of the inventory; several where tensors of a layer, as those of its experts, differ in their names only.
    Axis 2 stands for all sizes as they are stored, where they are more than two: several of them read as one matrix.
    """

    rows: list[dict[str, Any]]
    axis: int
    expression: str
    module: str
    place: Place

    @property
    def row(self) -> dict[str, Any]:
        """The first of its rows."""
        return self.rows[0]

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
    alike: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        match = matches[row["tensor"]]
        if row["role"] != Role.OTHER and row["readable"] and match.row.stack != "other":
            alike[match.pattern, id(match.row), row["expert"] is None, *(row[name] for name in _SAYING)].append(row)
    for same in alike.values():
        row, match = same[0], matches[same[0]["tensor"]]
        wanted = expected(family, match, row["of_role"] or row["role"], row["expert"] is not None)
        place = sizes.place(row["stack"], row["layer"])
        module = f"{module_of(match.pattern)}#{row['piece']}"
        for axis in (0, 1):
            expression = wanted[axis] if axis < len(wanted) else SAME
            if expression == KIND or (match.row.head_dim and any(word in expression for word in _HEADS)):
                expression = SAME if place.kind else ANY  # differs from layer to layer
            yield Dimension(same, axis, expression, module, place)
        if row["stored_shape"].count("x") > 1 and "stacked_rows" not in row["layout"]:
            yield Dimension(same, 2, SAME, module, place)
