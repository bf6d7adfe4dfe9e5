"""Reversible edits of live weights, restored bit for bit.

Every intervention of this library on a model goes through `edited`: coordinates are logical (see live.anatomy), edits
nest, and what was stored before returns when the block is left, whether by its end or by an exception.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import slice_at
from weight_atlas.live.parts import EDITABLE


@dataclass(frozen=True)
class Edit:
    """Multiply the weights at a coordinate by `factor`, then add `offset`.

    The first edit of a block reads the stored weights; a later one reads what the earlier left.
    """

    coordinate: Coordinate
    factor: float = 1.0
    offset: float = 0.0


def zero(coordinate: Coordinate) -> Edit:
    """Set the weights at a coordinate to zero; a row or col of None takes a whole neuron or output channel."""
    return Edit(coordinate, factor=0.0)


def set_to(coordinate: Coordinate, value: float) -> Edit:
    """Set the weights at a coordinate to a value (in the weights' own type)."""
    return Edit(coordinate, factor=0.0, offset=value)


def scale(coordinate: Coordinate, factor: float) -> Edit:
    """Multiply the weights at a coordinate by a factor."""
    return Edit(coordinate, factor=factor)


@contextmanager
def edited(live: Anatomy, edits: Iterable[Edit]) -> Iterator[None]:
    """Apply edits to a live model while the block lasts, then put the stored bits back.

    A tied tensor is one tensor: an edit shows under all of its names. Raises AtlasError, with nothing changed, for a
    coordinate that the model does not have, for weights that cannot be set (quantized, or offloaded from memory), and
    for values beyond the range of their type.
    """
    with ExitStack() as restoring, torch.no_grad():
        for edit in edits:
            target = _target(live, edit.coordinate)
            stored = target.clone()
            restoring.callback(_restore, target, stored)
            if edit.factor == 0.0:
                # A product would keep NaN, infinities and the sign of zero.
                target.fill_(edit.offset)
            else:
                target.mul_(edit.factor).add_(edit.offset)
            if math.isfinite(edit.offset + edit.factor) and target.isinf().any() and not stored.isinf().any():
                raise AtlasError(f"an edit of {edit.coordinate} leaves the range of {target.dtype}")
        yield


def value_at(live: Anatomy, coordinate: Coordinate) -> float:
    """The stored value of one weight."""
    return _target(live, coordinate).item()


def change_of(live: Anatomy, edit: Edit) -> float:
    """w' - w of an edit of one weight w, in the precision of its type."""
    target = _target(live, edit.coordinate)
    return float(target.new_tensor(target.item() * edit.factor + edit.offset)) - float(target)


def _restore(target: torch.Tensor, stored: torch.Tensor) -> None:
    with torch.no_grad():
        target.copy_(stored)


def _target(live: Anatomy, coordinate: Coordinate) -> torch.Tensor:
    """The view of the weights at a coordinate (see matrices.slice_at), where they can be set one by one."""
    target = slice_at(live, coordinate)
    if target.device.type == "meta":
        raise AtlasError(
            f"the weights at {coordinate} are offloaded from memory and cannot be edited",
            remedy="give the step more GPUs, or memory for the whole model",
        )
    if target.dtype not in EDITABLE:
        raise NotApplicable(
            f"the weights at {coordinate} are quantized ({target.dtype}) and cannot be edited one by one",
            remedy="take the model's unquantized checkpoint",
        )
    return target
