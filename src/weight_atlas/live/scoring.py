"""Scores of a model's predictions, summed exactly over each window."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.language_model import LanguageModel
from weight_atlas.live.load import out_of_memory_explained
from weight_atlas.live.windows import Windows

# Positions whose float32 logits exist at one time: bounds the memory beside the model's own logits.
CHUNK = 512


def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Negative log-likelihood in nats of each target, float32 (n,): logits (n, V) of any type, targets (n,)."""
    return {"nll": torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")}


def score_windows(
    model: LanguageModel,
    windows: Windows,
    *,
    batch_size: int = 8,
    measure: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]] = token_nll,
) -> pd.DataFrame:
    """Run the model over windows and sum a measure over the scored tokens of each.

    Returns one row per window: window, tokens (scored ones) and, for each measure, its float64 sum over them.
    Raises AtlasError where a score is not a number.
    """
    rows = []
    for start in range(0, len(windows), batch_size):
        batch = Windows(windows.ids[start : start + batch_size], windows.scored[start : start + batch_size])
        with out_of_memory_explained(f"a forward pass of {tuple(batch.ids.shape)} tokens"), torch.no_grad():
            logits = model(input_ids=batch.ids.to(input_device(model)), use_cache=False).logits
            rows.append(window_sums(logits, batch, measure))
    table = pd.concat(rows, ignore_index=True)
    table.insert(0, "window", np.arange(len(table)))
    return table


def finite_or_infinite(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """token_nll, infinite where logits are no finite numbers: what a changed model may give, and a model may not."""
    return {"nll": torch.nan_to_num(token_nll(logits, targets)["nll"], nan=float("inf"), posinf=float("inf"))}


def window_sums(
    logits: torch.Tensor,
    batch: Windows,
    measure: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]] = token_nll,
) -> pd.DataFrame:
    """Sum a measure over the scored tokens of each window, given logits (n_windows, length, V)."""
    window, position = batch.scored.nonzero(as_tuple=True)
    targets = batch.ids[window, position]
    pieces = [
        measure(logits[window[part], position[part] - 1], targets[part].to(logits.device))
        for part in torch.arange(len(window)).split(CHUNK)
    ]
    owner = window.numpy()
    table = {"tokens": np.bincount(owner, minlength=len(batch))}
    for name in pieces[0]:
        values = torch.cat([piece[name] for piece in pieces]).double().cpu().numpy()
        if np.isnan(values).any():
            raise AtlasError(
                f"the model's {name} is not a number for {int(np.isnan(values).sum())} tokens",
                where=f"window {int(owner[np.isnan(values)][0])}",
                remedy="compute in float32 (dtype: float32), and look for NaN in the weight statistics",
            )
        table[name] = np.bincount(owner, weights=values, minlength=len(batch))
    return pd.DataFrame(table)


def input_device(model: LanguageModel) -> torch.device:
    """Where token ids must lie, for a model on one device or spread over several."""
    return model.get_input_embeddings().weight.device
