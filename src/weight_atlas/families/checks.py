"""Check the shapes of a model's tensors against config.json and against each other."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.shapes import ANY, NOTHING, VOCABULARY, Dimension
from weight_atlas.families.sizes import Sizes

_AXES = ("rows", "columns", "as the shape that is stored")
_OTHER_MODEL = "the tensor, or config.json, is not of this model: take both again from where the model comes from"


def check_shapes(dimensions: list[Dimension], sizes: Sizes) -> None:
    """AtlasError unless all tensors have the sizes that config.json gives them, or that the others have.

    The message names the first that does not, what it must have and why. More rows than the vocabulary are usual
    padding: the tensor's row of the inventory gets a note.
    """
    usual = _usual(dimensions, sizes)
    wrong = [one for one in dimensions if not _fits(one, sizes, usual)]
    if wrong:
        raise _mismatch(wrong, dimensions, sizes, usual)
    for one in dimensions:
        vocabulary = sizes.value(VOCABULARY, one.place) if one.expression == VOCABULARY else None
        if vocabulary is not None and isinstance(one.size, int) and one.size > vocabulary:
            extra = f"{one.size - vocabulary} rows beyond the vocabulary of {vocabulary} in config.json"
            one.row["note"] = "; ".join(filter(None, [one.row["note"], extra]))


def _wanted(one: Dimension, sizes: Sizes) -> list[int]:
    """The sizes that config.json allows; [] where it gives none."""
    values = (sizes.value(expression, one.place) for expression in one.expressions)
    return list(dict.fromkeys(value for value in values if value is not None))


def _like_others(one: Dimension, sizes: Sizes) -> bool:
    """Whether this size, or which of several it is, follows from the other tensors."""
    one_of_several = len(one.expressions) > 1 and one.row["cols"] is None
    return one.expression != ANY and (one_of_several or not _wanted(one, sizes))


def _group(one: Dimension) -> tuple:
    """The dimensions that must be alike where config.json gives no size: of one expression, else of one module."""
    scope = one.place.stack, one.place.kind
    return (one.expression, *scope) if len(one.expressions) == 1 else (one.module, one.axis, *scope)


def _usual(dimensions: list[Dimension], sizes: Sizes) -> dict[tuple, int | str]:
    counts: dict[tuple, Counter] = defaultdict(Counter)
    for one in dimensions:
        if _like_others(one, sizes):
            counts[_group(one)][one.size] += 1
    return {group: found.most_common(1)[0][0] for group, found in counts.items()}


def _fits(one: Dimension, sizes: Sizes, usual: Mapping[tuple, int | str]) -> bool:
    if _like_others(one, sizes) and one.size != usual[_group(one)]:
        return False
    wanted = _wanted(one, sizes)
    if one.expression == VOCABULARY and wanted and isinstance(one.size, int):
        return one.size >= wanted[0]
    return not wanted or one.size in wanted


def _mismatch(wrong: list[Dimension], dimensions: list[Dimension], sizes: Sizes, usual: Mapping) -> AtlasError:
    one, row = wrong[0], wrong[0].row
    wanted = _wanted(one, sizes)
    by_config = bool(wanted) and one.size not in wanted
    needed = " or ".join(map(str, wanted)) if by_config else usual[_group(one)]
    shape = "x".join(str(row[key]) for key in ("rows", "cols") if row[key] is not None)
    piece = f", its {row['piece']}" if row["piece"] else ""
    what = (
        f"tensor {row['tensor']}{piece} reads as {row['of_role'] or row['role']} of {shape} (stored as "
        f"{row['stored_shape']}): it must have {needed} {_AXES[one.axis]}, {_reason(one, sizes, by_config)}"
    )
    if _turns(one, dimensions, sizes, usual):
        what += "; it is stored transposed"
    if others := len({other.row["id"] for other in wrong} - {row["id"]}):
        what += f"; {others} more tensors do not fit either"
    alike = {other.size for other in dimensions if other.expression == one.expression}
    config_alone = by_config and len(alike) == 1 and others
    remedy = f"all tensors of this size have {one.size}: correct config.json" if config_alone else _OTHER_MODEL
    return AtlasError(what, where=row["shard"], remedy=remedy)


def _reason(one: Dimension, sizes: Sizes, by_config: bool) -> str:
    if not by_config:
        return f"as the others have it for {one.expression}" if one.expressions else "as in the other layers"
    if one.expression == NOTHING:
        return "since it is a vector in this family"
    return "; or ".join(f"{text}: {sizes.explain(text, one.place)}" for text in one.expressions)


def _turns(one: Dimension, dimensions: list[Dimension], sizes: Sizes, usual: Mapping) -> bool:
    """Whether the tensor would fit if its rows were its columns."""
    row: Mapping[str, Any] = one.row
    if row["cols"] is None or row["rows"] == row["cols"]:
        return False
    turned = {**row, "rows": row["cols"], "cols": row["rows"]}
    pair = [other for other in dimensions if other.row is row and other.axis < 2]
    return all(_fits(replace(other, row=turned), sizes, usual) for other in pair)
