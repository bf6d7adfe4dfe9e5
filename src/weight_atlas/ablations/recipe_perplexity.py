"""Perplexity of a model rounded as a recipe says, beside the model as it is and single types of that size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.ablations.recipe_variants import RECIPE, Sized
from weight_atlas.ablations.variants import Expansion
from weight_atlas.ablations.window_scores import score_variants
from weight_atlas.interventions.intervention import UNCHANGED
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.windows import DEFAULT_WINDOW, Windows, fixed_windows, prefix_ids, token_stream
from weight_atlas.settings.quantization import RecipePerplexity
from weight_atlas.statistics.paired import mean_nll, paired_difference

COLUMNS = (
    "variant", "type", "bits", "bytes", "weights", "windows", "tokens", "nll", "perplexity", "low", "high",
    "delta_nll", "delta_nll_low", "delta_nll_high", "to_recipe", "to_recipe_low", "to_recipe_high",
)  # fmt: skip


def held_out_windows(
    corpus: pd.DataFrame, tokenizer: Any, settings: RecipePerplexity, *, limit: int | None, where: object
) -> Windows:
    """Windows behind the tokens of a corpus that a recipe's second moments were measured on.

    corpus: a table of documents; where: its name. limit: the model's longest context. From a corpus that is too short
    for all that is to be left out, its end is taken.
    """
    window = min(limit or DEFAULT_WINDOW, DEFAULT_WINDOW) if settings.window is None else settings.window
    wanted = None if settings.tokens is None else settings.skip + settings.tokens
    stream = token_stream(corpus, tokenizer, wanted)
    prefix = prefix_ids(tokenizer)
    start = min(settings.skip, max(0, len(stream) - (settings.tokens or window - len(prefix))))
    if start < settings.skip:
        print(f"the corpus is short: {start} tokens are left out before the scored ones, not {settings.skip}")
    return fixed_windows(
        stream.ids[start:], documents=stream.documents[start:], window=window, prefix=prefix, limit=limit, where=where
    )


def recipe_perplexity(
    live: Anatomy, windows: Windows, variants: Sequence[Sized], parameters: int, *, batch_size: int | None
) -> pd.DataFrame:
    """Score the same windows under each variant of a recipe (see recipe_variants), and compare them in pairs.

    parameters: of the model, that its bits are divided by. batch_size: see window_scores.score_variants.
    """
    expansion = Expansion([variant.intervention for variant in variants], [])
    scores, _ = score_variants(live, windows, expansion, batch_size=batch_size)
    return table_of(scores, variants, parameters)


def table_of(scores: pd.DataFrame, variants: Sequence[Sized], parameters: int) -> pd.DataFrame:
    """One row per variant, the unchanged model first.

    scores: of window_scores.score_variants. Columns: variant, type (of a single one), bits (per weight of the whole
    model), bytes, weights (how many are rounded), windows, tokens, nll (nats per token), perplexity with low and high,
    delta_nll against the unchanged model and to_recipe, how much larger the loss is than the recipe's, each with its
    paired 95 % interval (Student's t over documents).
    """
    by_name = dict(tuple(scores.groupby("variant", sort=False)))
    unchanged, recipe = by_name[UNCHANGED.name], by_name[RECIPE]
    rows = []
    for variant in variants:
        own = by_name[variant.intervention.name]
        delta, to_recipe = _difference(unchanged, own), _difference(recipe, own)
        nll, reference = mean_nll(own), mean_nll(unchanged)
        with np.errstate(over="ignore"):
            levels = np.exp([nll, reference + delta[1], reference + delta[2]])
        about = (variant.intervention.name, variant.type, variant.bytes * 8 / parameters, round(variant.bytes))
        counts = (variant.intervention.change.weights, len(own), int(own["tokens"].sum()))
        rows.append((*about, *counts, nll, *levels, *delta, *to_recipe))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _difference(baseline: pd.DataFrame, variant: pd.DataFrame) -> tuple[float, float, float]:
    """See paired_difference; NaN between two losses of which neither is finite."""
    with np.errstate(invalid="ignore"):
        return paired_difference(baseline, variant)
