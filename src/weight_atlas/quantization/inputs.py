"""Round-to-nearest quantization of activations: what a matrix is multiplied with, there and back.

The formats and formulas are those of weights (see quantizers). A scale is found anew for every input: of a whole
sequence of tokens, or of each token. Yu et al., "The Super Weight in Large Language Models" (arXiv 2411.07191), section
5.1: super activations are replaced by a median before the rounding and put back afterwards, so that they stay what they
are and widen no other's range.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from weight_atlas.quantization.quantizers import Scheme, quantized

# A value of a super activation's channel is one if it is this many times the median |x| of its token.
STANDS_OUT = 10.0


@dataclass(frozen=True)
class InputScheme:
    """How to quantize activations.

    format: one of OF_ACTIVATIONS. granularity: what shares a scale, "tensor" (all tokens of a sequence) or "token".
    symmetric: of integers only.
    """

    format: str
    granularity: str
    symmetric: bool = False

    @classmethod
    def named(cls, name: str, *, symmetric: bool = False) -> "InputScheme":
        """The scheme of a name: FORMAT/GRANULARITY."""
        format_, _, granularity = name.partition("/")
        return cls(format_, granularity, symmetric)

    def __str__(self) -> str:
        return str(Scheme(self.format, "tensor", self.symmetric)).replace("tensor", self.granularity)


def quantized_inputs_of(x: torch.Tensor, scheme: InputScheme, channels: Sequence[int] = ()) -> torch.Tensor:
    """Activations (..., tokens, d) after quantization and back; the same shape and type.

    Of more than two dimensions, each matrix of tokens has scales of its own. channels: of super activations; those of
    their values that are STANDS_OUT times the median |x| of their token keep their value, and count in no range.
    """
    if not x.numel():
        return x
    rows = x.float()
    replaced, large = rows, None
    if channels:
        large = standing_out(rows, channels)
        replaced = torch.where(large, rows.median(-1, keepdim=True).values, rows)
    share = x.shape[-1] if scheme.granularity == "token" else x.shape[-2:].numel()
    blocks = replaced.reshape(-1, share)
    rounded = quantized(blocks, Scheme(scheme.format, "channel", scheme.symmetric)).view_as(rows)
    return (rounded if large is None else torch.where(large, rows, rounded)).to(x.dtype)


def standing_out(rows: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """Which values of activations (..., d) are super activations of some channels: bool, the same shape."""
    size = rows.abs()
    chosen = torch.zeros(rows.shape[-1], dtype=torch.bool, device=rows.device)
    chosen[list(channels)] = True
    return chosen & (size > 0) & (size >= STANDS_OUT * size.median(-1, keepdim=True).values)
