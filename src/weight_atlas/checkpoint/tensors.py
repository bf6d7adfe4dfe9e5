"""What a checkpoint's tensors are, whatever format they are stored in: the entry of each, and where it is read from.

Of a sharded checkpoint, its index (model.safetensors.index.json) says which shard each tensor is in.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from weight_atlas.errors import CONTROL, AtlasError, refuse_huge

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a checkpoint.

    name: on disk. dtype: stored type as safetensors spells it ("BF16"), or the scheme of a packed one ("NF4").
    shape: of the values. shard: file name. bytes: stored, everything that the values need included.
    offset: of the data in the shard, in bytes (-1 where the format has its own reader).
    parts: stored tensors that it is made of beside its own data (scales, zeros). note: why it cannot be read, or "".
    remark: what had to be decided to read it, or "".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: str
    bytes: int
    offset: int = -1
    parts: tuple[str, ...] = ()
    note: str = ""
    remark: str = ""


class Store(Protocol):
    """Where stored tensors are read from."""

    folder: Path
    entries: dict[str, TensorEntry]

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """A tensor as stored."""

    def raw(self, name: str) -> bytes:
        """The bytes of a tensor."""


def duplicate(name: str, first: str, second: str, folder: Path) -> AtlasError:
    """The error for one tensor name in two files."""
    remedy = "remove the file that does not belong to this checkpoint"
    return AtlasError(f"tensor {name} is in two files: {first} and {second}", where=folder, remedy=remedy)


def check_names(entries: Iterable[str], where: object) -> None:
    """AtlasError for tensor names that no table could hold or no terminal show."""
    if strange := [name for name in entries if CONTROL.search(name) or "\n" in name]:
        what = f"{len(strange)} tensor name(s) with characters that are no part of a name, first {strange[0]!r}"
        raise AtlasError(what, where=where, remedy="get the checkpoint from a source that you trust")


_AGAIN = "download or copy the file again"


def weight_map(path: Path) -> dict[str, str]:
    """The weight_map of an index file: tensor name -> shard."""
    refuse_huge(path)
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in mapping.values()):
            raise TypeError("its values must be file names")
    except OSError as error:
        raise AtlasError(f"cannot read the index: {error.strerror}", where=path, remedy=_AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AtlasError(f"not a shard index: {type(error).__name__}: {error}", where=path, remedy=_AGAIN) from error
    return mapping


def check_index(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    """AtlasError unless every tensor of an index file is in the shard where it says."""
    for name, shard in weight_map(path).items():
        if name not in entries or entries[name].shard != shard:
            found = f"which is in {entries[name].shard}" if name in entries else "which is in no file"
            raise AtlasError(
                f"the index puts tensor {name} in {shard}, {found}",
                where=path,
                remedy="get index and shards again from one version of the checkpoint",
            )
