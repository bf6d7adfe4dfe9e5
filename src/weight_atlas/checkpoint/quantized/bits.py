"""Small codes packed into words and bytes."""

from typing import TYPE_CHECKING

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
