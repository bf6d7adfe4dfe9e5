"""Negative log-likelihood of fixed windows of text under every variant of a model."""

from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.ablations.batches import first_batch, halving
from weight_atlas.ablations.prepare import Opened
from weight_atlas.ablations.variants import Expansion, without
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.interventions.measure import measure
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.windows import Windows, drawn_windows
from weight_atlas.settings.ablations import WindowScores
from weight_atlas.statistics.paired import mean_nll

COLUMNS = {"variant": str, "window": "int64", "document": "int64", "tokens": "int64", "nll": "float64"}


def corpus_scores(
    opened: Opened, corpus: pd.DataFrame, ablation: str, settings: WindowScores, *, detected: bool, where: object
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score windows of a corpus under each variant of an ablation: its description, and the table of score_variants.

    corpus: a table of documents; where: its name. detected: whether the ablation is of detected super weights.
    """
    live = opened.live
    cut = drawn_windows(
        corpus, opened.tokenizer, window=settings.window, tokens=settings.tokens, limit=live.context, where=where,
        seed=settings.seed,
    )  # fmt: skip
    scores, expansion = score_variants(live, cut, opened.expansion, batch_size=settings.batch_size)
    return {**expansion.description(ablation), "targets": "detected" if detected else "given"}, scores


def score_variants(
    live: Anatomy, windows: Windows, expansion: Expansion, *, batch_size: int | None
) -> tuple[pd.DataFrame, Expansion]:
    """Score the same windows under each variant of an ablation.

    Returns one row per variant and window: variant, window, document, tokens (scored ones), nll (nats, their sum;
    infinite where the logits are not finite numbers), and the expansion without variants that the model does not allow.
    batch_size: windows, or variants of a window, that go through the model together; None takes what memory allows.
    """
    measured, _ = halving(
        lambda size: measure(
            live, windows, expansion.variants, batch_size=size, windows_at_once=size, report=_print_result
        ),
        first_batch(live.model.device.type, batch_size),
    )
    names = [variant.name for variant in expansion.variants]
    left = without(expansion, {names[number]: error for number, error in measured.refused.items()})
    tables = [scores.assign(variant=names[number]) for number, scores in sorted(measured.scores.items())]
    table = pd.concat([pd.DataFrame({name: [] for name in COLUMNS}), *tables], ignore_index=True)[list(COLUMNS)]
    return table.astype(COLUMNS), left


def _print_result(variant: Intervention, scores: pd.DataFrame) -> None:
    bad = int(np.isinf(scores.nll).sum())
    if bad:
        print(f"{variant.name}: not finite: logits are no numbers in {bad} of {len(scores)} windows", flush=True)
    else:
        print(f"{variant.name}: {mean_nll(scores):.6g} nats per token", flush=True)
