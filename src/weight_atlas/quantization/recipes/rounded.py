"""Matrices as a type of a tool gives them back."""

from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from weight_atlas.quantization.errors import Source, sixteen_bits
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.quantization.recipes import ggml
from weight_atlas.quantization.recipes.types import StoredType
from weight_atlas.quantization.rounding import Extent, Rows

if TYPE_CHECKING:
    import torch


def source_of(matrix: "torch.Tensor") -> Source:
    """A matrix (out, in) to round, with its extent; elements that are no finite numbers are taken for zeros."""
    raw = Source(matrix, Extent(0.0, 0.0, {}), clean=True)
    ends = [(rows.min(), rows.max()) for rows in (raw.rows(part.start, part.stop) for part in raw.chunks())]
    extent = Extent(float(min(low for low, _ in ends)), float(max(high for _, high in ends)), {})
    return replace(raw, extent=extent)


def rounded_rows(rows: Rows, kind: StoredType) -> np.ndarray:
    """Rows, float32, as a type gives them back; valid until the next type."""
    if kind.scheme:
        return rows.rounded(Scheme.named(kind.scheme))
    return sixteen_bits(rows.weights) if kind.block == 1 else ggml.rounded(rows.weights, kind.name)


def rounded(matrix: "torch.Tensor", kind: StoredType, pool: Executor) -> np.ndarray:
    """A matrix (out, in) in the host's memory, not empty, as a type gives it back: float32, the same shape.

    The blocks of a type lie along the rows, whose length is a multiple of them.
    """
    source = source_of(matrix)
    found = np.empty(source.shape, dtype=np.float32)

    def work(chunk: slice) -> None:
        found[chunk] = rounded_rows(Rows(source.rows(chunk.start, chunk.stop), source.extent), kind)

    list(pool.map(work, source.chunks()))  # the list, so that what fails is raised
    return found
