"""The second moment of every input channel of every matrix of a live model, over windows of text."""

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch

from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.language_model import input_device
from weight_atlas.live.live_names import live_names
from weight_atlas.live.windows import Windows


class _Sums:
    """Sum of x^2 of each channel, float64, and the number of tokens."""

    def __init__(self) -> None:
        self.squares: torch.Tensor | None = None
        self.tokens = 0

    def add(self, x: torch.Tensor) -> None:
        flat = x.detach().reshape(-1, x.shape[-1])
        # In float32 within a batch, in float64 over batches: MPS and many GPUs have no fast float64.
        squares = flat.float().square().sum(0).double().cpu()
        self.squares = squares if self.squares is None else self.squares + squares
        self.tokens += len(flat)


def input_second_moments(live: Anatomy, windows: Windows) -> pd.DataFrame:
    """A row for each matrix that a linear module holds, by its name on disk: tensor, tokens, and moments, E[x^2].

    Matrices that lie in stacks of experts are in none, and embeddings look up rather than multiply.
    """
    stored: dict[str, list[str]] = {}
    for name, parameters in live_names(live.model).items():
        stored.setdefault(parameters[0], []).append(name)
    rows = []
    with _recording(live.model) as sums, torch.inference_mode():
        for window in windows.ids:
            live.model(window[None].to(input_device(live.model)), use_cache=False)
    for module, seen in sums.items():
        if seen.squares is not None and seen.tokens:
            moments = (seen.squares / seen.tokens).tolist()
            parameter = f"{module}.weight"
            for name in stored.get(parameter, [parameter]):
                rows.append({"tensor": name, "tokens": seen.tokens, "moments": moments})
    return pd.DataFrame(rows, columns=["tensor", "tokens", "moments"])


@contextmanager
def _recording(model: torch.nn.Module) -> Iterator[dict[str, _Sums]]:
    sums: dict[str, _Sums] = {}
    handles = []
    try:
        for name, module in model.named_modules():
            weight = getattr(module, "weight", None)
            matrix = isinstance(weight, torch.nn.Parameter) and weight.ndim == 2
            if matrix and not isinstance(module, torch.nn.Embedding):
                sums[name] = _Sums()
                handles.append(module.register_forward_pre_hook(_hook(sums[name])))
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def _hook(sums: _Sums):
    def hook(module: torch.nn.Module, arguments: tuple) -> None:
        if arguments and isinstance(arguments[0], torch.Tensor) and arguments[0].is_floating_point():
            sums.add(arguments[0])

    return hook
