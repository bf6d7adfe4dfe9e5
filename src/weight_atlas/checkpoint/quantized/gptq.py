"""GPTQ and AWQ: integers packed into 32-bit words, with scales and zero points for groups of inputs.

W[out, in] = (q[in, out] - zero[group of in, out]) * scale[group of in, out].
GPTQ (arXiv:2210.17323, as AutoGPTQ writes it) packs q along the inputs and keeps each input's group in g_idx; its
first format stores zero - 1, the second zero itself. Settings often name the wrong one, but a symmetric matrix shows
which it is: its zeros are all 2^(bits - 1), so that it stores one less in the first format. AWQ (arXiv:2306.00978,
"gemm") packs along the outputs, 8 to a word in the order 0 2 4 6 1 3 5 7, and stores zero itself.
"""

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
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

# Place in a word -> output: undoes the order in which AWQ packs.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
_LAYOUTS = ("", "gptq", "gptq_v2", "gemm")
# What AutoRound calls the formats that store zero itself.
_ZERO_ITSELF = ("gptq_v2", "auto_round", "auto_round:gptqmodel")
_LINES = 8  # outputs are unpacked by whole words


def find(store: Store, settings: Settings, claimed: set[str]) -> Iterator[Packed]:
    """The GPTQ and AWQ matrices of a checkpoint; packed values without scales or zero points are errors."""
    for name, entry in store.entries.items():
        if not name.endswith(".qweight") or name in claimed:
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
    kind, words = _declared(settings), {store.entries[part].dtype for part in (name, zeros)}
    if words != {"I32"}:  # GPTQModel can pack into others
        note = f"packed into words of type {', '.join(sorted(words))}, which are not read"
        return Packed(f"{stem}.weight", store.entries[name].dtype, packed, parts, note=note)
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
        version, remark = _version(store, settings, zeros, bits, shape[0])
        values = partial(_gptq_values, store, settings, stem, shape, bits, version, symmetric=bool(remark))
        return Packed(f"{stem}.weight", f"GPTQ{bits}", shape, parts, values, remark=remark)
    raise misfit(store, name, f"{stem}.scales")


def _declared(settings: Settings) -> str:
    """The format that the settings name, or ""."""
    options = settings.options
    return str(options.get("checkpoint_format") or options.get("format") or options.get("version") or "").lower()


def _version(store: Store, settings: Settings, zeros: str, bits: int, outputs: int) -> tuple[int, str]:
    """The format of a matrix's zeros, 1 or 2, and a remark where it is not the one that the settings say."""
    packing = str(settings.options.get("packing_format") or "").lower()
    declared = 2 if {_declared(settings), packing} & set(_ZERO_ITSELF) else 1
    if settings.options.get("sym", True) is False or not outputs or not store.entries[zeros].shape[0]:
        return declared, ""
    first = unpack(store.read(zeros, slice(0, 1)), bits, outputs)
    middle, found = 2 ** (bits - 1), int(first[0, 0])
    proved = {middle: 2, middle - 1: 1}.get(found) if bool((first == found).all()) else None
    if proved in (None, declared):
        return declared, ""
    said = "the settings say" if _declared(settings) or packing else "settings that do not say mean"
    return proved, f"zero points are all {found}: stored as version {proved} of GPTQ, where {said} version {declared}"


def _gptq_values(
    store: Store, settings: Settings, stem: str, shape: tuple[int, int], bits: int, version: int,
    start: int, stop: int, *, symmetric: bool,
) -> "torch.Tensor":  # fmt: skip
    import torch

    inputs = shape[1]
    words, scales = store.read(f"{stem}.qweight"), store.read(f"{stem}.scales").float().T.contiguous()
    zeros = unpack(store.read(f"{stem}.qzeros"), bits, shape[0]).T.contiguous()
    if symmetric and not bool((zeros == zeros[0, 0]).all()):
        raise AtlasError(
            "the version of the GPTQ format cannot be told: the first zero points are those of a symmetric matrix in "
            "another version than the settings say, the others are not",
            where=f"{stem}.qzeros",
            remedy="set checkpoint_format (gptq or gptq_v2) and sym in the model's quantization settings as they are",
        )
    if version == 1:
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
