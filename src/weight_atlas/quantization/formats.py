"""Number formats that weights are rounded to, in blocks that share a scale: one row of FORMATS each.

Light: the configuration offers them by name before anything is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Quantiles of the normal distribution, exactly as QLoRA's appendix lists them.
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022833234,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
Rounding = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Format:
    """A number format.

    bits: of a value. round_trip: what rows of weights, each with a scale of its own, become when rounded and read back.
    symmetric: the same with a scale alone, where round_trip keeps a minimum beside it.
    """

    bits: int
    round_trip: Rounding
    symmetric: Rounding | None = None


def _asymmetric(w: "torch.Tensor", bits: int) -> "torch.Tensor":
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    step = _nonzero((high - low) / (2**bits - 1))
    return ((w - low) / step).round().clamp(0, 2**bits - 1) * step + low


def _symmetric(w: "torch.Tensor", bits: int) -> "torch.Tensor":
    largest = 2 ** (bits - 1) - 1
    step = _nonzero(w.abs().amax(1, keepdim=True) / largest)
    return (w / step).round().clamp(-largest, largest) * step


def _nf4(w: "torch.Tensor") -> "torch.Tensor":
    import torch

    levels = torch.tensor(NF4_LEVELS, dtype=w.dtype, device=w.device)
    scale = _nonzero(w.abs().amax(1, keepdim=True))
    middles = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(w / scale, middles)] * scale


def _fp8(w: "torch.Tensor", dtype: str) -> "torch.Tensor":
    import torch

    stored = getattr(torch, dtype)
    scale = _nonzero(w.abs().amax(1, keepdim=True) / torch.finfo(stored).max)
    return (w / scale).to(stored).float() * scale


def _nonzero(scale: "torch.Tensor") -> "torch.Tensor":
    """Blocks of equal weights have no range; any scale gives them back."""
    import torch

    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _integer(bits: int) -> Format:
    return Format(bits, partial(_asymmetric, bits=bits), symmetric=partial(_symmetric, bits=bits))


FORMATS = {
    **{f"int{bits}": _integer(bits) for bits in (8, 6, 5, 4, 3, 2)},
    "nf4": Format(4, _nf4),
    "fp8_e4m3": Format(8, partial(_fp8, dtype="float8_e4m3fn")),
    "fp8_e5m2": Format(8, partial(_fp8, dtype="float8_e5m2")),
}
