"""The exact distribution of the values of a tensor, and its statistics, from one or two passes over its bytes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

import numpy as np
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.weights import narrow, wide
from weight_atlas.weights.record import Histogram


def value_histogram(tensor: torch.Tensor) -> Histogram:
    """Histogram and statistics of a tensor of any real type and shape, empty ones included.

    The memory that it needs beside the tensor does not grow with it, except for a copy of a tensor that is neither
    contiguous nor a transposed matrix. float64: percentiles and buckets are those of the values rounded to float32.
    A complex type or a packed one of less than 8 bits is an AtlasError.
    """
    tensor = tensor.detach()
    shape = tuple(tensor.shape)
    if tensor.ndim == 2 and tensor.T.is_contiguous() and not tensor.is_contiguous():
        histogram = block_histogram(lambda: (tensor.T,), shape[::-1])
        return replace(histogram, absmax_row=histogram.absmax_col, absmax_col=histogram.absmax_row)
    flat = tensor.contiguous()
    return block_histogram(lambda: (flat,), shape)


def block_histogram(blocks: Callable[[], Iterable[torch.Tensor]], shape: tuple[int, ...]) -> Histogram:
    """Histogram of a tensor of this shape that comes in blocks: contiguous stretches of its elements, in order.

    A block is done with when the next one is asked for. blocks() is called twice or three times for types of more than
    16 bits.
    """
    n = int(np.prod(shape, dtype=np.int64))
    blocks_left = iter(blocks())
    first = next(blocks_left)
    dtype = first.dtype
    if dtype in narrow.TYPES:
        flat = (block.reshape(-1) for block in chain((first,), blocks_left))
        histogram = narrow.pattern_histogram(flat, dtype)
    elif dtype in wide.TYPES:
        histogram = wide.wide_histogram(lambda: (block.reshape(-1) for block in blocks()), dtype, n)
    else:
        raise AtlasError(f"no histogram of values of type {dtype}", remedy="convert the tensor to a real type")
    if histogram.absmax_row is None or len(shape) < 2:
        return histogram
    row, column = divmod(histogram.absmax_row, n // shape[0])
    return replace(histogram, absmax_row=row, absmax_col=column)
