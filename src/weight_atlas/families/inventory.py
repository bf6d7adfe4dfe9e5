"""The inventory of a checkpoint: every tensor with its role, from names, shapes and the configuration alone."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from weight_atlas.errors import AtlasError, located
from weight_atlas.families.adapters import Adapter, check_factors
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.completeness import (
    check_elements,
    check_experts,
    check_layers,
    check_shapes,
    depth_of,
    further_layers,
)
from weight_atlas.families.layouts import Selection, logical_shape
from weight_atlas.families.matching import Match, Matcher
from weight_atlas.families.orientation import oriented, stored_transposed
from weight_atlas.families.pieces import NO_HEADS, Piece, head_columns, pieces_of
from weight_atlas.families.registry import HOW_TO_ADD, NO_FAMILY, tensor_list
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Row
from weight_atlas.families.shapes import Dimension, Sizes, dimensions
from weight_atlas.families.ties import tie

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.checkpoint.tensors import TensorEntry

COLUMNS: dict[str, str] = {
    "tensor": "str", "piece": "str", "id": "str", "role": "str", "of_role": "str", "component": "str", "stack": "str",
    "layer": "Int64", "expert": "Int64", "rows": "Int64", "cols": "Int64", "dtype": "str", "shard": "str",
    "stored_shape": "str", "layout": "str", "selection": "str", "n_heads": "Int64", "head_dim": "Int64",
    "parameters": "int64", "bytes": "int64", "tied_to": "str", "readable": "bool", "note": "str",
    "norm": "str",
}  # fmt: skip
Entries: TypeAlias = Mapping[str, "TensorEntry"]
# What the rows of an entry say of it beside its name.
_ALIKE = "dtype", "shape", "shard", "bytes", "note", "remark"
_STACKS = {"encoder": 0, "decoder": 1, "other": 2}


def inventory(checkpoint: "Checkpoint", family: str | None = None, allow_other: bool = False) -> pd.DataFrame:
    """One row for each logical tensor of a checkpoint: a fused tensor gives one for each piece, a stack of experts one
    for each expert.

    family: name of the family, if config.json does not give it or gives a wrong one. allow_other: give tensors that no
    row of the family explains the role `other` instead of an AtlasError, all of them where there is no family.

    Columns: tensor (name on disk), piece (its name in a fused tensor, or ""), id (unique), role (a Role), of_role (for
    a bias: the role it belongs to; for an adapter: the role it changes), component (part of the block where the role
    does not say it: shared_expert, cross_attention, pooler...; of a norm, where it stands), stack (encoder, decoder,
    other), layer, expert, rows and cols (logical (out, in); vectors have no cols), dtype (as stored), shard,
    stored_shape, layout (names of layouts.py), selection (where the piece lies, for load_piece), n_heads and head_dim
    (of this piece), parameters (0 for stored constants), bytes, tied_to (the tensor whose data this is, counted there),
    readable, note (why it is `other` or not readable, or what is special about it), norm (what a norm computes, of
    NORMS). Sorted by stack and layer, within them in file order; what is in no layer comes first.
    """
    with located(checkpoint.folder):
        architecture, entries = Architecture.of(checkpoint, family, allow_other=allow_other), checkpoint.entries
        matches = _matches(architecture, entries, allow_other)
        if architecture.adapter:  # the sizes of the model that it changes are not in it
            check_factors({name: entry.shape for name, entry in entries.items()})
            rows = _all_rows(entries, matches, architecture)
        else:
            rows = _checked_rows(entries, matches, architecture)
        rows = tie(checkpoint, architecture, rows, matches)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    stacks = table["stack"].map(_STACKS).astype("int64")
    order = (stacks * (1 << 20) + table["layer"].fillna(-1)).argsort(kind="stable")
    return table.iloc[order].reset_index(drop=True)


def check_against_config(checkpoint: "Checkpoint") -> None:
    """AtlasError unless a model's tensors are all there and have the shapes that its config.json gives them.

    The same as the inventory demands, for those who run a model without one; what no family's table explains passes.
    """
    try:
        architecture = Architecture.of(checkpoint)
    except AtlasError:
        return
    with located(checkpoint.folder):
        matches = _matches(architecture, checkpoint.entries, allow_other=True)
        if not architecture.adapter:
            _checked_rows(checkpoint.entries, matches, architecture)


def _matches(architecture: Architecture, entries: Entries, allow_other: bool) -> dict[str, Match]:
    family, matcher = architecture.family, Matcher(architecture.family, architecture.quantities)
    if architecture.adapter:
        adapter = Adapter(architecture.config)
        found = {name: adapter.match(matcher, name, entry.shape) for name, entry in entries.items()}
    else:
        found = {name: matcher.match(name, entry.shape) for name, entry in entries.items()}
    unknown = [name for name, match in found.items() if match is None]
    if unknown and not allow_other:
        raise AtlasError(
            f"no row of family {family.name} explains {len(unknown)} of {len(entries)} tensors:\n"
            + tensor_list(unknown),
            where=f"family {family.name}",
            remedy=HOW_TO_ADD,
        )
    why = "no family explains it" if family is NO_FAMILY else f"no row of family {family.name} explains it"
    row = Row(role=Role.OTHER, note=why)
    return {name: match or Match(row, "") for name, match in found.items()}


def _checked_rows(entries: Entries, matches: dict[str, Match], architecture: Architecture) -> list[dict[str, Any]]:
    """The rows of a model that is whole and has the shapes that config.json and its other tensors give it."""
    family, quantities, sizes = architecture.family, architecture.quantities, Sizes(architecture.quantities)
    check_elements(entries, matches)
    check_layers(family, quantities, matches, sizes, architecture.name)

    def found(some: dict[str, Match]) -> tuple[list[dict[str, Any]], list[Dimension]]:
        rows = _all_rows(entries, some, architecture)
        held = list(dimensions(family, sizes, rows, some))
        sizes.infer(
            (text, one.place, size, len(one.rows))
            for one in held
            if one.axis < 2 and isinstance(size := one.size, int)
            for text in one.expressions[:1]
        )
        return rows, held

    if any(map(stored_transposed, matches.values())):
        # Widths that config.json does not give are inferred from tensors whose orientation is certain.
        found({name: match for name, match in matches.items() if not match.row.layout})
        matches |= oriented(matches, entries, family, sizes)
    rows, held = found(matches)
    check_experts(rows, matches, quantities)
    check_shapes(held, sizes)
    return rows


def _all_rows(entries: Entries, matches: dict[str, Match], architecture: Architecture) -> list[dict[str, Any]]:
    further = further_layers(matches.values(), architecture.quantities, architecture.family)
    rows: list[dict[str, Any]] = []
    of_first: dict[tuple, list[dict[str, Any]]] = {}  # expert of a layer
    for name, match in matches.items():
        entry = entries[name]
        alike = match.pattern, id(match.row), match.layer, match.of, *(getattr(entry, field) for field in _ALIKE)
        if match.expert is None:
            rows += _rows(entry, match, architecture, further)
        elif alike not in of_first:
            of_first[alike] = list(_rows(entry, match, architecture, further))
            rows += of_first[alike]
        else:
            rows += [_of_expert(row, name, match.expert) for row in of_first[alike]]
    return rows


def _of_expert(row: dict[str, Any], name: str, expert: int | None) -> dict[str, Any]:
    """The row of an expert's tensor that is like another expert's but for its name."""
    return row | {"tensor": name, "id": name + row["id"].removeprefix(row["tensor"]), "expert": expert}


def _rows(
    entry: "TensorEntry", match: Match, architecture: Architecture, further: dict[str, set[int]]
) -> Iterator[dict[str, Any]]:
    row, family, quantities = match.row, architecture.family, architecture.quantities
    stack, note = row.stack or family.stack, row.note or entry.note or entry.remark
    if match.layer in further.get(stack, ()):
        depth = depth_of(stack, quantities)
        stack, note = "other", note or f"beyond the {depth} layers of the model: a multi-token prediction layer"
    if row.role is Role.OTHER:
        stack = "other" if row.stack is None and match.layer is None else stack
    elements = math.prod(entry.shape)
    if not elements:
        note = note or "holds no elements"
    unread = bool(entry.note) or not elements
    for piece in _pieces(entry, match, architecture, stack, whole=unread):
        shape = logical_shape(entry.shape, piece.selection)
        count = math.prod(shape) if not entry.note else elements
        bias = row.bias and piece.role is not Role.OTHER
        name = "" if piece.selection.piece is None else piece.role.value
        parts = [part for part in ("" if piece.expert == match.expert else piece.expert, name) if part != ""]
        yield {
            "tensor": entry.name,
            "piece": name,
            "id": "#".join([entry.name, *map(str, parts)]),
            "role": Role.BIAS.value if bias else piece.role.value,
            "of_role": match.of or (piece.role.value if bias else ""),
            "component": row.component,
            "stack": stack,
            "layer": match.layer,
            "expert": piece.expert,
            "rows": shape[0],
            "cols": shape[1] if len(shape) > 1 else None,
            "dtype": entry.dtype,
            "shard": entry.shard,
            "stored_shape": "x".join(map(str, entry.shape)),
            "layout": "+".join(row.layout) if piece.selection != Selection() else "",
            "selection": piece.selection.encode(),
            **(NO_HEADS if unread else head_columns(piece, shape, entry.name, row, quantities, match.layer, stack)),
            "parameters": 0 if row.buffer else count,
            "bytes": entry.bytes * count // elements if elements else 0,
            "tied_to": "",
            "readable": not entry.note,
            "note": note,
            "norm": (row.norm or architecture.norm) if piece.role is Role.NORM and not row.bias else "",
        }


def _pieces(entry: "TensorEntry", match: Match, architecture: Architecture, stack: str, whole: bool) -> list[Piece]:
    if whole:
        return [Piece(match.row.role or Role.OTHER, match.expert, Selection())]
    try:
        return pieces_of(match.row, entry.shape, match.expert, architecture.quantities, match.layer, stack)
    except AtlasError as error:
        shape = "x".join(map(str, entry.shape))
        raise AtlasError(
            f"tensor {entry.name} ({shape}) cannot be split by layout {' '.join(match.row.layout)}: {error.what}",
            where=f"family {architecture.family.name}",
            remedy=error.remedy or "the shape and the numbers in config.json disagree: correct the one that is wrong",
        ) from error
