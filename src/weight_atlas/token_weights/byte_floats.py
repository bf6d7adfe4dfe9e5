"""Floating-point numbers of 8 bits in a tensor of bytes, as files have them whose format knows no such type."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from weight_atlas.checkpoint.named_tensor import NamedTensor, named_tensor
from weight_atlas.errors import AtlasError
from weight_atlas.settings.token_weights import ByteFloat, Table

# Bits of exponent and mantissa; whether the highest exponent means infinity and NaN, as IEEE 754 has it, or only all
# bits set mean NaN.
TYPES: dict[ByteFloat, tuple[int, int, bool]] = {
    "float8_e3m4": (3, 4, True),
    "float8_e4m3fn": (4, 3, False),
    "float8_e5m2": (5, 2, True),
}
# In tables of a language detector: the tensor `dtype` beside the bytes, and its numbers; `scale` is what they were
# divided by.
CODE, SCALE = "dtype", "scale"
CODES: dict[int, ByteFloat] = {0: "float8_e4m3fn", 26: "float8_e3m4"}


@dataclass(frozen=True)
class ByteFloats:
    """A tensor of bytes, each of which is a number: decoded[byte]."""

    tensor: NamedTensor
    decoded: np.ndarray = field(repr=False)
    kind: str

    @property
    def name(self) -> str:
        return f"{self.tensor.name} ({self.kind})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    def values(self, rows: slice | None = None) -> np.ndarray:
        """The values as float64, of all rows or of a range."""
        return self.decoded[self.tensor.values(rows).astype(np.uint8)]

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and values of ranges of rows."""
        for first, bytes_ in self.tensor.chunks():
            yield first, self.decoded[bytes_.astype(np.uint8)]


def byte_floats(tensor: NamedTensor, path: Path, tensors: dict[str, NamedTensor], settings: Table) -> ByteFloats | None:
    """A tensor of bytes as the numbers that they are; None where it is none, or its bytes are plain numbers.

    Settings say what the bytes are, or a code beside them does.
    """
    kind = settings.bytes_are or _coded(tensor, path, tensors)
    if kind is None:
        return None
    if tensor.entry.dtype not in ("U8", "uint8"):
        raise AtlasError(
            f"{tensor.name} is of type {tensor.entry.dtype}, not of bytes", where=path, remedy="remove `bytes_are`"
        )
    scale_key = settings.scale_key or (SCALE if SCALE in tensors and CODE in tensors else None)
    scale = 1.0
    if scale_key is not None:
        factors = named_tensor(path, scale_key, scale_key, tensors).values().reshape(-1)
        if len(factors) != 1:
            raise AtlasError(
                f"{scale_key} holds {len(factors)} numbers, not one", where=path, remedy="check `scale_key`"
            )
        scale = float(factors[0])
    return ByteFloats(tensor, scale * numbers_of(kind), kind if scale == 1 else f"{kind} times {scale:g}")


def _coded(tensor: NamedTensor, path: Path, tensors: dict[str, NamedTensor]) -> ByteFloat | None:
    """The type by the code beside a tensor of bytes."""
    if CODE not in tensors or tensor.entry.dtype not in ("U8", "uint8") or tensor.name == CODE:
        return None
    codes = tensors[CODE].values().reshape(-1)
    if len(codes) != 1 or int(codes[0]) not in CODES:
        raise AtlasError(
            f"bytes of an unknown type: {CODE} is {codes.tolist()}",
            where=path,
            remedy=f"say what they are: `bytes_are`, one of {', '.join(TYPES)}",
        )
    return CODES[int(codes[0])]


def numbers_of(kind: ByteFloat) -> np.ndarray:
    """What each byte means, (256,) float64: sign, exponent, mantissa from the highest bit on; subnormal below 1."""
    exponent_bits, mantissa_bits, ieee = TYPES[kind]
    bias = (1 << exponent_bits - 1) - 1
    byte = np.arange(256)
    exponent = byte >> mantissa_bits & (1 << exponent_bits) - 1
    fraction = (byte & (1 << mantissa_bits) - 1) / (1 << mantissa_bits)
    size = np.where(exponent == 0, np.exp2(1 - bias) * fraction, np.exp2(exponent - bias) * (1 + fraction))
    if ieee:
        highest = exponent == (1 << exponent_bits) - 1
        size[highest] = np.where(fraction[highest] == 0, np.inf, np.nan)
    else:
        size[byte & 0x7F == 0x7F] = np.nan
    return np.where(byte < 128, size, -size)
