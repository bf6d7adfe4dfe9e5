"""The index of a safetensors checkpoint, read from file headers alone, and its checks.

Format: 8 bytes (little-endian header length), a JSON header {name: {dtype, shape, data_offsets}}, then the data, which
the offsets cover without holes or overlaps (https://huggingface.co/docs/safetensors, "Format").
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from weight_atlas.checkpoint.files import refuse_pointers
from weight_atlas.errors import CONTROL, AtlasError

# Bits of one element.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F8_E8M0": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # bytes; the reference implementation refuses longer ones
_MOST_DIMENSIONS = 64
_LARGEST = 2**56  # elements, and bytes of an offset
_AGAIN = "download or copy the file again"


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


def duplicate(name: str, first: str, second: str, folder: Path) -> AtlasError:
    """The error for one tensor name in two files."""
    remedy = "remove the file that does not belong to this checkpoint"
    return AtlasError(f"tensor {name} is in two files: {first} and {second}", where=folder, remedy=remedy)


def weight_map(path: Path) -> dict[str, str]:
    """The weight_map of an index file: tensor name -> shard."""
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in mapping.values()):
            raise TypeError("its values must be file names")
    except OSError as error:
        raise AtlasError(f"cannot read the index: {error.strerror}", where=path, remedy=_AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AtlasError(f"not a shard index: {type(error).__name__}: {error}", where=path, remedy=_AGAIN) from error
    return mapping


def shards_in(folder: Path, index: str) -> list[str]:
    """The shards that an index names, each there; a missing one is an AtlasError."""
    refuse_pointers(folder, [index])
    shards = sorted(set(weight_map(folder / index).values()))
    if missing := [shard for shard in shards if not _is_file(folder / shard)]:
        raise AtlasError(
            f"the index names {len(missing)} missing file(s), first {missing[0]}",
            where=folder / index,
            remedy="download or copy the missing files again",
        )
    return shards


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for a file, for example
        return False


def check_index(path: Path, entries: dict[str, TensorEntry]) -> None:
    """AtlasError unless every tensor of an index file is in the shard where it says."""
    for name, shard in weight_map(path).items():
        if name not in entries or entries[name].shard != shard:
            found = f"which is in {entries[name].shard}" if name in entries else "which is in no file"
            raise AtlasError(
                f"the index puts tensor {name} in {shard}, {found}",
                where=path,
                remedy="get index and shards again from one version of the checkpoint",
            )


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
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice} is there twice")
    return result


def _entry(path: Path, name: str, info: object, start: int) -> TensorEntry:
    try:
        dtype, shape, (begin, end) = info["dtype"], info["shape"], info["data_offsets"]
        possible = len(shape) <= _MOST_DIMENSIONS and all(map(_is_size, (*shape, begin, end)))
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise _damaged(path, f"tensor {name} lacks a dtype, a shape or offsets") from error
    # Dimensions of 0 count as 1, since strides are computed so.
    if not possible or end < begin or math.prod(size or 1 for size in shape) > _LARGEST:
        raise _damaged(path, f"tensor {name} has an impossible shape or offsets: {shape}, [{begin}, {end}]")
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise AtlasError(
            f"tensor {name} has a type that is not known: {dtype}",
            where=path,
            remedy=f"known types: {', '.join(DTYPE_BITS)}; a newer weight-atlas may know it",
        )
    needed = (math.prod(shape) * DTYPE_BITS[dtype] + 7) // 8
    if needed != end - begin:
        raise _damaged(path, f"tensor {name} needs {needed} bytes ({dtype} {shape}) but its offsets span {end - begin}")
    return TensorEntry(name, dtype, tuple(shape), path.name, end - begin, offset=start + begin)


def _is_size(number: object) -> bool:
    return type(number) is int and 0 <= number <= _LARGEST


def check_names(entries: Iterable[str], where: object) -> None:
    """AtlasError for tensor names that no table could hold or no terminal show."""
    if strange := [name for name in entries if CONTROL.search(name) or "\n" in name]:
        what = f"{len(strange)} tensor name(s) with characters that are no part of a name, first {strange[0]!r}"
        raise AtlasError(what, where=where, remedy="get the checkpoint from a source that you trust")


def _damaged(path: Path, what: str) -> AtlasError:
    return AtlasError(what, where=path, remedy=_AGAIN)
