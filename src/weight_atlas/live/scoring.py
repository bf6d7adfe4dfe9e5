"""Scores of a model's predictions, summed exactly over each window."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.head import Head
from weight_atlas.live.memory import batch_within, out_of_memory_explained
from weight_atlas.live.windows import Windows

# Of logits (n, V) and targets (n,), some numbers for each: name -> (n,).
Measure = Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


def token_nll(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Negative log-likelihood in nats of each target, float32 (n,): logits (n, V) of any type, targets (n,)."""
    return {"nll": torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")}


def score_windows(live: Anatomy, windows: Windows, *, batch_size: int, measure: Measure = token_nll) -> pd.DataFrame:
    """Run the model over windows and sum a measure over the scored tokens of each.

    Returns one row per window: window, document, tokens (scored ones) and, for each measure, its float64 sum over them.
    batch_size: windows that go through the model together, at most; fewer where memory.ACTIVATIONS allows no more, or,
    for a model that makes all logits at once, memory.LOGITS. Raises AtlasError where a score is not a number.
    """
    sums, length = [], windows.ids.shape[1]
    batch_size = batch_within(batch_size, live.activation_bytes(length))
    if not live.head.chunked:
        batch_size = max(1, min(batch_size, live.head.positions // length))
    for start in range(0, len(windows), batch_size):
        batch = windows.part(start, start + batch_size)
        with out_of_memory_explained(f"a forward pass of {tuple(batch.ids.shape)} tokens"):
            states = live.head.states(batch.ids)
            sums.append(window_sums(measured(live.head, states, batch, measure), batch))
    return numbered(sums, windows)


def numbered(sums: Sequence[dict[str, np.ndarray]], windows: Windows) -> pd.DataFrame:
    """A table of sums over windows, each with its number, and its document's or, without one, again its own.

    sums: as window_sums gives them, of one window or several each.
    """
    columns = {name: np.concatenate([part[name] for part in sums]) for name in sums[0]}
    return pd.DataFrame({"window": np.arange(len(windows)), "document": windows.units, **columns})


def measured(head: Head, states: torch.Tensor, batch: Windows, measure: Measure) -> dict[str, torch.Tensor]:
    """A measure of every scored token of some windows, (n,) each, in their order; states: of all their tokens."""
    window, position = batch.scored.nonzero(as_tuple=True)
    targets = batch.ids[window, position].to(states.device)
    before = states[window.to(states.device), (position - 1).to(states.device)]
    parts = [measure(logits, targets[part].to(logits.device)) for _, part, logits in head.chunks(before[None])]
    return joined(parts)


def joined(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A measure of all positions from those of consecutive parts of them, on the CPU."""
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def finite_or_infinite(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """token_nll, infinite where logits are no finite numbers: what a changed model may give, and a model may not."""
    return {"nll": torch.nan_to_num(token_nll(logits, targets)["nll"], nan=float("inf"), posinf=float("inf"))}


def window_sums(values: dict[str, torch.Tensor], batch: Windows) -> dict[str, np.ndarray]:
    """Sum measures over each window: tokens (scored ones) and the float64 sum of each measure, (windows,) each.

    values: of the scored tokens of all windows, in their order, (n,) each.
    """
    owner = batch.scored.nonzero()[:, 0].numpy()
    sums = {"tokens": np.bincount(owner, minlength=len(batch))}
    for name, each in values.items():
        numbers = each.double().cpu().numpy()
        if np.isnan(numbers).any():
            raise AtlasError(
                f"the model's {name} is not a number for {int(np.isnan(numbers).sum())} tokens",
                where=f"window {int(owner[np.isnan(numbers)][0])}",
                remedy="compute in float32 (dtype: float32), and look for NaN in the weight statistics",
            )
        sums[name] = np.bincount(owner, weights=numbers, minlength=len(batch))
    return sums
