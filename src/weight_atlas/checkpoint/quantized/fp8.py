"""8-bit values with scales: fp8 by block, channel or tensor (DeepSeek, compressed-tensors, fbgemm, ModelOpt), int8.

W = q * scale, where the scale of an element is the one of its block: the same number of rows and columns for all but
the last blocks (DeepSeek-V3, technical report, section 3.3: 128 x 128). int8 of bitsandbytes: W = q * SCB / 127, one
SCB per row (LLM.int8, arXiv:2208.07339). An integer zero point is subtracted from q first.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.quantized.scheme import Packed, Settings, in_pieces, misfit, missing
from weight_atlas.checkpoint.tensors import Store

if TYPE_CHECKING:
    import torch

_VALUES = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8")
_SCALES = ("F32", "BF16", "F16", "F8_E8M0", "U8", "F64")
_METHODS = ("fp8", "fbgemm_fp8", "compressed-tensors", "bitsandbytes", "modelopt", "quark", "nvfp4", "finegrained_fp8")
_DEFAULT_BLOCK = 128


def find(store: Store, settings: Settings, claimed: set[str]) -> Iterator[Packed]:
    """The 8-bit tensors that have scales; ones without, in a checkpoint that says it is quantized, are errors."""
    for name, entry in store.entries.items():
        if entry.dtype not in _VALUES or name in claimed or len(entry.shape) < 2 or name.endswith("_zero_point"):
            continue
        stem = name.removesuffix(".weight")
        candidates = (f"{name}_scale_inv", f"{name}_scale", f"{stem}.SCB", f"{stem}.scale" if stem != name else "")
        scale = next((found for found in candidates if found in store.entries and found not in claimed), None)
        if scale is None:
            if settings.method in _METHODS or (settings.method and entry.dtype != "I8"):
                raise missing(store, name, "scale")
            continue
        if store.entries[scale].dtype not in _SCALES:
            raise misfit(store, name, scale)
        zero = f"{name}_zero_point" if f"{name}_zero_point" in store.entries else None
        blocks = _blocks(store, name, scale, settings)
        divisor = 127.0 if scale.endswith(".SCB") else 1.0

        def values(start: int, stop: int, name=name, scale=scale, zero=zero, blocks=blocks, divisor=divisor):
            return _values(store, name, scale, zero, blocks, divisor, settings.dtype, start, stop)

        parts = (name, scale, *([zero] if zero else []))
        yield Packed(name, f"{entry.dtype}+{_granularity(entry.shape, blocks)}", entry.shape, parts, values)


def _blocks(store: Store, name: str, scale: str, settings: Settings) -> tuple[int, ...]:
    """Size of a scale's block along each dimension of the values."""
    shape, scales = store.entries[name].shape, store.entries[scale].shape
    if math.prod(scales) == 1:
        return shape
    if len(scales) == 1:
        # One scale per matrix of a stack, or one per row.
        if scales[0] != shape[0]:
            raise misfit(store, name, scale)
        return (1, *shape[1:])
    if len(scales) != len(shape):
        raise misfit(store, name, scale)
    declared = settings.options.get("weight_block_size") or _declared_block(settings)
    declared = (1,) * (len(shape) - 2) + tuple(declared or (_DEFAULT_BLOCK,) * 2)
    blocks = []
    for size, count, block in zip(shape, scales, declared, strict=True):
        if count in (1, size):
            blocks.append(max(1, size // max(1, count)))
        elif math.ceil(size / block) == count:
            blocks.append(block)
        elif size % count == 0:
            blocks.append(size // count)
        else:
            raise misfit(store, name, scale)
    return tuple(blocks)


def _declared_block(settings: Settings) -> list[int] | None:
    for group in (settings.options.get("config_groups") or {}).values():
        weights = group.get("weights") or {}
        if weights.get("block_structure"):
            return weights["block_structure"]
    return None


def _granularity(shape: tuple[int, ...], blocks: tuple[int, ...]) -> str:
    *_, high, wide = blocks
    if (high, wide) == shape[-2:]:
        return "tensor"
    if (high, wide) in ((1, shape[-1]), (shape[-2], 1)):
        return "channel"
    if high == 1:
        return f"group{wide}"
    return f"block{high}" if high == wide else f"block{high}x{wide}"


def _values(
    store: Store, name: str, scale: str, zero: str | None, blocks: tuple[int, ...], divisor: float, dtype: str,
    start: int, stop: int,
) -> "torch.Tensor":  # fmt: skip
    shape = store.entries[name].shape
    scales = factors(store.read(scale)) / divisor
    zeros = store.read(zero).float() if zero else None

    def make(begin: int, end: int) -> "torch.Tensor":
        values = store.read(name, slice(begin, end)).float()
        if zeros is not None:
            values -= spread(zeros, shape, blocks, begin, end)
        return values * spread(scales, shape, blocks, begin, end)

    return in_pieces(shape, start, stop, dtype, make)


def factors(scales: "torch.Tensor") -> "torch.Tensor":
    """Scales as float32; bytes are powers of two, 2^(byte - 127) (OCP microscaling formats, E8M0)."""
    import torch

    return torch.exp2(scales.float() - 127) if scales.dtype == torch.uint8 else scales.float()


def spread(
    scales: "torch.Tensor", shape: tuple[int, ...], blocks: tuple[int, ...], begin: int, end: int
) -> "torch.Tensor":
    """Scales repeated over their blocks, for rows begin to end of a tensor of that shape (or broadcast to it)."""
    import torch

    if scales.numel() == 1:
        return scales.reshape(())
    if scales.dim() == 1:
        return scales[begin:end].reshape(-1, *[1] * (len(shape) - 1))
    for dimension, (size, block) in enumerate(zip(shape, blocks, strict=True)):
        if scales.shape[dimension] == 1:
            continue
        if dimension == 0:
            scales = scales[torch.arange(begin, end) // block]
        elif block > 1:
            scales = scales.repeat_interleave(block, dim=dimension).narrow(dimension, 0, size)
    return scales
