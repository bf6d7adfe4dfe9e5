"""compressed-tensors, "pack-quantized": 2-, 4- or 8-bit integers in 32-bit words along the inputs.

W = (q - zero) * scale, with q and zero stored plus 2^(bits - 1); one scale per row, per group of columns, or for all.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.quantized.scheme import (
    Packed,
    Settings,
    in_pieces,
    misfit,
    missing,
    scale_dtype,
    unpack,
)
from weight_atlas.checkpoint.tensors import Store

if TYPE_CHECKING:
    import torch


def find(store: Store, settings: Settings, claimed: set[str]) -> Iterator[Packed]:
    """The packed integer matrices of a checkpoint; packed values without their scales are errors."""
    for name, entry in store.entries.items():
        if not name.endswith(".weight_packed") or entry.dtype != "I32" or name in claimed:
            continue
        stem = name.removesuffix("_packed")
        scale = f"{stem}_scale"
        if scale not in store.entries:
            raise missing(store, name, scale)
        yield _matrix(store, settings, stem)


def _matrix(store: Store, settings: Settings, stem: str) -> Packed:
    name, scale = f"{stem}_packed", f"{stem}_scale"
    extra = [f"{stem}_{part}" for part in ("shape", "zero_point", "g_idx") if f"{stem}_{part}" in store.entries]
    if len(store.entries[name].shape) != 2:
        note = f"packed in {len(store.entries[name].shape)} dimensions, which is not read"
        return Packed(stem, "I32", store.entries[name].shape, (name, scale, *extra), note=note)
    rows, words = store.entries[name].shape
    declared = _bits(settings)
    if f"{stem}_shape" in store.entries:
        raw = store.raw(f"{stem}_shape")
        size = len(raw) // 2
        shape = int.from_bytes(raw[:size], "little"), int.from_bytes(raw[size : 2 * size], "little")
        # Several groups of the settings may have several widths: the shapes tell which one this is.
        bits = next((bits for bits in (declared, 4, 8, 2) if bits and math.ceil(shape[1] * bits / 32) == words), 0)
    else:
        bits = declared or 4
        shape = (rows, words * 32 // bits)
    if bits and 32 % bits:
        return Packed(
            stem, "I32", (rows, words), (name, scale, *extra), note=f"packed in {bits} bits, which is not read"
        )
    scales = math.prod(store.entries[scale].shape)
    groups = scales // max(1, rows) or 1
    if not bits or shape[0] != rows or scales not in (1, rows * groups):
        raise misfit(store, name, scale)
    values = partial(_values, store, stem, shape, bits, groups, scale_dtype(store, scale, settings))
    return Packed(stem, f"INT{bits}", shape, (name, scale, *extra), values)


def _bits(settings: Settings) -> int | None:
    for group in (settings.options.get("config_groups") or {}).values():
        if (weights := group.get("weights")) and weights.get("num_bits"):
            return weights["num_bits"]
    return None


def _values(
    store: Store, stem: str, shape: tuple[int, int], bits: int, groups: int, dtype: str, start: int, stop: int
) -> "torch.Tensor":
    import torch

    rows, inputs = shape
    scales = store.read(f"{stem}_scale").float().reshape(-1, groups)
    group = torch.arange(inputs) // -(-inputs // groups)
    if f"{stem}_g_idx" in store.entries and int((given := store.read(f"{stem}_g_idx")).min()) >= 0:
        group = given.long()  # negative: not in use
    middle = 2 ** (bits - 1)
    zeros = None
    if f"{stem}_zero_point" in store.entries:
        zeros = store.read(f"{stem}_zero_point")
        packed = zeros.dtype == torch.int32
        zeros = (unpack(zeros.T, bits, rows).T - middle if packed else zeros.int()).reshape(-1, groups)

    def make(begin: int, end: int) -> "torch.Tensor":
        chosen = slice(begin, end) if len(scales) == rows else slice(None)
        values = unpack(store.read(f"{stem}_packed", slice(begin, end)), bits, inputs) - middle
        if zeros is not None:
            values = values - zeros[chosen][:, group]
        return values * scales[chosen][:, group]

    return in_pieces(shape, start, stop, dtype, make)
