"""Reading one logical tensor of a checkpoint: only its bytes where they lie together."""

from typing import TYPE_CHECKING, Any

from weight_atlas.families.layouts import Selection, extract, needed_rows
from weight_atlas.families.norms import gain_offset

if TYPE_CHECKING:
    import torch

    from weight_atlas.checkpoint.checkpoint import Checkpoint


def load_piece(checkpoint: "Checkpoint", row: Any) -> "torch.Tensor":
    """The tensor of one inventory row: (rows, cols) in logical orientation (out, in), or (rows,); in its stored type.

    row: a namedtuple of DataFrame.itertuples(), or anything with `tensor` and `selection`.
    """
    selection = Selection.decode(row.selection)
    rows, within = needed_rows(checkpoint.entries[row.tensor].shape, selection)
    return extract(checkpoint.read(row.tensor, rows), within).contiguous()


def load_gain(checkpoint: "Checkpoint", row: Any) -> "torch.Tensor":
    """What a norm multiplies by, float32: the weight of its inventory row, or 1 + w where the model stores w."""
    return load_piece(checkpoint, row).float() + gain_offset(row.norm)
