"""GPTQ and AWQ: integers packed into 32-bit words, with scales and zero points for groups of inputs.

W[out, in] = (q[in, out] - zero[group of in, out]) * scale[group of in, out].
GPTQ (arXiv:2210.17323, as AutoGPTQ writes it) packs q along the inputs and keeps each input's group in g_idx; its
first format stores zero - 1. AWQ (arXiv:2306.00978, "gemm") packs along the outputs, 8 to a word in the order
0 2 4 6 1 3 5 7.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.quantized.bits import unpack
from weight_atlas.checkpoint.quantized.packed import (
    Packed,
    Settings,
    Store,
    in_pieces,
    misfit,
    missing,
    scale_dtype,
)

if TYPE_CHECKING:
    import torch

# Place in a word -> output: undoes the order in which AWQ packs.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
_LAYOUTS = ("", "gptq", "gptq_v2", "gemm")
_LINES = 8  # outputs are unpacked by whole words


def find(store: Store, settings: Settings, taken: set[str]) -> Iterator[Packed]:
    """The GPTQ and AWQ matrices of a checkpoint; packed values without scales or zero points are errors."""
    for name, entry in store.entries.items():
        if not name.endswith(".qweight") or name in taken:
            continue
        stem = name.removesuffix(".qweight")
        scales, zeros = f"{stem}.scales", f"{stem}.qzeros"
        for part in (scales, zeros):
            if part not in store.entries:
                raise missing(store, name, part)
        yield _matrix(store, settings, stem, entry.shape, store.entries[scales].shape)


def _matrix(store: Store, settings: Settings, stem: str, packed: tuple[int, ...], scales: tuple[int, ...]) -> Packed:
    name, zeros, groups = f"{stem}.qweight", f"{stem}.qzeros", f"{stem}.g_idx"
    parts = (name, zeros, f"{stem}.scales", *([groups] if groups in store.entries else []))
    stored = store.entries[zeros].shape
    kind = str(settings.options.get("checkpoint_format") or settings.options.get("version") or "").lower()
    if kind not in _LAYOUTS or any(len(shape) != 2 for shape in (packed, scales, stored)):
        return Packed(
            f"{stem}.weight", "I32", packed, parts, note=f"packed in a layout that is not read: {kind or packed}"
        )
    bits = stored[1] * 32 // max(1, scales[1])
    if packed[1] * 8 == scales[1] and stored == (scales[0], packed[1]) and packed[0] % max(1, scales[0]) == 0:
        shape = (scales[1], packed[0])
        values = partial(_awq_values, store, stem, shape, scale_dtype(store, f"{stem}.scales", settings))
        return Packed(f"{stem}.weight", "AWQ4", shape, parts, values)
    if packed[1] == scales[1] and stored[0] == scales[0] and bits in (2, 3, 4, 8):
        shape = (scales[1], packed[0] * 32 // bits)
        values = partial(_gptq_values, store, settings, stem, shape, bits)
        return Packed(f"{stem}.weight", f"GPTQ{bits}", shape, parts, values)
    raise misfit(store, name, f"{stem}.scales")


def _gptq_values(
    store: Store, settings: Settings, stem: str, shape: tuple[int, int], bits: int, start: int, stop: int
) -> "torch.Tensor":
    import torch

    inputs = shape[1]
    words, scales = store.read(f"{stem}.qweight"), store.read(f"{stem}.scales").float().T.contiguous()
    zeros = unpack(store.read(f"{stem}.qzeros"), bits, shape[0]).T.contiguous()
    if settings.options.get("checkpoint_format", "gptq") != "gptq_v2":
        zeros = (zeros + 1) & (2**bits - 1)
    if f"{stem}.g_idx" in store.entries:
        group = store.read(f"{stem}.g_idx").long()
    else:
        group = torch.arange(inputs) // -(-inputs // scales.shape[1])

    def make(begin: int, end: int) -> "torch.Tensor":
        outputs = slice(begin, end)
        values = unpack(words[:, outputs].T.contiguous(), bits, inputs)
        values -= zeros[outputs].index_select(1, group)
        return values * scales[outputs].index_select(1, group)

    return in_pieces(shape, start, stop, scale_dtype(store, f"{stem}.scales", settings), make)


def _awq_values(store: Store, stem: str, shape: tuple[int, int], dtype: str, start: int, stop: int) -> "torch.Tensor":
    import torch

    words, zeros = store.read(f"{stem}.qweight"), store.read(f"{stem}.qzeros")
    scales = store.read(f"{stem}.scales").float()
    group = torch.arange(shape[1]) // (shape[1] // len(scales))

    def make(begin: int, end: int) -> "torch.Tensor":
        columns = slice(begin // _LINES, -(-end // _LINES))
        values = _awq_unpack(words[:, columns]) - _awq_unpack(zeros[:, columns])[group]
        return (values * scales[group, begin:end]).T

    return in_pieces(shape, start, stop, dtype, make, step=_LINES)


def _awq_unpack(words: "torch.Tensor") -> "torch.Tensor":
    """(n, words) -> (n, 8 words), in the order of the outputs."""
    return unpack(words, 4).unflatten(-1, (-1, 8))[..., list(_AWQ_PLACES)].flatten(-2)
