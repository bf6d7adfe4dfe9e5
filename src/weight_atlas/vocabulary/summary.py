"""Comparison of models: labels of neurons, enriched classes of tokens, effects of super weights."""

from typing import Any

import pandas as pd

from weight_atlas.vocabulary.labels import LABELS
from weight_atlas.vocabulary.token_classes import CLASSES


def summarise_models(
    labels: dict[str, pd.DataFrame], cards: dict[str, list[dict[str, Any]]], weights: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """One row per model: neurons, number and share of each label, cards, super weights and the effect of the strongest.

    labels: model -> of `count_labels`; cards: model -> neuron cards; weights: model -> of `weights_table`. A model can
    be missing in any of them; its columns are then empty. strongest_*: of the weight with the largest |change of loss|.
    """
    rows = []
    for model in sorted({*labels, *cards, *weights}):
        row: dict[str, Any] = {"model": model}
        if model in labels:
            counts = labels[model][["neurons", *LABELS]].sum()
            row |= {"layers": len(labels[model]), "neurons": int(counts.neurons)}
            row |= {name: int(counts[name]) for name in LABELS}
            row |= {f"{name}_share": counts[name] / max(counts.neurons, 1) for name in LABELS}
        if model in cards:
            row["neurons_described"] = len(cards[model])
        targets = weights.get(model, pd.DataFrame())
        if model in weights:
            row["weights_intervened"] = len(targets)
        if len(targets):
            strongest = targets.loc[targets.delta_loss.abs().idxmax()]
            row |= {
                "strongest": f"layer {strongest.layer:.0f} [{strongest['row']:.0f}, {strongest['col']:.0f}]",
                "strongest_delta_loss": strongest.delta_loss,
                "strongest_ci_2.5": strongest.get("delta_loss_ci_2.5"),
                "strongest_ci_97.5": strongest.get("delta_loss_ci_97.5"),
                "strongest_null_ratio": strongest.get("null_ratio_loss"),
                "strongest_null_shift_ratio": strongest.get("null_shift_ratio_loss"),
                "median_abs_delta_loss": targets.delta_loss.abs().median(),
                "cascade_label": strongest.get("cascade_label"),
            }
        rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["model"])


def summarise_classes(cards: dict[str, list[dict[str, Any]]], significance: float) -> pd.DataFrame:
    """Enrichment by model and class: tested (cards), enriched (p_adjusted < significance), share, mean_score, towards.

    mean_score: mean eta squared over all tested cards. towards: enriched ones whose effects are higher in the class.
    """
    rows = []
    for model in sorted(cards):
        for name in CLASSES:
            records = [r for card in cards[model] for r in card["enrichment"] if r["class"] == name]
            passed = [r for r in records if r["p_adjusted"] < significance]
            if records:
                rows.append(
                    {
                        "model": model,
                        "class": name,
                        "tested": len(records),
                        "enriched": len(passed),
                        "share": len(passed) / len(records),
                        "mean_score": sum(r["score"] for r in records) / len(records),
                        "towards": sum(r["mean_difference"] > 0 for r in passed),
                    }
                )
    return pd.DataFrame(rows, columns=["model", "class", "tested", "enriched", "share", "mean_score", "towards"])
