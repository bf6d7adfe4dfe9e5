"""Matching tensor names to a family's rows: total, unambiguous and fast.

Numbers in a name become '#', so that one look-up in a dict finds the rows of a name, whatever its layer and expert.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

from weight_atlas.errors import AtlasError
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Family, Row, present

_SLOTS = ("layer", "expert", "index")
# One way of writing a count: no sign, no zeros before it, no digits of other scripts, no more than a table can hold.
_NUMBER = re.compile("0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Match:
    """A row that explains a tensor: its pattern, the numbers that stood in its places, and for a part of an adapter
    the role that it changes."""

    row: Row
    pattern: str
    layer: int | None = None
    expert: int | None = None
    of: str = ""


def pattern_of(name: str) -> tuple[str, list[int]]:
    """A name with '#' for each part that is a number, and those numbers."""
    parts = name.split(".")
    numbers = []
    for place, part in enumerate(parts):
        if part[:1].isdecimal() and _NUMBER.fullmatch(part):
            numbers.append(int(part))
            parts[place] = "#"
    return (".".join(parts) if numbers else name), numbers


class Matcher:
    """The rows of one family that count for one configuration, ready for look-up."""

    def __init__(self, family: Family, quantities: Quantities):
        self.family, self._quantities = family, quantities
        self._prefixes = sorted({*family.prefixes}, key=len, reverse=True)
        self._others = present(family.others)
        self._rows: dict[str, list[tuple[list[str | int], Row, str]]] = defaultdict(list)
        for pattern, rows in present(family.tensors).items():
            self._add(pattern, self._counting(rows))
        for pattern, rows in present(family.modules).items():
            chosen = self._counting(rows)
            self._add(f"{pattern}.weight", chosen)
            self._add(f"{pattern}.bias", [_bias_of(row) for row in chosen])
        for pattern, reason in present(family.buffers).items():
            self._add(pattern, [Row(role=Role.OTHER, note=reason, buffer=True)])

    def _counting(self, rows: tuple[Row, ...]) -> list[Row]:
        holds = self._quantities.holds
        return [row for row in rows if holds(row.when) and not (row.unless and holds(row.unless))]

    def _add(self, pattern: str, rows: list[Row]) -> None:
        key, slots = _slots(pattern)
        self._rows[key] += [(slots, row, pattern) for row in rows]

    def match(self, name: str, shape: tuple[int, ...]) -> Match | None:
        """The row that explains a tensor of this name and stored shape, or None; two rows are an AtlasError."""
        matches = self._exact(name)
        if len(matches) > 1:
            matches = [match for match in matches if self._fits(match, shape)]
        if name.startswith(tuple(self._others)):
            matches += [
                Match(Row(role=Role.OTHER, note=reason, stack="other", buffer=_is_buffer(name)), prefix)
                for prefix, reason in self._others.items()
                if name.startswith(prefix)
            ]
        if len(matches) > 1:
            raise AtlasError(
                f"tensor {name} matches {len(matches)} rows: {', '.join(match.pattern for match in matches)}",
                where=f"family {self.family.name}",
                remedy="let the patterns, or their `when`, exclude each other",
            )
        return matches[0] if matches else None

    def _exact(self, name: str) -> list[Match]:
        for prefix in self._prefixes:
            if name.startswith(prefix):
                key, numbers = pattern_of(name[len(prefix) :])
                found = [
                    _match(row, pattern, slots, numbers)
                    for slots, row, pattern in self._rows.get(key, ())
                    if all(slot in _SLOTS or slot == number for slot, number in zip(slots, numbers, strict=True))
                ]
                if found:
                    return found
        return []

    def _fits(self, match: Match, shape: tuple[int, ...]) -> bool:
        if match.row.kind not in (None, self._quantities.kind(match.layer)):
            return False
        wanted = [None if size == "any" else self._quantities.product(size, match.layer) for size in match.row.shape]
        return not wanted or (
            len(wanted) == len(shape) and all(size in (None, given) for size, given in zip(wanted, shape, strict=True))
        )


def _match(row: Row, pattern: str, slots: list[str | int], numbers: list[int]) -> Match:
    places = dict(zip(slots, numbers, strict=True))
    return Match(row, pattern, places.get("layer"), places.get("expert"))


def _slots(pattern: str) -> tuple[str, list[str | int]]:
    """The look-up key of a pattern, and for each '#' in it the slot or the literal number that it stands for."""
    parts: list[str] = []
    slots: list[str | int] = []
    for part in pattern.split("."):
        if part.startswith("{") and part.endswith("}"):
            if part[1:-1] not in _SLOTS:
                raise AtlasError(f"{part} is not a place: use {{layer}}, {{expert}} or {{index}}", where=pattern)
            slots.append(part[1:-1])
            parts.append("#")
        elif _NUMBER.fullmatch(part):
            slots.append(int(part))
            parts.append("#")
        else:
            parts.append(part)
    return ".".join(parts), slots


def _bias_of(row: Row) -> Row:
    """The row of a module's bias: the same pieces, a vector instead of a matrix."""
    if row.role is Role.OTHER:
        return row
    return row.model_copy(update={"bias": True, "layout": tuple(word for word in row.layout if word != "transposed")})


def _is_buffer(name: str) -> bool:
    last = name.rsplit(".", 1)[-1]
    return last in ("inv_freq", "position_ids", "running_mean", "running_var", "num_batches_tracked")
