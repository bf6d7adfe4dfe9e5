"""Perplexity of a model's ablations on fixed windows, beside the unchanged model's."""

from collections.abc import Sequence

import pandas as pd

from weight_atlas.ablations.impact import NO_VARIANTS, window_impact
from weight_atlas.interventions.kinds import BASELINE

COLUMNS = (
    "corpus", "ablation", "targets", "variant", "kind", "weights", "magnitude_ratio", "windows", "documents", "tokens",
    "perplexity", "low", "high", "ratio", "delta_nll", "delta_nll_low", "delta_nll_high", "severity", "note",
)  # fmt: skip


def perplexity_table(
    corpus: str, baseline: pd.DataFrame, ablations: Sequence[tuple[dict, pd.DataFrame]]
) -> pd.DataFrame:
    """One row per variant of all ablations, the unchanged model first.

    baseline, and of each ablation its description and its windows: see window_scores. Columns: corpus, ablation,
    targets (detected or given weights), variant, kind, weights (how many are edited), magnitude_ratio (their size over
    the targets'), windows, documents, tokens, perplexity with low and high, ratio to the baseline, delta_nll with its
    paired 95 % interval (nats per token), severity, note. A variant that the model does not allow has a row whose note
    says why.
    """
    unchanged = ({"ablation": BASELINE, "variants": [{"variant": BASELINE, "kind": BASELINE}]}, baseline)
    parts = []
    for description, windows in (unchanged, *ablations):
        name, targets = description["ablation"], description.get("targets")
        left_out = {each["variant"]: each for each in description.get("skipped", ())}.values()
        skipped = [
            {"variant": each["variant"], "kind": each["kind"], "severity": NO_VARIANTS, "note": each["reason"]}
            for each in left_out
        ]
        if skipped:
            parts.append(pd.DataFrame(skipped).assign(ablation=name, targets=targets))
        impact = window_impact(corpus, windows, baseline)
        if impact.empty:
            continue
        about = pd.DataFrame(
            [
                {
                    "variant": record["variant"],
                    "ablation": name,
                    "targets": targets,
                    "kind": record["kind"],
                    "weights": record.get("weights", 0),
                    "magnitude_ratio": record.get("magnitude_ratio"),
                }
                for record in description["variants"]
            ]
        )
        own = windows.groupby("variant", sort=False)
        text = own.agg(documents=("document", "nunique"), tokens=("tokens", "sum")).reset_index()
        parts.append(about.merge(impact, on="variant").merge(text, on="variant"))
    table = pd.concat(parts, ignore_index=True).rename(columns={"value": "perplexity", "n": "windows"})
    table = table.reindex(columns=list(COLUMNS)).assign(corpus=corpus)
    counts = dict.fromkeys(("weights", "windows", "documents", "tokens"), "Int64")
    return table.astype({"magnitude_ratio": float, **counts})
