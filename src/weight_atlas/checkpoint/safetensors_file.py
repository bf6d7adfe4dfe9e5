"""Index safetensors files by their headers, and read tensors one at a time and only the rows requested.

Format: 8 bytes (little-endian header length), a JSON header {name: {dtype, shape, data_offsets}}, then the data, which
the offsets cover without holes or overlaps (https://huggingface.co/docs/safetensors, "Format").

torch is imported when a tensor is read: the steps that only need the index do without it.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.checkpoint.tensors import TensorEntry, check_index, duplicate
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
        self._fill(tensor, entry, start * row_bytes)
        return tensor

    def _fill(self, tensor: "torch.Tensor", entry: TensorEntry, offset: int) -> None:
        """Fill a tensor with an entry's bytes from an offset in them on."""
        read_into(tensor, self.folder / entry.shard, entry.offset + offset)

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


_LONGEST_HEADER = 100_000_000  # bytes; the reference implementation refuses longer ones
_MOST_DIMENSIONS = 64
_LARGEST = 2**56  # elements, and bytes of an offset
_AGAIN = "download or copy the file again"


def safetensors_entries(folder: Path, shards: Iterable[str], index: str | None = None) -> dict[str, TensorEntry]:
    """All tensors of safetensors shards, in shard and file order, from the headers alone.

    index: name of the index file, whose claims are then checked against the shards.
    Damaged files, names in two shards and an index at odds with its shards are AtlasErrors.
    """
    entries: dict[str, TensorEntry] = {}
    for shard in shards:
        for entry in safetensors_header(folder / shard):
            if entry.name in entries:
                raise duplicate(entry.name, entries[entry.name].shard, shard, folder)
            entries[entry.name] = entry
    if index is not None:
        check_index(folder / index, entries)
    return entries


def safetensors_header(path: Path) -> list[TensorEntry]:
    """The tensors of one safetensors file in the order of their data; the file is checked against its header."""
    size, length, header = _raw_header(path)
    header.pop("__metadata__", None)
    entries = [_entry(path, name, info, start=8 + length) for name, info in header.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.bytes, entry.name))
    position = 8 + length
    for entry in entries:
        if entry.offset != position:
            fault = "overlaps the one before it" if entry.offset < position else "leaves a hole before it"
            raise _damaged(path, f"the data of tensor {entry.name} {fault} (byte {entry.offset}, expected {position})")
        position += entry.bytes
        if position > size:
            raise _damaged(path, f"truncated: tensor {entry.name} ends at byte {position} of {size}")
    if position != size:
        raise _damaged(path, f"{size - position} bytes after the last tensor belong to none")
    return entries


def _raw_header(path: Path) -> tuple[int, int, dict]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8:
                raise _damaged(path, f"truncated: {size} bytes, too short for a safetensors file")
            if length > _LONGEST_HEADER:
                raise _damaged(path, f"not a safetensors file: it claims a header of {length} bytes")
            if length + 8 > size:
                raise _damaged(path, f"truncated: the header needs {length + 8} bytes, the file has {size}")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"not a safetensors header: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "not a safetensors header: no JSON object")
    return size, length, header


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"{twice} is there twice")
    return result


def _entry(path: Path, name: str, info: Any, start: int) -> TensorEntry:
    try:
        dtype, shape, (begin, end) = info["dtype"], info["shape"], info["data_offsets"]
        possible = len(shape) <= _MOST_DIMENSIONS and all(map(_is_size, (*shape, begin, end)))
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise _damaged(path, f"tensor {name} lacks a dtype, a shape or offsets") from error
    # Dimensions of 0 count as 1, since strides are computed so.
    if not possible or end < begin or math.prod(size or 1 for size in shape) > _LARGEST:
        raise _damaged(path, f"tensor {name} has an impossible shape or offsets: {shape}, [{begin}, {end}]")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise AtlasError(
            f"tensor {name} has a type that is not known: {dtype}",
            where=path,
            remedy=f"known types: {', '.join(DTYPES)}; a newer weight-atlas may know it",
        )
    needed = (math.prod(shape) * DTYPES[dtype].bits + 7) // 8
    if needed != end - begin:
        raise _damaged(path, f"tensor {name} needs {needed} bytes ({dtype} {shape}) but its offsets span {end - begin}")
    return TensorEntry(name, dtype, tuple(shape), path.name, end - begin, offset=start + begin)


def _is_size(number: object) -> bool:
    return type(number) is int and 0 <= number <= _LARGEST


def _damaged(path: Path, what: str) -> AtlasError:
    return AtlasError(what, where=path, remedy=_AGAIN)
