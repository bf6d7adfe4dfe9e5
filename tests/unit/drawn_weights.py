"""A model of a few matrices and vectors, as tensors, as parts of histograms and as elements."""

import numpy as np
import pandas as pd
import torch

from weight_atlas.weights.histogram_table import histogram_parts
from weight_atlas.weights.streaming import Reading
from weight_atlas.weights.value_histogram import value_histogram


def made(dtype: torch.dtype = torch.bfloat16, layers: int = 3, outlier: float = 0.9) -> dict[tuple, torch.Tensor]:
    """A model of a few matrices and vectors: (role, layer, expert) -> tensor."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    tensors = {("W_E", None, None): normal(50, 16) * 0.1}
    for layer in range(layers):
        tensors["norm", layer, None] = normal(16) + 1
        tensors["W_Q", layer, None] = normal(16, 16) * 0.02 * (layer + 1) + 0.01
        for expert in range(2):
            tensors["W_down", layer, expert] = normal(16, 40) * 0.05
    tensors["W_down", 1, 0][3, 5] = outlier
    return {key: tensor.to(dtype) for key, tensor in tensors.items()}


def parts_of(tensors: dict[tuple, torch.Tensor]) -> list[pd.DataFrame]:
    rows, named = [], []
    for (role, layer, expert), tensor in tensors.items():
        name = f"{layer}.{role}.{expert}"
        rows.append({"id": name, "tensor": name, "role": role, "layer": layer, "expert": expert})
        rows[-1] |= {"rows": tensor.shape[0], "cols": tensor.shape[1] if tensor.ndim > 1 else None}
        named.append(Reading(name, value_histogram(tensor)))
    inventory = pd.DataFrame(rows).assign(piece="", stack="decoder", dtype="BF16")
    return list(histogram_parts(inventory, named))


def elements(tensors: dict[tuple, torch.Tensor], role: str, layer: int | None = -1) -> np.ndarray:
    chosen = [
        tensor
        for key, tensor in tensors.items()
        if (key[0] == role or (role == "all" and tensor.ndim == 2)) and layer in (-1, key[1])
    ]
    return np.concatenate([tensor.double().numpy().ravel() for tensor in chosen])
