"""Perplexity of a model's ablations on fixed windows, beside the unchanged model's."""

from collections.abc import Sequence

import pandas as pd

from weight_atlas.evaluation.impact import window_impact
from weight_atlas.evaluation.variants import BASELINE

COLUMNS = (
    "corpus", "ablation", "variant", "kind", "weights", "magnitude_ratio", "windows", "tokens", "perplexity", "low",
    "high", "ratio", "delta_nll", "delta_nll_low", "delta_nll_high", "severity",
)  # fmt: skip


def perplexity_table(
    corpus: str, baseline: pd.DataFrame, ablations: Sequence[tuple[dict, pd.DataFrame]]
) -> pd.DataFrame:
    """One row per variant of all ablations, the unchanged model first.

    baseline, and of each ablation its description and its windows: see window_scores. Columns: corpus, ablation,
    variant, kind, weights (how many are edited), magnitude_ratio (their size over the super weights'), windows, tokens,
    perplexity with low and high, ratio to the baseline, delta_nll with its paired 95 % interval (nats per token),
    severity.
    """
    unchanged = ({"ablation": BASELINE, "variants": [{"variant": BASELINE, "kind": BASELINE}]}, baseline)
    parts = []
    for description, windows in (unchanged, *ablations):
        impact = window_impact(corpus, windows, baseline)
        if impact.empty:
            continue
        about = pd.DataFrame(
            [
                {
                    "variant": record["variant"],
                    "ablation": description["ablation"],
                    "kind": record["kind"],
                    "weights": record.get("weights", 0),
                    "magnitude_ratio": record.get("magnitude_ratio"),
                }
                for record in description["variants"]
            ]
        )
        tokens = windows.groupby("variant", sort=False).tokens.sum().rename("tokens").reset_index()
        parts.append(about.merge(impact, on="variant").merge(tokens, on="variant"))
    table = pd.concat(parts, ignore_index=True).rename(columns={"value": "perplexity", "n": "windows"})
    return table.assign(corpus=corpus, magnitude_ratio=table.magnitude_ratio.astype(float))[list(COLUMNS)]
