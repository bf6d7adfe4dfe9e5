"""Named layouts of fused tensors: where a piece lies in the stored tensor, reading it out and putting it back.

A layout is a chain of words, applied in this order:

stacked         one leading dimension of experts, (experts, ...)
stacked_rows    experts one after another along the rows, (experts * rows, columns)
transposed      stored (in, out), as in GPT-2's Conv1D; read as (out, in)
then one way in which several pieces share the output dimension (rows of the (out, in) matrix, entries of a bias):
blocks          one after another; attention pieces in proportion to their heads, others of equal size
halves          two blocks of equal size
interleaved     alternating rows: a, b, a, b, ...
per_head        for each head all pieces, [q, k, v] [q, k, v] ...
grouped_heads   for each key-value head its queries, then its key, then its value
four_blocks     four blocks (the shards of CodeGen's training), each with all pieces
grouped         as many groups as `groups` says, each with its share of all pieces (`sizes`, else equal)
and last
rotary_pairs    rows of each head paired for rotation as (0, 1), (2, 3), ...; read as (0, d/2), (1, d/2 + 1), ...

All ways of sharing are one: `groups` groups, in each group sizes[0] rows of the first piece, sizes[1] of the second...
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

# How the output dimension is shared: (total rows, heads of each piece or None, groups or None) -> groups, sizes.
Sharing = Callable[[int, Sequence[int | None], int | None], tuple[int, list[int]]]


@dataclass(frozen=True)
class Selection:
    """Where one piece lies in a stored tensor.

    expert of experts; by_rows: experts lie along the rows rather than in their own dimension. transposed: stored
    (in, out). groups and sizes: how pieces share the output; piece: which of them (None: all). rotary_heads: heads
    whose rows are stored in rotary pairs (0: none).
    """

    expert: int | None = None
    experts: int = 0
    by_rows: bool = False
    transposed: bool = False
    groups: int = 1
    sizes: tuple[int, ...] = ()
    piece: int | None = None
    rotary_heads: int = 0

    def encode(self) -> str:
        """As a short string; "" for a tensor that is read whole as it is stored."""
        if self == WHOLE:
            return ""
        changed = {key: value for key, value in asdict(self).items() if value != getattr(WHOLE, key)}
        return json.dumps(changed, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "Selection":
        """From what encode() wrote."""
        fields = json.loads(text) if text else {}
        return cls(**fields | {"sizes": tuple(fields.get("sizes", ()))})


WHOLE = Selection()


def extract(stored: "torch.Tensor", selection: Selection = WHOLE) -> "torch.Tensor":
    """The piece as a matrix (out, in) or a vector; the layout's forward direction."""
    part = window(stored, selection)
    piece = part.flatten(0, 1) if selection.piece is not None else part
    if heads := selection.rotary_heads:
        piece = piece.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(piece.shape)
    return piece


def place(stored: "torch.Tensor", selection: Selection, piece: "torch.Tensor") -> None:
    """Write a piece into a contiguous stored tensor, in place; the inverse of extract."""
    part = window(stored, selection)
    if heads := selection.rotary_heads:
        piece = piece.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(piece.shape)
    part.copy_(piece.reshape(part.shape))


def window(stored: "torch.Tensor", selection: Selection) -> "torch.Tensor":
    """A view of the piece: (groups, size, ...) where pieces share the output, else the matrix or vector itself."""
    view = stored
    if selection.expert is not None:
        view = (view.unflatten(0, (selection.experts, -1)) if selection.by_rows else view)[selection.expert]
    view = view.reshape(flat_shape(tuple(view.shape)))
    if selection.transposed and view.ndim == 2:
        view = view.T
    if selection.piece is not None:
        view = view.unflatten(0, (selection.groups, sum(selection.sizes)))
        start = sum(selection.sizes[: selection.piece])
        view = view[:, start : start + selection.sizes[selection.piece]]
    return view


def flat_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape as a matrix or vector: dimensions of 1 go, those after the first are merged; (out, in) stays."""
    if len(shape) <= 2:
        return shape or (1,)
    kept = [size for size in shape if size != 1] or [1]
    return (kept[0], math.prod(kept[1:])) if len(kept) > 1 else (kept[0],)


def logical_shape(stored: tuple[int, ...], selection: Selection) -> tuple[int, ...]:
    """Shape of what extract returns."""
    if selection.expert is not None:
        stored = (stored[0] // selection.experts, *stored[1:]) if selection.by_rows else stored[1:]
    shape = flat_shape(stored)
    if selection.transposed and len(shape) == 2:
        shape = shape[::-1]
    if selection.piece is not None:
        shape = (selection.groups * selection.sizes[selection.piece], *shape[1:])
    return shape


def needed_rows(stored: tuple[int, ...], selection: Selection) -> tuple[slice | None, Selection]:
    """Which rows of the stored tensor suffice for a piece (None: all), and the selection within those rows."""
    if selection.expert is not None and selection.by_rows:
        height = stored[0] // selection.experts
        begin = selection.expert * height
        return slice(begin, begin + height), replace(selection, expert=None, experts=0, by_rows=False)
    if selection.expert is not None:
        return slice(selection.expert, selection.expert + 1), replace(selection, expert=0, experts=1)
    if selection.piece is not None and selection.groups == 1 and not selection.transposed and len(stored) <= 2:
        begin = sum(selection.sizes[: selection.piece])
        rows = slice(begin, begin + selection.sizes[selection.piece])
        return rows, replace(selection, groups=1, sizes=(), piece=None)
    return None, selection


def _divide(total: int, parts: int, what: str) -> int:
    if parts <= 0 or total % parts:
        raise AtlasError(f"{total} rows do not divide into {parts} {what}")
    return total // parts


def _blocks(total: int, heads: Sequence[int | None], groups: int | None) -> tuple[int, list[int]]:
    if all(count is None for count in heads):
        return 1, [_divide(total, len(heads), "blocks")] * len(heads)
    counts = [_known(count) for count in heads]
    unit = _divide(total, sum(counts), f"heads ({' + '.join(map(str, counts))})")
    return 1, [count * unit for count in counts]


def _equal_groups(total: int, pieces: int, groups: int, what: str) -> tuple[int, list[int]]:
    return groups, [_divide(total, groups * pieces, what)] * pieces


def _interleaved(total: int, heads: Sequence[int | None], groups: int | None) -> tuple[int, list[int]]:
    return _divide(total, len(heads), "interleaved pieces"), [1] * len(heads)


def _per_head(total: int, heads: Sequence[int | None], groups: int | None) -> tuple[int, list[int]]:
    return _equal_groups(total, len(heads), _known(groups or heads[0]), f"pieces ({len(heads)} of each head)")


def _grouped_heads(total: int, heads: Sequence[int | None], groups: int | None) -> tuple[int, list[int]]:
    groups = _known(heads[1])
    queries = _divide(_known(heads[0]), groups, "groups of queries, one for each key-value head")
    unit = _divide(total, groups * (queries + 2), f"heads ({groups} groups of {queries} queries, a key and a value)")
    return groups, [queries * unit, unit, unit]


def _four_blocks(total: int, heads: Sequence[int | None], groups: int | None) -> tuple[int, list[int]]:
    return _equal_groups(total, len(heads), 4, f"pieces ({len(heads)} in each of four blocks)")


def _grouped(total: int, heads: Sequence[int | None], groups: int | None) -> tuple[int, list[int]]:
    return _equal_groups(total, len(heads), _known(groups), f"pieces ({len(heads)} in each group)")


def _known(count: int | None) -> int:
    if not count:
        raise AtlasError("the number of heads is not known", remedy="the model's config.json must give it")
    return count


SHARINGS: dict[str, Sharing] = {
    "blocks": _blocks,
    "halves": lambda total, heads, groups: _blocks(total, [None, None], groups),
    "interleaved": _interleaved,
    "per_head": _per_head,
    "grouped_heads": _grouped_heads,
    "four_blocks": _four_blocks,
    "grouped": _grouped,
}
LAYOUTS: dict[str, str] = dict.fromkeys(["stacked", "stacked_rows"], "experts") | {"transposed": "orientation"}
LAYOUTS |= dict.fromkeys(SHARINGS, "sharing") | {"rotary_pairs": "order"}
