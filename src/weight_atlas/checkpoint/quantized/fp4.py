"""4-bit floats in blocks: MXFP4 (32 values, power-of-two scales) and NVFP4 (16 values, fp8 scales and one for all).

A value is E2M1: a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6; two to a byte, the first in the low half (OCP
Microscaling Formats specification 1.0). MXFP4: W = value * 2^(scale - 127). NVFP4: W = value * scale * global scale,
which compressed-tensors stores as its inverse.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.quantized.fp8 import factors
from weight_atlas.checkpoint.quantized.scheme import Packed, Settings, in_pieces, looked_up, misfit, missing
from weight_atlas.checkpoint.tensors import Store

if TYPE_CHECKING:
    import torch

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_BYTES = ("U8", "I8", "F4")


def find(store: Store, settings: Settings, claimed: set[str]) -> Iterator[Packed]:
    """The fp4 tensors of a checkpoint; packed values without their scales are errors."""
    for name, entry in store.entries.items():
        if name in claimed or entry.dtype not in _BYTES:
            continue
        if name.endswith("_blocks") and len(entry.shape) >= 3 and entry.shape[-1] == 16:
            yield _blocks_and_scales(store, settings, name)
        elif name.endswith(".weight_packed") and entry.dtype == "U8":
            yield _compressed(store, settings, name)
        elif name.endswith(".weight"):
            found = _beside_weight(store, settings, name)
            if found is not None:
                yield found


def _blocks_and_scales(store: Store, settings: Settings, name: str) -> Packed:
    """gpt-oss: X_blocks (..., out, groups, 16 bytes) and X_scales (..., out, groups).

    The values are those of X as the unpacked model stores it: experts transposed, (expert, in, out).
    """
    stem, stored = name.removesuffix("_blocks"), store.entries[name].shape
    scale = f"{stem}_scales"
    if scale not in store.entries:
        raise missing(store, name, scale)
    if store.entries[scale].shape != stored[:-1]:
        raise misfit(store, name, scale)
    *experts, rows, groups, _ = stored
    shape = (*experts, 32 * groups, rows) if experts else (rows, 32 * groups)
    values = partial(_experts if experts else _lines, store, name, scale, shape, settings.dtype)
    return Packed(stem, "MXFP4", shape, (name, scale), values)


def _lines(
    store: Store, name: str, scale: str, shape: tuple[int, ...], dtype: str, start: int, stop: int
) -> "torch.Tensor":
    def make(begin: int, end: int) -> "torch.Tensor":
        return _scaled(store.read(name, slice(begin, end)), store.read(scale, slice(begin, end)))

    return in_pieces(shape, start, stop, dtype, make)


def _experts(
    store: Store, name: str, scale: str, shape: tuple[int, ...], dtype: str, start: int, stop: int
) -> "torch.Tensor":
    import torch

    result = torch.empty((stop - start, *shape[1:]), dtype=getattr(torch, dtype))
    for expert in range(start, stop):
        blocks, scales = (store.read(part, slice(expert, expert + 1))[0] for part in (name, scale))
        pieces = partial(_slice_scaled, blocks, scales)
        result[expert - start] = in_pieces((shape[2], shape[1]), 0, shape[2], dtype, pieces).T
    return result


def _slice_scaled(blocks: "torch.Tensor", scales: "torch.Tensor", begin: int, end: int) -> "torch.Tensor":
    return _scaled(blocks[begin:end], scales[begin:end])


def _scaled(blocks: "torch.Tensor", scales: "torch.Tensor") -> "torch.Tensor":
    """(..., groups, bytes) and (..., groups) -> (..., values)."""
    return (unpacked(blocks) * factors(scales).unsqueeze(-1)).flatten(-2)


def _compressed(store: Store, settings: Settings, name: str) -> Packed:
    """compressed-tensors: X.weight_packed, X.weight_scale and, for NVFP4, X.weight_global_scale (a divisor)."""
    stem = name.removesuffix("_packed")
    scale, overall = f"{stem}_scale", f"{stem}_global_scale"
    if scale not in store.entries:
        raise missing(store, name, scale)
    if overall not in store.entries:
        if store.entries[scale].dtype not in ("U8", "F8_E8M0"):
            raise missing(store, name, overall)
        return _grouped(store, settings, stem, "MXFP4", (name, scale))
    return _grouped(store, settings, stem, "NVFP4", (name, scale, overall), divide=True)


def _beside_weight(store: Store, settings: Settings, name: str) -> Packed | None:
    """Scales beside a packed X.weight: ModelOpt's NVFP4 (X.weight_scale_2 a factor), or power-of-two ones."""
    stem = name.removesuffix(".weight")
    scale = next((key for key in (f"{name}_scale", f"{name}_scale_inv", f"{stem}.scale") if key in store.entries), None)
    if scale is None:
        if settings.method in ("nvfp4", "modelopt") and store.entries[name].dtype == "U8":
            raise missing(store, name, f"{name}_scale")
        return None
    overall, kind = f"{name}_scale_2", store.entries[scale].dtype
    if overall in store.entries and store.entries[name].dtype == "U8":
        return _grouped(store, settings, name, "NVFP4", (name, scale, overall))
    powers = kind in ("F8_E8M0", "U8")
    if powers and _per_line(store, name) == 32 * store.entries[scale].shape[-1]:
        return _grouped(store, settings, name, "MXFP4", (name, scale))
    return None


def _per_line(store: Store, name: str) -> int:
    entry = store.entries[name]
    return entry.shape[-1] * (1 if entry.dtype == "F4" else 2) if entry.shape else 0


def _grouped(
    store: Store, settings: Settings, logical: str, kind: str, parts: tuple[str, ...], divide: bool = False
) -> Packed:
    """Values packed along the last dimension, with a scale for every 16 or 32 of them."""
    name, scale = parts[:2]
    shape = (*store.entries[name].shape[:-1], _per_line(store, name))
    groups = store.entries[scale].shape[-1] if store.entries[scale].shape else 0
    if store.entries[scale].shape[:-1] != shape[:-1] or not groups or shape[-1] % groups:
        raise misfit(store, name, scale)
    values = partial(_grouped_values, store, parts, shape, groups, divide, settings.dtype)
    return Packed(logical, kind, shape, parts, values)


def _grouped_values(
    store: Store, parts: tuple[str, ...], shape: tuple[int, ...], groups: int, divide: bool, dtype: str,
    start: int, stop: int,
) -> "torch.Tensor":  # fmt: skip
    name, scale, *overall = parts
    whole = store.read(overall[0]).float() if overall else None
    if whole is not None:
        # One for all, or one for each matrix of a stack.
        whole = (1 / whole if divide else whole).reshape(-1, *[1] * (len(shape) - 1))

    def make(begin: int, end: int) -> "torch.Tensor":
        rows = slice(begin, end)
        values = _scaled(store.read(name, rows).unflatten(-1, (groups, -1)), store.read(scale, rows))
        return values if whole is None else values * (whole if len(whole) == 1 else whole[rows])

    return in_pieces(shape, start, stop, dtype, make)


def unpacked(stored: "torch.Tensor") -> "torch.Tensor":
    """The E2M1 values of bytes, as float32: twice as many along the last dimension, the low half of a byte first."""
    import torch

    return looked_up(stored, torch.tensor(E2M1), first="low")
