"""The pieces that a stored tensor holds, by its row of the family's table; which are matrices, and reading one."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from weight_atlas.errors import AtlasError
from weight_atlas.families.layouts import LAYOUTS, SHARINGS, Selection, extract, logical_shape, needed_rows
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.roles import HEADS, MATRIX_ROLES, Role, gain_offset
from weight_atlas.families.schema import Row
from weight_atlas.inventory_row import InventoryRow

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from weight_atlas.checkpoint.checkpoint import Checkpoint

NO_HEADS: dict[str, int | None] = {"n_heads": None, "head_dim": None}


@dataclass(frozen=True)
class Piece:
    """One logical tensor: its role, its expert, and where it lies in the stored tensor."""

    role: Role
    expert: int | None
    selection: Selection


def pieces_of(
    row: Row, shape: tuple[int, ...], expert: int | None, quantities: Quantities, layer: int | None, stack: str
) -> list[Piece]:
    """The pieces of a stored tensor by its row's layout, expert by expert; an impossible split is an AtlasError."""
    base = Selection(transposed="transposed" in row.layout)
    if "rotary_pairs" in row.layout:
        base = replace(base, rotary_heads=heads_of(row.role, row, quantities, layer, stack) or 0)
    sharing = next((word for word in row.layout if LAYOUTS[word] == "sharing"), None)
    pieces = []
    for chosen, which in _experts(row, shape, base, expert, quantities):
        if sharing is None:
            pieces.append(Piece(row.roles[0], which, chosen))
            continue
        groups, sizes = _share(sharing, row, logical_shape(shape, chosen)[0], quantities, layer, stack)
        pieces += [
            Piece(role, which, replace(chosen, groups=groups, sizes=tuple(sizes), piece=number))
            for number, role in enumerate(row.pieces)
        ]
    return pieces


def _experts(row: Row, shape: tuple[int, ...], base: Selection, expert: int | None, quantities: Quantities):
    if "stacked" in row.layout:
        return [(replace(base, expert=number, experts=shape[0]), number) for number in range(shape[0])]
    if "stacked_rows" in row.layout:
        count = quantities.of("n_experts")
        if not count or shape[0] % count:
            raise AtlasError(f"{shape[0]} rows do not divide into {count} experts")
        return [(replace(base, expert=number, experts=count, by_rows=True), number) for number in range(count)]
    return [(base, expert)]


def _share(
    sharing: str, row: Row, total: int, quantities: Quantities, layer: int | None, stack: str
) -> tuple[int, list[int]]:
    groups = _count(quantities, row.groups, layer) if row.groups else None
    if not row.sizes:
        heads = [heads_of(role, row, quantities, layer, stack) for role in row.pieces]
        if any(role in HEADS and count is None for role, count in zip(row.pieces, heads, strict=True)):
            raise AtlasError("the number of heads is not known", remedy="the model's config.json must give it")
        return SHARINGS[sharing](total, heads, groups)
    sizes = [0 if size == "rest" else _count(quantities, size, layer) for size in row.sizes]
    sizes = [total - sum(sizes) if size == "rest" else count for size, count in zip(row.sizes, sizes, strict=True)]
    if sum(sizes) != total or min(sizes) <= 0 or any(size % (groups or 1) for size in sizes):
        raise AtlasError(f"{total} rows are not {' + '.join(map(str, sizes))} in {groups or 1} groups")
    return groups or 1, [size // (groups or 1) for size in sizes]


def _count(quantities: Quantities, expression: str, layer: int | None) -> int:
    value = quantities.product(expression, layer)
    if value is None:
        raise AtlasError(f"config.json does not give {expression}")
    return value


def heads_of(role: Role | None, row: Row, quantities: Quantities, layer: int | None, stack: str) -> int | None:
    """Number of heads in a piece of this role, or None where heads mean nothing or are not known."""
    name = None if role is None else HEADS.get(role)
    if name is None:
        return None
    if row.heads:
        name = row.heads
    encoder = quantities.of(f"encoder_{name}", layer) if stack == "encoder" else None
    return encoder or quantities.of(name, layer)


def _divide(total: int, width: int) -> int:
    if total % width:
        raise AtlasError(f"{total} rows do not divide into heads of {width}", where="config.json")
    return total // width


def head_columns(
    piece: Piece, shape: tuple[int, ...], name: str, row: Row, quantities: Quantities, layer: int | None, stack: str
) -> dict[str, Any]:
    """n_heads and head_dim of a piece of this logical shape; heads that do not divide it are an AtlasError."""
    heads = heads_of(piece.role, row, quantities, layer, stack)
    by_columns = piece.role is Role.W_O
    if not heads or (by_columns and (row.bias or len(shape) < 2)):
        return NO_HEADS
    cut = shape[1] if by_columns else shape[0]
    if row.head_dim and (width := quantities.product(row.head_dim, layer)):
        heads = _divide(cut, width)
    if cut % heads:
        raise AtlasError(
            f"tensor {name}: {heads} heads do not divide {cut} {'columns' if by_columns else 'rows'} of {piece.role}",
            where="config.json",
            remedy="correct the number of heads in config.json, or the family if the model counts them otherwise",
        )
    return {"n_heads": heads, "head_dim": cut // heads}


def load_piece(checkpoint: "Checkpoint", row: InventoryRow) -> "torch.Tensor":
    """The tensor of one inventory row, (rows, cols) in logical orientation (out, in) or (rows,), in its stored type."""
    selection = Selection.decode(row.selection)
    rows, within = needed_rows(checkpoint.entries[row.tensor].shape, selection)
    return extract(checkpoint.read(row.tensor, rows), within).contiguous()


def load_gain(checkpoint: "Checkpoint", row: InventoryRow) -> "torch.Tensor":
    """What a norm multiplies by, float32: the weight of its inventory row, or 1 + w where the model stores w."""
    return load_piece(checkpoint, row).float() + gain_offset(row.norm)


def matrices(inventory: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of an inventory that are weight matrices with data of their own: 2-D, untied, readable, not empty."""
    weights = inventory["role"].isin([role.value for role in MATRIX_ROLES])
    own = inventory.readable & (inventory.tied_to == "") & (inventory["stack"] != "other")
    return inventory[weights & own & inventory.cols.notna() & (inventory.parameters > 0)].reset_index(drop=True)
