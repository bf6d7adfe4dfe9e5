"""Who fetches what of a streamed model, and which work waits for it: from the headers alone, the same on every machine.

The shards, in the order of their names, are shared out to parts by their bytes; a shard that is too large for the spool
is cut into stretches of whole tensors. A unit of work needs all its tensors at hand: the values of one tensor, the
attention of a layer, an MLP's output projection with what feeds it. It belongs to the part that fetches most of its
bytes, which requests the rest by ranges.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from weight_atlas.checkpoint.streamed import Place
from weight_atlas.errors import AtlasError
from weight_atlas.families.pieces import matrices
from weight_atlas.spectra.attention_factors import attention_blocks, norm_rows
from weight_atlas.super_weights.screening import output_projections, rows_before

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint


@dataclass(frozen=True)
class Stretch:
    """Bytes of a shard that are fetched together: from `start` up to `stop`, with the tensors at these places."""

    shard: str
    start: int
    stop: int
    places: frozenset[Place]
    whole: bool

    @property
    def bytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Unit:
    """What can be measured once its tensors are at hand. kind: of KINDS; what: names it among those of its kind.

    places: its tensors, with their bytes.
    """

    kind: str
    what: Any
    places: Mapping[Place, int]


KINDS = ("tensor", "attention", "projection")


def stretches(checkpoint: "Checkpoint", sizes: Mapping[str, int], largest: float) -> list[Stretch]:
    """All shards in the order of their names, those of more than `largest` bytes in stretches of up to so many.

    A stretch holds at least one tensor. sizes: bytes of each shard.
    """
    stored: dict[str, dict[int, int]] = {shard: {} for shard in sizes}
    for entry in checkpoint.stored.entries.values():
        if entry.bytes:
            stored[entry.shard][entry.offset] = entry.bytes
    found = []
    for shard in sorted(stored):
        if sizes[shard] <= largest:
            found.append(Stretch(shard, 0, sizes[shard], frozenset((shard, at) for at in stored[shard]), True))
        else:
            found += _cut(shard, sorted(stored[shard].items()), largest)
    return found


def _cut(shard: str, tensors: list[tuple[int, int]], largest: float) -> Iterator[Stretch]:
    taken: list[tuple[int, int]] = []
    for offset, size in [*tensors, (0, 0)]:
        if taken and (not size or offset + size - taken[0][0] > largest):
            places = frozenset((shard, at) for at, _ in taken)
            yield Stretch(shard, taken[0][0], sum(taken[-1]), places, False)
            taken = []
        taken.append((offset, size))


def shared_out(all_stretches: Sequence[Stretch], count: int) -> list[list[Stretch]]:
    """The stretches of each part, neighbours together, each part with about as many bytes; some parts may be empty."""
    total, before = max(1, sum(each.bytes for each in all_stretches)), 0
    shares: list[list[Stretch]] = [[] for _ in range(count)]
    for each in all_stretches:
        middle = before + each.bytes / 2
        shares[min(count - 1, int(middle * count / total))].append(each)
        before += each.bytes
    return shares


def units(inventory: pd.DataFrame, checkpoint: "Checkpoint", steps: Iterable[str], *, fold_norm: bool) -> list[Unit]:
    """All work on a model, in the order of its inventory. steps: that are wanted; fold_norm: of attention kernels."""

    def unit(kind: str, what: Any, tensors: Iterable[str]) -> Unit:
        return Unit(kind, what, {place: size for name in tensors for place, size in places_of(checkpoint, name)})

    own = inventory[inventory["readable"] & (inventory["tied_to"] == "") & (inventory["bytes"] > 0)]
    found = [unit("tensor", tensor, [tensor]) for tensor in own["tensor"].unique()]
    if "attention_kernel" in steps:
        norms = norm_rows(inventory) if fold_norm else inventory.head(0)
        gains = {(row.stack, row.layer): row.tensor for row in norms.itertuples()}
        for block in attention_blocks(matrices(inventory)):
            tensors = [row.tensor for row in block.rows.values()]
            gain = gains.get((block.stack, block.layer))
            found.append(
                unit("attention", (block.stack, block.layer, block.component), [*tensors, *filter(None, [gain])])
            )
    if "super_weight_screening" in steps:
        before = rows_before(inventory)
        for row in output_projections(inventory).itertuples():
            found.append(unit("projection", row.id, [row.tensor, *(other.tensor for other in before(row))]))
    return found


def places_of(checkpoint: "Checkpoint", tensor: str) -> list[tuple[Place, int]]:
    """Where the stored tensors lie that the values of a tensor need, with their bytes."""
    names, stored = checkpoint.entries[tensor].parts or (tensor,), checkpoint.stored.entries
    return [((stored[name].shard, stored[name].offset), stored[name].bytes) for name in names if stored[name].bytes]


def of_part(all_units: Iterable[Unit], shares: Sequence[Sequence[Stretch]], part: int) -> list[Unit]:
    """The work of one part (from 0): each unit is that of the part which fetches most of its bytes, or of the first."""
    holder = {place: number for number, share in enumerate(shares) for each in share for place in each.places}
    return [unit for unit in all_units if _holder(unit, holder) == part]


def _holder(unit: Unit, holder: Mapping[Place, int]) -> int:
    held: Counter[int] = Counter()
    for place, size in unit.places.items():
        held[holder[place]] += size
    most = max(held.values(), default=0)
    return min((part for part, size in held.items() if size == most), default=0)


def requested_again(all_units: Iterable[Unit], shares: Sequence[Sequence[Stretch]]) -> int:
    """Bytes that are requested by ranges beside the stretches: of units whose tensors several parts fetch."""
    holder = {place: number for number, share in enumerate(shares) for each in share for place in each.places}
    again: dict[tuple[int, Place], int] = {}
    for unit in all_units:
        mine = _holder(unit, holder)
        again |= {(mine, place): size for place, size in unit.places.items() if holder[place] != mine}
    return sum(again.values())


def part_of(scatteritem: str) -> tuple[int, int]:
    """Number (from 0) and count of parts: "K-of-N"."""
    number, count = (int(number) for number in scatteritem.split("-of-"))
    if not 1 <= number <= count:
        raise AtlasError(f"no part of a model: {scatteritem}", remedy="give K-of-N, with K from 1 to N")
    return number - 1, count
