"""Exact distribution of the values of a tensor, and its statistics, from one or two passes over its bytes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from weight_atlas.dtypes import DTYPES
from weight_atlas.weights.histogram import Histogram
from weight_atlas.weights.histogram_of_buckets import wide_histogram
from weight_atlas.weights.histogram_of_patterns import pattern_histogram
from weight_atlas.weights.stored_types import stored_as

if TYPE_CHECKING:
    import torch


def value_histogram(tensor: "torch.Tensor") -> Histogram:
    """Histogram and statistics of a tensor of any real type and shape, empty ones included.

    Beside the tensor it takes constant memory, except for a copy of a tensor that is neither contiguous nor a
    transposed matrix. float64: percentiles and buckets are those of the values rounded to float32.
    A complex type or a packed one of less than 8 bits is an AtlasError.
    """
    transposed = tensor.ndim == 2 and tensor.T.is_contiguous() and not tensor.is_contiguous()
    laid_out = (tensor.T if transposed else tensor).detach().cpu().contiguous()
    name, flat = stored_as(laid_out)
    histogram = block_histogram(lambda: (flat,), name, tuple(laid_out.shape))
    if transposed:
        return replace(histogram, absmax_row=histogram.absmax_col, absmax_col=histogram.absmax_row)
    return histogram


def block_histogram(blocks: Callable[[], Iterable[np.ndarray]], name: str, shape: tuple[int, ...]) -> Histogram:
    """Histogram of a tensor that comes as flat blocks of its elements, in memory order, as stored_as() gives them.

    name: of the stored type. blocks() is called once for narrow types and twice for wide ones; it may reuse the memory
    of a block for the next one.
    """
    if DTYPES[name].by_patterns:
        histogram = pattern_histogram(blocks(), name)
    else:
        histogram = wide_histogram(blocks, name, int(np.prod(shape, dtype=np.int64)))
    if histogram.absmax_row is None or len(shape) < 2:
        return histogram
    row, column = divmod(histogram.absmax_row, histogram.n // shape[0])
    return replace(histogram, absmax_row=row, absmax_col=column)
