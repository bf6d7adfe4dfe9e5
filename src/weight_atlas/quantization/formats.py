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
# The magnitudes of FP4 (E2M1), OCP Microscaling Formats 1.0, table 5.
FP4_LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E4M3_LARGEST, E5M2_LARGEST = 448.0, 57344.0
Rounding = Callable[..., "torch.Tensor"]


@dataclass(frozen=True)
class Format:
    """A number format.

    bits: of a value. round_trip: what rows of weights, each with a scale of its own, become when rounded and read back.
    symmetric: the same with a scale alone, where round_trip keeps a minimum beside it; full: and with the lowest level,
    which has no counterpart. scale_bits: of each scale, and
    of each minimum. mantissa, least_exponent, largest: of a small float, its mantissa's bits, the exponent of its
    smallest normal number, and its largest number.
    """

    bits: int
    round_trip: Rounding
    symmetric: Rounding | None = None
    full: Rounding | None = None
    scale_bits: int = 16
    mantissa: int = 0
    least_exponent: int = 0
    largest: float = 0.0


def _asymmetric(w: "torch.Tensor", bits: int, ratio: float = 1.0) -> "torch.Tensor":
    low, high = w.amin(1, keepdim=True) * ratio, w.amax(1, keepdim=True) * ratio
    step = _nonzero((high - low) / (2**bits - 1))
    return ((w - low) / step).round().clamp(0, 2**bits - 1) * step + low


def _symmetric(w: "torch.Tensor", bits: int, ratio: float = 1.0) -> "torch.Tensor":
    largest = 2 ** (bits - 1) - 1
    step = _nonzero(w.abs().amax(1, keepdim=True) * ratio / largest)
    return (w / step).round().clamp(-largest, largest) * step


def _full(w: "torch.Tensor", bits: int, ratio: float = 1.0) -> "torch.Tensor":
    step = _nonzero(w.abs().amax(1, keepdim=True) * ratio / ((2**bits - 1) / 2))
    return (w / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step


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


def _mxfp4(w: "torch.Tensor") -> "torch.Tensor":
    import torch

    peak = w.abs().amax(1, keepdim=True)
    # floor(log2 peak) less the exponent of FP4's largest number, as the specification has it; stored in 8 bits.
    exponent = (torch.frexp(peak).exponent - 3).clamp(-127, 127)
    scale = torch.where(peak > 0, torch.ldexp(torch.ones_like(peak), exponent), torch.ones_like(peak))
    return _fp4(w / scale) * scale


def _nvfp4(w: "torch.Tensor") -> "torch.Tensor":
    """The rows of w are the blocks of one matrix, which share a scale in float32 beside their own in E4M3."""
    import torch

    whole = w.abs().max() / (FP4_LEVELS[-1] * E4M3_LARGEST) if w.numel() else w.new_ones(())
    own = (w.abs().amax(1, keepdim=True) / FP4_LEVELS[-1] / _nonzero(whole)).clamp(max=E4M3_LARGEST)
    scale = own.to(torch.float8_e4m3fn).float() * whole
    return _fp4(w / _nonzero(scale)) * scale


def _fp4(x: "torch.Tensor") -> "torch.Tensor":
    """To the nearest number of FP4, ties to an even mantissa, saturating."""
    import torch

    levels = torch.tensor(FP4_LEVELS, dtype=x.dtype, device=x.device)
    middles = (levels[1:] + levels[:-1]) / 2
    middles[1::2] = torch.nextafter(middles[1::2], middles.new_zeros(()))  # a tie there goes up
    return torch.copysign(levels[torch.bucketize(x.abs(), middles)], x)


def _nonzero(scale: "torch.Tensor") -> "torch.Tensor":
    """Blocks of equal weights have no range; any scale gives them back."""
    import torch

    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _integer(bits: int) -> Format:
    return Format(bits, partial(_asymmetric, bits=bits), partial(_symmetric, bits=bits), partial(_full, bits=bits))


FORMATS = {
    **{f"int{bits}": _integer(bits) for bits in (8, 6, 5, 4, 3, 2)},
    "nf4": Format(4, _nf4),
    "fp8_e4m3": Format(8, partial(_fp8, dtype="float8_e4m3fn"), mantissa=3, least_exponent=-6, largest=E4M3_LARGEST),
    "fp8_e5m2": Format(8, partial(_fp8, dtype="float8_e5m2"), mantissa=2, least_exponent=-14, largest=E5M2_LARGEST),
    "mxfp4": Format(4, _mxfp4, scale_bits=8, mantissa=1, largest=FP4_LEVELS[-1]),
    "nvfp4": Format(4, _nvfp4, scale_bits=8, mantissa=1, largest=FP4_LEVELS[-1]),
}
# Those with no scale beyond the block's, whatever text goes through a model with it.
OF_ACTIVATIONS = tuple(name for name, known in FORMATS.items() if known.symmetric is not None or known.bits == 8)
