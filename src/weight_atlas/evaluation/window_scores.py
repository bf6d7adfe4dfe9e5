"""Negative log-likelihood of fixed windows of text under every variant of a model."""

from collections.abc import Sequence

import pandas as pd
import torch

from weight_atlas.evaluation.batches import first_batch, halving
from weight_atlas.evaluation.variants import Variant, applied
from weight_atlas.lm import variants as edits_only
from weight_atlas.lm.anatomy import Anatomy
from weight_atlas.lm.metrics import score_windows
from weight_atlas.lm.variants import Route, route_of
from weight_atlas.lm.windows import Windows

# Forward passes of one window that finding out a route takes.
TRIALS = 8


def score_variants(
    live: Anatomy, windows: Windows, variants: Sequence[Variant], prompt: torch.Tensor, *, batch_size: int | None
) -> pd.DataFrame:
    """Score the same windows under each variant.

    Returns one row per variant and window: variant, window, tokens (scored ones), nll (nats, their sum). Variants that
    only edit weights begin at the first layer that they edit, all together, where that gives the same and saves work
    (see lm.variants). prompt: see variants.applied. batch_size: windows, or variants of a window, that go through the
    model together; None takes what memory allows.
    """
    size = first_batch(live.model.device.type, batch_size)
    scores: dict[str, pd.DataFrame] = {}
    route, restarted = _restarting(live, windows, variants)
    if route.restart:
        tables, size = _restarted(live, windows, restarted, route, size)
        scores = {variant.name: table for variant, table in zip(restarted, tables, strict=True)}
    for variant in variants:
        if variant.name not in scores:
            with applied(live, variant, prompt):
                plain, size = halving(lambda batch: score_windows(live.model, windows, batch_size=batch), size)
            scores[variant.name] = plain
        own = scores[variant.name]
        print(f"{variant.name}: {own.nll.sum() / own.tokens.sum():.6g} nats per token", flush=True)
    empty = pd.DataFrame({"variant": [], "window": [], "tokens": [], "nll": []})
    table = pd.concat(
        [empty, *(scores[variant.name].assign(variant=variant.name) for variant in variants)], ignore_index=True
    )
    return table[list(empty)].astype({"variant": str, "window": "int64", "tokens": "int64", "nll": "float64"})


def _restarting(live: Anatomy, windows: Windows, variants: Sequence[Variant]) -> tuple[Route, list[Variant]]:
    """The variants that are restarted at a layer, and how; a route without restarts where nothing is won by it."""
    edited = [variant for variant in variants if any(edit.factor != 1 or edit.offset for edit in variant.edits)]
    if not edited or len(windows) * _saved(live, edited) <= TRIALS:
        return Route(False, False), []
    singles = [variant.edits[0] for variant in edited if len(variant.edits) == 1]
    return route_of(live, windows.ids[:1], singles[-1] if singles else None), edited


def _saved(live: Anatomy, variants: Sequence[Variant]) -> float:
    """Forward passes of a window saved by restarts: the layers below each edit, less the pass that they start from."""
    below = sum(min(edit.coordinate.layer for edit in variant.edits) for variant in variants)
    return below / len(live.layers) - 1


def _restarted(
    live: Anatomy, windows: Windows, variants: Sequence[Variant], route: Route, size: int
) -> tuple[list[pd.DataFrame], int]:
    """The scores of each variant, and the batch size that memory allowed; window by window, so that no more is lost."""
    parts: list[list[pd.DataFrame]] = []
    edits = [variant.edits for variant in variants]
    for number in range(len(windows)):
        window = Windows(windows.ids[number : number + 1], windows.scored[number : number + 1])
        tables, size = halving(
            lambda batch, window=window: edits_only.score_variants(live, window, edits, route, batch_size=batch), size
        )
        parts.append([table.assign(window=number) for table in tables[1:]])
    return [pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True)], size
