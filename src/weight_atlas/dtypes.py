"""The types that tensors are stored in: one table, which readers of files, histograms and live models all use.

torch and numpy are named, not imported.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Dtype:
    """One type of stored elements.

    name: as safetensors files spell it (GGUF files spell those that they share alike). bits: of one element. kind: of
    its values. torch: its name in torch; "" where torch cannot hold it, or two elements share a byte. numpy: the type
    as which its elements are viewed in a histogram: unsigned integers, one for each pattern of bits, for types of at
    most 16 bits; the type itself for wider ones; "" for those without a histogram.
    """

    name: str
    bits: int
    kind: Literal["float", "integer", "boolean", "complex"]
    torch: str = ""
    numpy: str = ""

    @property
    def by_patterns(self) -> bool:
        """Whether a histogram counts every pattern of bits, rather than buckets of values."""
        return bool(self.numpy) and self.bits <= 16

    @property
    def editable(self) -> bool:
        """Whether a weight of a live model can be set to another value: floats that are no codes of a quantizer."""
        return self.kind == "float" and self.bits >= 16


DTYPES = {
    dtype.name: dtype
    for dtype in (
        Dtype("BOOL", 8, "boolean", "bool", "uint8"),
        Dtype("U8", 8, "integer", "uint8", "uint8"),
        Dtype("I8", 8, "integer", "int8", "uint8"),
        Dtype("U16", 16, "integer", "uint16", "uint16"),
        Dtype("I16", 16, "integer", "int16", "uint16"),
        Dtype("U32", 32, "integer", "uint32", "uint32"),
        Dtype("I32", 32, "integer", "int32", "int32"),
        Dtype("U64", 64, "integer", "uint64", "uint64"),
        Dtype("I64", 64, "integer", "int64", "int64"),
        Dtype("F4", 4, "float"),
        Dtype("F6_E2M3", 6, "float"),
        Dtype("F6_E3M2", 6, "float"),
        Dtype("F8_E4M3", 8, "float", "float8_e4m3fn", "uint8"),
        Dtype("F8_E5M2", 8, "float", "float8_e5m2", "uint8"),
        Dtype("F8_E4M3FNUZ", 8, "float", "float8_e4m3fnuz", "uint8"),
        Dtype("F8_E5M2FNUZ", 8, "float", "float8_e5m2fnuz", "uint8"),
        Dtype("F8_E8M0", 8, "float", "float8_e8m0fnu", "uint8"),
        Dtype("F16", 16, "float", "float16", "uint16"),
        Dtype("BF16", 16, "float", "bfloat16", "uint16"),
        Dtype("F32", 32, "float", "float32", "float32"),
        Dtype("F64", 64, "float", "float64", "float64"),
        Dtype("C64", 64, "complex", "complex64"),
    )
}
BY_TORCH_NAME = {dtype.torch: dtype for dtype in DTYPES.values() if dtype.torch}
# The types that models compute in, by their names in torch.
COMPUTED = ("bfloat16", "float16", "float32")
