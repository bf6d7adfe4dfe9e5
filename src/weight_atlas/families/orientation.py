"""The orientation of matrices in a file whose family stores them (in, out).

Checkpoints with GPT-2's names exist in both orientations: Conv1D's (in, out), and nn.Linear's (out, in), as nanoGPT
writes them. A matrix that is not square proves which; all others of the model follow.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from weight_atlas.errors import AtlasError
from weight_atlas.families.layouts import Selection, logical_shape
from weight_atlas.families.matching import Match
from weight_atlas.families.schema import Family
from weight_atlas.families.shapes import ANY, KIND, SAME, Place, Sizes, expected

if TYPE_CHECKING:
    from weight_atlas.checkpoint.tensors import TensorEntry

TURNED = "stored (out, in), as in nn.Linear: matrices of this model that are not square prove it"
BY_NAME = "orientation by name only: no matrix of this model that is not square proves it"


def stored_transposed(match: Match) -> bool:
    """Whether the family's table says that this tensor is stored (in, out)."""
    return "transposed" in match.row.layout and not match.row.bias


def oriented(
    matches: dict[str, Match], entries: Mapping[str, "TensorEntry"], family: Family, sizes: Sizes
) -> dict[str, Match]:
    """The matches with the orientation that the file's matrices prove, and a note where it is not the table's.

    Both orientations in one file are an AtlasError.
    """
    names = [
        name
        for name, match in matches.items()
        if stored_transposed(match) and not entries[name].note and _is_matrix(match, entries[name].shape)
    ]
    ways = {name: _fitting(matches[name], entries[name].shape, family, sizes) for name in names}
    declared = [name for name, fitting in ways.items() if fitting == (True, False)]
    turned = [name for name, fitting in ways.items() if fitting == (False, True)]
    if declared and turned:
        few, many, way = (
            (turned, declared, "(out, in)") if len(turned) < len(declared) else (declared, turned, "(in, out)")
        )
        raise AtlasError(
            f"tensor {few[0]} of shape {'x'.join(map(str, entries[few[0]].shape))} is stored {way}, as are "
            f"{len(few) - 1} more, but {many[0]} and {len(many) - 1} more are stored the other way round",
            where=entries[few[0]].shard,
            remedy="the file mixes two conventions: export it again from the model that it comes from",
        )
    if not names or declared:
        return matches
    return matches | {name: _noted(matches[name], TURNED if turned else BY_NAME, bool(turned)) for name in names}


def _is_matrix(match: Match, stored: tuple[int, ...]) -> bool:
    """Whether it is stored as one matrix, or one for each expert; with more dimensions (XLNet) it never is turned."""
    return len(stored) == 2 + ("stacked" in match.row.layout)


def _noted(match: Match, note: str, turn: bool) -> Match:
    layout = tuple(word for word in match.row.layout if word != "transposed") if turn else match.row.layout
    note = "; ".join(filter(None, [match.row.note, note]))
    return replace(match, row=match.row.model_copy(update={"layout": layout, "note": note}))


def _fitting(match: Match, stored: tuple[int, ...], family: Family, sizes: Sizes) -> tuple[bool, bool]:
    """Whether the known sizes allow the table's orientation, and the other one."""
    row, place = match.row, sizes.place(match.row.stack or family.stack, match.layer)
    chosen = _one_expert(row.layout, stored, sizes, place)
    shape = logical_shape(stored, chosen) if chosen is not None else ()
    expert = match.expert is not None or chosen not in (None, Selection())
    wanted = [expected(family, match, role, expert) for role in row.roles]
    if len(shape) != 2 or any(len(each) != 2 for each in wanted):
        return False, False
    pieces = [size for rows, _ in wanted if (size := _value(rows, sizes, place)) is not None]
    whole = sum(pieces) if len(pieces) == len(wanted) else None, _value(wanted[0][1], sizes, place)
    return _allows(whole, shape[::-1]), _allows(whole, shape)


def _one_expert(layout: tuple[str, ...], stored: tuple[int, ...], sizes: Sizes, place: Place) -> Selection | None:
    if "stacked" in layout:
        return Selection(expert=0, experts=stored[0])
    if "stacked_rows" not in layout:
        return Selection()
    experts = sizes.of("n_experts", place)
    return Selection(expert=0, experts=experts, by_rows=True) if experts and stored[0] % experts == 0 else None


def _value(expression: str, sizes: Sizes, place: Place) -> int | None:
    return None if expression in (SAME, KIND, ANY) or " or " in expression else sizes.value(expression, place)


def _allows(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return all(size in (None, given) for size, given in zip(wanted, shape, strict=True))
