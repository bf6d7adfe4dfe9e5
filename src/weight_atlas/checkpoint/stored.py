"""Reading tensors as they are stored in safetensors files, one at a time and only the rows asked for."""

import os
from pathlib import Path

import torch

from weight_atlas.checkpoint.index import DTYPE_BITS, TensorEntry, safetensors_entries
from weight_atlas.errors import AtlasError

TORCH_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
    "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz, "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
SAFETENSORS_DTYPES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_MOST_AT_ONCE = 1 << 30  # bytes; one read call of the kernel ends at 2 GiB


class SafetensorsStore:
    """The tensors of a safetensors checkpoint; entries: name -> TensorEntry."""

    def __init__(self, folder: Path, shards: list[str], index: str | None = None):
        self.folder = folder
        self.entries = {
            name: entry if entry.dtype in TORCH_DTYPES else _unreadable(entry)
            for name, entry in safetensors_entries(folder, shards, index).items()
        }

    def read(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor as stored; with rows, that range of its first dimension, reading only those bytes."""
        entry = self.entries[name]
        start, _, shape = row_range(entry.shape, rows)
        row_bytes = entry.bytes // entry.shape[0] if rows is not None and entry.shape[0] else 0
        tensor = torch.empty(shape, dtype=TORCH_DTYPES[entry.dtype])
        offset = entry.offset + start * row_bytes
        read_into(tensor, self.folder / entry.shard, offset)
        return tensor


def _unreadable(entry: TensorEntry) -> TensorEntry:
    note = f"{DTYPE_BITS[entry.dtype]}-bit type {entry.dtype} outside a known quantization scheme"
    return TensorEntry(entry.name, entry.dtype, entry.shape, entry.shard, entry.bytes, entry.offset, (), note)


def row_range(shape: tuple[int, ...], rows: slice | None) -> tuple[int, int, tuple[int, ...]]:
    """Start, stop and shape of a range of the first dimension, like a slice of a list; rows None: all of it."""
    if rows is None:
        return 0, shape[0] if shape else 1, shape
    if not shape or rows.step not in (None, 1):
        raise ValueError(f"rows need a tensor with dimensions and a step of 1, got {shape} and {rows}")
    start, stop, _ = rows.indices(shape[0])
    stop = max(start, stop)
    return start, stop, (stop - start, *shape[1:])


def read_into(tensor: torch.Tensor, path: Path, offset: int) -> None:
    """Fill a contiguous tensor with the bytes of a file from offset on, by plain reads.

    A memory map would count the file's pages as this process's memory.
    """
    if not tensor.numel():
        return
    left = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
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
