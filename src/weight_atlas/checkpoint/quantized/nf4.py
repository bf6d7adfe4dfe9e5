"""bitsandbytes 4-bit (QLoRA, arXiv:2305.14314): codes into a table of 16 values, a maximum per block of 64 of them.

W = table[code] * absmax[block]; two codes to a byte, the first in the high half. With double quantization the maxima
are codes themselves: absmax = nested table[code] * nested absmax[nested block] + offset.
"""

import json
from collections.abc import Iterator
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from weight_atlas.checkpoint.quantized.scheme import (
    Packed,
    Settings,
    in_pieces,
    looked_up,
    misfit,
    missing,
)
from weight_atlas.checkpoint.tensors import Store
from weight_atlas.dtypes import COMPUTED
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

_STATE = ".quant_state.bitsandbytes__"


def find(store: Store, settings: Settings, claimed: set[str]) -> Iterator[Packed]:
    """The 4-bit matrices of a checkpoint; packed values without their state are errors."""
    states = {name.partition(_STATE)[0]: name for name in store.entries if _STATE in name}
    for name, state in states.items():
        if name not in store.entries:
            raise AtlasError(
                f"{state} belongs to {name}, which is not in the checkpoint",
                where=store.folder,
                remedy="get all files of the checkpoint again, from one version of it",
            )
        yield _matrix(store, name, state)
    four_bits = settings.options.get("load_in_4bit") or settings.options.get("_load_in_4bit")
    for name, entry in store.entries.items():
        if name.endswith(".absmax") and name.removesuffix(".absmax") not in states:
            raise missing(store, name, "quant_state")
        packed = four_bits and entry.dtype == "U8" and name.endswith(".weight")
        if packed and settings.method == "bitsandbytes" and name not in states:
            raise missing(store, name, "quant_state")


def _matrix(store: Store, name: str, state: str) -> Packed:
    try:
        quant_state = json.loads(store.raw(state))
        shape, kind = tuple(quant_state["shape"]), str(quant_state["quant_type"]).upper()
        _check(quant_state, shape)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        remedy = "get all files of the checkpoint again, from one version of it"
        raise AtlasError(f"{state} is not readable: {error}", where=store.folder, remedy=remedy) from error
    wanted = [f"{name}.absmax", f"{name}.quant_map"]
    if "nested_blocksize" in quant_state:
        wanted += [f"{name}.nested_absmax", f"{name}.nested_quant_map"]
    for part in wanted:
        if part not in store.entries:
            raise missing(store, name, part)
    if store.entries[name].bytes != -(-prod(shape) // 2):
        raise misfit(store, name, f"{name}.absmax")
    values = partial(_values, store, name, quant_state, shape)
    return Packed(name, kind, shape, (name, state, *wanted), values)


def _check(quant_state: dict[str, Any], shape: tuple[int, ...]) -> None:
    """ValueError for a state that cannot be true."""
    blocks = [quant_state["blocksize"], quant_state.get("nested_blocksize", 1)]
    if not shape or not all(type(size) is int and 0 < size < 2**31 for size in (*shape, *blocks)):
        raise ValueError(f"impossible sizes: shape {list(shape)}, blocks of {blocks}")
    if quant_state.get("dtype", "float16") not in COMPUTED:
        raise ValueError(f"a type that models do not compute in: {quant_state['dtype']}")
    if not isinstance(quant_state.get("nested_offset", 0.0), int | float):
        raise ValueError(f"an impossible offset: {quant_state['nested_offset']}")


def _values(
    store: Store, name: str, quant_state: dict[str, Any], shape: tuple[int, ...], start: int, stop: int
) -> "torch.Tensor":
    import torch

    table, absmax = store.read(f"{name}.quant_map").float(), store.read(f"{name}.absmax")
    if "nested_blocksize" in quant_state:
        outer = torch.arange(absmax.numel()) // quant_state["nested_blocksize"]
        nested = store.read(f"{name}.nested_absmax").float()[outer]
        codes = store.read(f"{name}.nested_quant_map").float()[absmax.int()]
        absmax = codes * nested + quant_state.get("nested_offset", 0.0)
    width, block = prod(shape[1:]), quant_state["blocksize"]

    def make(begin: int, end: int) -> "torch.Tensor":
        first, last = begin * width, end * width
        values = looked_up(_bytes(store, name, first // 2, -(-last // 2)), table, first="high")
        largest = absmax[first // block : -(-last // block)].repeat_interleave(block)
        return (values[first % 2 :][: last - first] * largest[first % block :][: last - first]).view(-1, *shape[1:])

    return in_pieces(shape, start, stop, quant_state.get("dtype", "float16"), make)


def _bytes(store: Store, name: str, begin: int, end: int) -> "torch.Tensor":
    """Bytes of a tensor that holds packed codes in elements of any type, one to a row."""
    import torch

    entry = store.entries[name]
    size = entry.bytes // max(1, prod(entry.shape))
    if entry.shape[0] != prod(entry.shape):
        return store.read(name).reshape(-1).view(torch.uint8)[begin:end]
    stored = store.read(name, slice(begin // size, -(-end // size))).reshape(-1).view(torch.uint8)
    return stored[begin % size :][: end - begin]
