"""Read tensors as they are stored in safetensors files, one at a time and only the rows requested.

torch is imported when a tensor is read: the steps that only need the index do without it.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.safetensors_header import safetensors_entries
from weight_atlas.checkpoint.tensors import TensorEntry
from weight_atlas.dtypes import DTYPES
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

_MOST_AT_ONCE = 1 << 30  # bytes; one read call of the kernel ends at 2 GiB


class SafetensorsStore:
    """The tensors of a safetensors checkpoint; entries: name -> TensorEntry."""

    def __init__(self, folder: Path, shards: Sequence[str], index: str | None = None):
        self.folder = folder
        self.entries = {
            name: entry if DTYPES[entry.dtype].torch else _unreadable(entry)
            for name, entry in safetensors_entries(folder, shards, index).items()
        }

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The tensor as stored; with rows, that range of its first dimension, reading only those bytes."""
        import torch

        entry = self.entries[name]
        start, _, shape = row_range(entry.shape, rows)
        row_bytes = entry.bytes // entry.shape[0] if start else 0
        if entry.dtype == "F4":  # two to a byte
            shape = (*shape[:-1], shape[-1] // 2)
        tensor = torch.empty(shape, dtype=getattr(torch, DTYPES[entry.dtype].torch or "uint8"))
        read_into(tensor, self.folder / entry.shard, entry.offset + start * row_bytes)
        return tensor

    def raw(self, name: str) -> bytes:
        """The bytes of a tensor."""
        entry = self.entries[name]
        with (self.folder / entry.shard).open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.bytes)


def _unreadable(entry: TensorEntry) -> TensorEntry:
    note = f"{DTYPES[entry.dtype].bits}-bit type {entry.dtype} outside a known quantization scheme"
    return replace(entry, note=note)


def row_range(shape: tuple[int, ...], rows: slice | None) -> tuple[int, int, tuple[int, ...]]:
    """Start, stop and shape of a range of the first dimension, like a slice of a list; rows None: all of it."""
    if rows is None:
        return 0, shape[0] if shape else 1, shape
    if not shape or rows.step not in (None, 1):
        raise ValueError(f"rows need a tensor with dimensions and a step of 1, got {shape} and {rows}")
    start, stop, _ = rows.indices(shape[0])
    stop = max(start, stop)
    return start, stop, (stop - start, *shape[1:])


def read_into(tensor: "torch.Tensor", path: Path, offset: int) -> None:
    """Fill a contiguous tensor with the bytes of a file from offset on, by plain reads.

    A memory map would count the file's pages as this process's memory.
    """
    import torch

    if not tensor.numel():
        return
    left = tensor.reshape(-1).view(torch.uint8).numpy().data
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while left:
                count = os.preadv(descriptor, [left[:_MOST_AT_ONCE]], offset)
                if not count:
                    raise AtlasError(
                        f"the file ends at byte {offset}, inside a tensor",
                        where=path,
                        remedy="the file changed while it was read: restore it and run again",
                    )
                left, offset = left[count:], offset + count
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error
