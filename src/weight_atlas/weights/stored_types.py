"""Types that tensors are stored in, by their names in safetensors files, and the meaning of their bit patterns.

torch is imported only for types that numpy lacks, so that counting plain bfloat16 does without it.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

# Types of 8 and 16 bits: the numpy type that their bit patterns are read as, and their names in torch.
NARROW: dict[str, tuple[type[np.unsignedinteger], str]] = {
    "BF16": (np.uint16, "bfloat16"),
    "F16": (np.uint16, "float16"),
    "I16": (np.uint16, "int16"),
    "U16": (np.uint16, "uint16"),
    "F8_E4M3": (np.uint8, "float8_e4m3fn"),
    "F8_E5M2": (np.uint8, "float8_e5m2"),
    "F8_E4M3FNUZ": (np.uint8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (np.uint8, "float8_e5m2fnuz"),
    "F8_E8M0": (np.uint8, "float8_e8m0fnu"),
    "I8": (np.uint8, "int8"),
    "U8": (np.uint8, "uint8"),
    "BOOL": (np.uint8, "bool"),
}
# Wider types, which are read as numbers.
WIDE: dict[str, tuple[type[np.number], str]] = {
    "F32": (np.float32, "float32"),
    "F64": (np.float64, "float64"),
    "I32": (np.int32, "int32"),
    "I64": (np.int64, "int64"),
    "U32": (np.uint32, "uint32"),
    "U64": (np.uint64, "uint64"),
}
READ_AS = {name: plain for name, (plain, _) in {**NARROW, **WIDE}.items()}
_BY_TORCH_NAME = {torch_name: name for name, (_, torch_name) in {**NARROW, **WIDE}.items()}


def stored_as(tensor: "torch.Tensor") -> tuple[str, np.ndarray]:
    """Name of a tensor's type, and its elements (bit patterns, of a narrow type) in memory order, without a copy.

    The tensor is on the CPU and contiguous. A complex type or a packed one of less than 8 bits is an AtlasError.
    """
    import torch

    name = _BY_TORCH_NAME.get(str(tensor.dtype).removeprefix("torch."))
    if name is None:
        raise AtlasError(f"no histogram of values of type {tensor.dtype}", remedy="convert the tensor to a real type")
    return name, tensor.reshape(-1).view(torch.uint8).numpy().view(READ_AS[name])


@dataclass(frozen=True)
class Patterns:
    """Meaning of the bit patterns of a type: values, masks, and the finite ones by value and by falling magnitude."""

    values: np.ndarray
    ascending: np.ndarray
    descending: np.ndarray
    nan: np.ndarray
    inf: np.ndarray
    zero: np.ndarray
    negative_zero: np.ndarray
    subnormal: np.ndarray


@cache
def patterns(name: str) -> Patterns:
    """The patterns of a narrow type."""
    plain, _ = NARROW[name]
    values, smallest_normal = _decoded(name, np.arange(np.iinfo(plain).max + 1, dtype=plain))
    zero, negative = values == 0, np.signbit(values)
    finite = np.flatnonzero(np.isfinite(values))
    return Patterns(
        values=values,
        ascending=finite[np.argsort(values[finite], kind="stable")],
        descending=finite[np.argsort(-np.abs(values[finite]), kind="stable")],
        nan=np.isnan(values),
        inf=np.isinf(values),
        zero=zero,
        negative_zero=zero & negative,
        subnormal=~zero & (np.abs(values) < smallest_normal),
    )


def _decoded(name: str, codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Values of the patterns in float64, and the smallest normal number of the type (0 for integers)."""
    match name:
        case "BF16":
            values = (codes.astype(np.uint32) << 16).view(np.float32)
        case "F16":
            values = codes.view(np.float16)
        case "I8" | "I16":
            values = codes.view(np.int8 if name == "I8" else np.int16)
        case "U8" | "U16":
            values = codes
        case "BOOL":
            values = codes != 0
        case _:
            import torch

            dtype = getattr(torch, NARROW[name][1])
            return torch.from_numpy(codes).view(dtype).double().numpy(), torch.finfo(dtype).smallest_normal
    smallest_normal = np.finfo(values.dtype).smallest_normal if values.dtype.kind == "f" else 0.0
    with np.errstate(invalid="ignore"):  # signalling NaN
        return values.astype(np.float64), float(smallest_normal)
