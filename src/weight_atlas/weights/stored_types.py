"""The elements of tensors in their stored types, and the meaning of the bit patterns of types of 8 and 16 bits.

torch is imported only for types that numpy lacks, so that counting plain bfloat16 does without it.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from weight_atlas.dtypes import BY_TORCH_NAME, DTYPES
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch


def stored_as(tensor: "torch.Tensor") -> tuple[str, np.ndarray]:
    """Name of a tensor's type, and its elements (bit patterns, of a narrow type) in memory order, without a copy.

    The tensor is on the CPU and contiguous. A complex type or a packed one of less than 8 bits is an AtlasError.
    """
    import torch

    dtype = BY_TORCH_NAME.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None or not dtype.numpy:
        raise AtlasError(f"no histogram of values of type {tensor.dtype}", remedy="convert the tensor to a real type")
    return dtype.name, tensor.reshape(-1).view(torch.uint8).numpy().view(dtype.numpy)


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
    dtype = DTYPES[name]
    values, smallest_normal = _decoded(name, np.arange(2**dtype.bits, dtype=dtype.numpy))
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

            dtype = getattr(torch, DTYPES[name].torch)
            return torch.from_numpy(codes).view(dtype).double().numpy(), torch.finfo(dtype).smallest_normal
    smallest_normal = np.finfo(values.dtype).smallest_normal if values.dtype.kind == "f" else 0.0
    with np.errstate(invalid="ignore"):  # signalling NaN
        return values.astype(np.float64), float(smallest_normal)
