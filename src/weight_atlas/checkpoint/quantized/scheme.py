"""What all quantization schemes share: packed codes, the description of a packed tensor, and its dequantization."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.checkpoint.tensors import Store
from weight_atlas.dtypes import COMPUTED, DTYPES
from weight_atlas.errors import AtlasError, refuse_huge

if TYPE_CHECKING:
    import torch

_ELEMENTS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Packed:
    """A tensor that is stored as several.

    name: of the tensor that they encode. dtype: what it is stored in, for people: "NF4", "F8_E4M3+block128".
    shape: of its values. parts: the stored tensors, packed values first. values(start, stop): rows of the values.
    note: why it cannot be unfolded, or "". remark: what had to be decided to unfold it, or "".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    values: Callable[[int, int], "torch.Tensor"] | None = None
    note: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Settings:
    """The quantization settings of a checkpoint; method: "" where none are declared. dtype: the model computes in."""

    method: str
    options: dict[str, Any]
    dtype: str

    @classmethod
    def of(cls, folder: Path, config: dict) -> "Settings":
        """From config.json, else from the file that some quantizers write beside it."""
        inner = config["text_config"] if isinstance(config.get("text_config"), dict) else {}
        declared = next(
            (
                part[key]
                for part in (config, inner)
                for key in ("quantization_config", "compression_config")
                if isinstance(part.get(key), dict)
            ),
            None,
        )
        declared = declared or _beside(folder)
        _check(declared, folder)
        method = str(declared.get("quant_method") or declared.get("quant_algo") or "").lower()
        dtype = str(
            next((part[key] for part in (config, inner) for key in ("dtype", "torch_dtype") if part.get(key)), "")
        )
        return cls(method, declared, dtype if dtype in COMPUTED else "bfloat16")


def _beside(folder: Path) -> dict[str, Any]:
    for name, method in (("quantize_config.json", "gptq"), ("quant_config.json", "awq"), ("hf_quant_config.json", "")):
        path = folder / name
        if path.is_file():
            refuse_huge(path)
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                return {"quant_method": method, **found, **found.get("quantization", {})}
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise AtlasError(f"not a settings file: {error}", where=path, remedy="restore the file") from error
    return {}


def _check(declared: dict[str, Any], where: Path) -> None:
    """AtlasError for settings whose structure is not the one that the schemes rely on."""
    groups, block = declared.get("config_groups") or {}, declared.get("weight_block_size")
    wrong = [
        *(["config_groups"] if not isinstance(groups, dict) or not all(map(_is_group, groups.values())) else []),
        *(["weight_block_size"] if block is not None and not _is_block(block) else []),
    ]
    if wrong:
        what = f"the quantization settings' {wrong[0]} has another structure: {str(declared[wrong[0]])[:100]}"
        raise AtlasError(what, where=where, remedy="restore the settings as the model's makers gave them")


def _is_group(group: Any) -> bool:
    weights = group.get("weights") or {} if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        return False
    block, bits = weights.get("block_structure"), weights.get("num_bits")
    return (block is None or _is_block(block)) and (bits is None or (type(bits) is int and 0 < bits <= 64))


def _is_block(block: Any) -> bool:
    return isinstance(block, list) and len(block) == 2 and all(type(size) is int and size > 0 for size in block)


def missing(store: Store, packed: str, wanted: str) -> AtlasError:
    """The error for packed values whose scales are not there."""
    return AtlasError(
        f"{packed} is packed, but its {wanted} is not in the checkpoint",
        where=store.folder / store.entries[packed].shard,
        remedy="get all files of the checkpoint again, from one version of it",
    )


def misfit(store: Store, packed: str, other: str) -> AtlasError:
    """The error for packed values and scales whose shapes do not belong together."""
    shapes = f"{list(store.entries[packed].shape)} and {list(store.entries[other].shape)}"
    return AtlasError(
        f"{packed} and {other} do not fit together: {shapes}",
        where=store.folder / store.entries[packed].shard,
        remedy="get all files of the checkpoint again, from one version of it",
    )


def in_pieces(
    shape: tuple[int, ...], start: int, stop: int, dtype: str, make: Callable[[int, int], "torch.Tensor"], step: int = 1
) -> "torch.Tensor":
    """Rows start to stop of a tensor, made a few at a time, so that little memory is needed beside the result.

    make(i, j) gives rows i to j, where i is a multiple of step.
    """
    import torch

    result = torch.empty((stop - start, *shape[1:]), dtype=getattr(torch, dtype))
    many = max(1, _ELEMENTS_AT_ONCE // max(1, math.prod(shape[1:])))
    many = max(step, many // step * step)
    begin = start // step * step
    while begin < stop:
        end = min(begin + many, shape[0])
        made = make(begin, end)
        first, last = max(begin, start), min(end, stop)
        result[first - start : last - start] = made[first - begin : last - begin].to(result.dtype)
        begin = end
    return result


def scale_dtype(store: Store, scale: str, settings: Settings) -> str:
    """The type to compute in: that of 16-bit scales, else the model's."""
    stored = DTYPES.get(store.entries[scale].dtype)
    if stored is not None and stored.bits == 16 and stored.torch in COMPUTED:
        return stored.torch
    return settings.dtype


if TYPE_CHECKING:
    import torch


def unpack(words: "torch.Tensor", bits: int, count: int | None = None) -> "torch.Tensor":
    """Unsigned integers of 2, 3, 4 or 8 bits along the last dimension of int32 words, the lowest bits first, as int32.

    The words are one stream of bits, so that 3-bit values may cross from word to word. (n, words) -> (n, values);
    count: how many values, where the last word is not full.
    """
    import torch

    if 32 % bits == 0:
        shifts = torch.arange(0, 32, bits, dtype=torch.int32)
        return ((words.unsqueeze(-1) >> shifts) & (2**bits - 1)).flatten(-2)[..., :count]
    first = torch.arange(words.shape[-1] * 32 // bits) * bits
    word, shift = first // 32, first % 32
    wide = words.long() & 0xFFFFFFFF
    after = torch.cat((wide[..., 1:], torch.zeros_like(wide[..., :1])), dim=-1)
    stream = wide[..., word] | (after[..., word] << 32)
    return ((stream >> shift) & (2**bits - 1)).int()[..., :count]


def looked_up(stored: "torch.Tensor", table: "torch.Tensor", *, first: str) -> "torch.Tensor":
    """Values of a table of 16 (float32) for two 4-bit codes a byte; first: which half holds the first, "low" or "high".

    (..., bytes) -> (..., 2 bytes). One step through a table of 256 pairs, each moved as one 64-bit word.
    """
    import torch

    low, high = table.repeat(16), table.repeat_interleave(16)
    pairs = torch.stack((low, high) if first == "low" else (high, low), dim=-1).view(torch.int64).flatten()
    found = pairs.index_select(0, stored.reshape(-1).view(torch.uint8).int())
    return found.view(torch.float32).view(*stored.shape[:-1], -1)
