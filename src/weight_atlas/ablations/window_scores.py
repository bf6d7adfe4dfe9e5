"""Negative log-likelihood of fixed windows of text under every variant of a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.ablations.apply import BASELINE, Refused, Variant, applied
from weight_atlas.ablations.batches import first_batch, halving
from weight_atlas.ablations.prepare import Opened
from weight_atlas.ablations.variants import Expansion, without
from weight_atlas.errors import AtlasError
from weight_atlas.live import batched_scoring as edits_only
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.scoring import finite_or_infinite, score_windows, token_nll
from weight_atlas.live.shortcuts import Shortcuts, pays, shortcuts_of
from weight_atlas.live.windows import Windows, corpus_windows
from weight_atlas.settings.ablations import WindowScores
from weight_atlas.statistics.paired import mean_nll

COLUMNS = {"variant": str, "window": "int64", "tokens": "int64", "nll": "float64"}


def corpus_scores(
    opened: Opened, corpus: pd.DataFrame, ablation: str, settings: WindowScores, *, detected: bool, where: object
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score windows of a corpus under each variant of an ablation: its description, and the table of score_variants.

    corpus: a table of documents; where: its name. detected: whether the ablation is of detected super weights.
    """
    live = opened.live
    cut = corpus_windows(
        corpus, opened.tokenizer, window=settings.window, tokens=settings.tokens, limit=live.context, where=where
    )
    scores, expansion = score_variants(live, cut, opened.expansion, opened.prompt, batch_size=settings.batch_size)
    return {**expansion.description(ablation), "targets": "detected" if detected else "given"}, scores


def score_variants(
    live: Anatomy, windows: Windows, expansion: Expansion, prompt: torch.Tensor, *, batch_size: int | None
) -> tuple[pd.DataFrame, Expansion]:
    """Score the same windows under each variant of an ablation.

    Returns one row per variant and window: variant, window, tokens (scored ones), nll (nats, their sum; infinite where
    the logits are not finite numbers), and the expansion without variants that the model refused. Variants that only
    edit weights begin at the first layer that they edit, all together, where that gives the same and saves work (see
    live.batched_scoring). prompt: see apply.applied. batch_size: windows, or variants of a window, that go through the
    model together; None takes what memory allows.
    """
    size = first_batch(live.model.device.type, batch_size)
    scores, size = _restarted_scores(live, windows, expansion.variants, size)
    refused: dict[str, Refused] = {}
    for variant in expansion.variants:
        if variant.name not in scores:
            try:
                with applied(live, variant, prompt):
                    scores[variant.name], size = _plain_scores(live, windows, variant, size)
            except Refused as error:
                refused[variant.name] = error
                continue
        own = scores[variant.name]
        bad = int(np.isinf(own.nll).sum())
        note = f"not finite: logits are no numbers in {bad} of {len(own)} windows" if bad else f"{mean_nll(own):.6g}"
        print(f"{variant.name}: {note}{'' if bad else ' nats per token'}", flush=True)
    expansion = without(expansion, refused)
    tables = [scores[variant.name].assign(variant=variant.name) for variant in expansion.variants]
    table = pd.concat([pd.DataFrame({name: [] for name in COLUMNS}), *tables], ignore_index=True)[list(COLUMNS)]
    return table.astype(COLUMNS), expansion


def _plain_scores(live: Anatomy, windows: Windows, variant: Variant, size: int) -> tuple[pd.DataFrame, int]:
    # A baseline that gives no numbers is an error of the model or its type, not a result.
    measure = token_nll if variant.kind == BASELINE else finite_or_infinite
    return halving(lambda batch: score_windows(live, windows, batch_size=batch, measure=measure), size)


def _restarted_scores(
    live: Anatomy, windows: Windows, variants: Sequence[Variant], size: int
) -> tuple[dict[str, pd.DataFrame], int]:
    """The scores of variants that are restarted at a layer, by name, and the batch size that memory allowed."""
    route, restarted = _restarting(live, windows, variants)
    if not restarted:
        return {}, size
    try:
        tables, size = _restarted(live, windows, restarted, route, size)
    except AtlasError as error:
        # One of them fails, such as by logits that are not numbers; alone, each shows whether it is the one.
        print(f"variants go one by one: {error.what}", flush=True)
        return {}, size
    return {variant.name: table for variant, table in zip(restarted, tables, strict=True)}, size


def _restarting(live: Anatomy, windows: Windows, variants: Sequence[Variant]) -> tuple[Shortcuts, list[Variant]]:
    """The variants that are restarted at a layer, and how; none where nothing is won by it."""
    edited = [variant for variant in variants if any(edit.factor != 1 or edit.offset for edit in variant.edits)]
    edits = [variant.edits for variant in edited]
    # The unchanged model's pass is the start of all; its own scores are kept elsewhere.
    if not pays(live, windows, edits, beside=1):
        return Shortcuts(), []
    route = shortcuts_of(live, windows.ids[:1], edits)
    return route, [variant for variant in edited if route.takes(live, variant.edits)]


def _restarted(
    live: Anatomy, windows: Windows, variants: Sequence[Variant], route: Shortcuts, size: int
) -> tuple[list[pd.DataFrame], int]:
    """The scores of each variant, and the batch size that memory allowed; window by window, so that no more is lost."""
    parts: list[list[pd.DataFrame]] = []
    edits = [variant.edits for variant in variants]
    for number in range(len(windows)):
        window = Windows(windows.ids[number : number + 1], windows.scored[number : number + 1])
        tables, size = halving(
            lambda batch, window=window: edits_only.score_edits(live, window, edits, route, batch_size=batch), size
        )
        parts.append([table.assign(window=number) for table in tables[1:]])
    return [pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True)], size
