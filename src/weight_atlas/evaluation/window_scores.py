"""Negative log-likelihood of fixed windows of text under every variant of a model."""

from collections.abc import Iterable

import pandas as pd
import torch

from weight_atlas.evaluation.batches import first_batch, halving
from weight_atlas.evaluation.variants import Variant, applied
from weight_atlas.lm.anatomy import Anatomy
from weight_atlas.lm.metrics import score_windows
from weight_atlas.lm.windows import Windows


def score_variants(
    live: Anatomy, windows: Windows, variants: Iterable[Variant], prompt: torch.Tensor, *, batch_size: int | None
) -> pd.DataFrame:
    """Score the same windows under each variant.

    Returns one row per variant and window: variant, window, tokens (scored ones), nll (nats, their sum). prompt: see
    variants.applied. batch_size: None takes what memory allows.
    """
    size = first_batch(live.model.device.type, batch_size)
    tables = [pd.DataFrame({"variant": [], "window": [], "tokens": [], "nll": []})]
    for variant in variants:
        with applied(live, variant, prompt):
            scores, size = halving(lambda batch: score_windows(live.model, windows, batch_size=batch), size)
        tables.append(scores.assign(variant=variant.name))
        print(f"{variant.name}: {scores.nll.sum() / scores.tokens.sum():.6g} nats per token", flush=True)
    table = pd.concat(tables, ignore_index=True)[["variant", "window", "tokens", "nll"]]
    return table.astype({"variant": str, "window": "int64", "tokens": "int64", "nll": "float64"})
