"""One card for each super weight: what removing it does, beside controls, with intervals, and on its way upwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.settings.vocabulary import SuperWeightCards
from weight_atlas.statistics.bootstrap import bootstrap_ratio
from weight_atlas.statistics.paired import document_differences, mean_changes
from weight_atlas.vocabulary.down_projections import down_projections
from weight_atlas.vocabulary.effects import scalar_effects
from weight_atlas.vocabulary.measured_effects import agreement, strongest_changes
from weight_atlas.vocabulary.neurons import neuron_blocks
from weight_atlas.vocabulary.prediction_measures import METRICS
from weight_atlas.vocabulary.readout import read_readout

PLACE = ["model", "tensor", "layer", "expert", "row", "col", "original_value", "routed_tokens_count"]
CASCADE = (
    "delta_entropy", "delta_margin", "kl", "residual_cosine", "residual_norm", "residual_norm_edited",
)  # fmt: skip
# Random draws, and what the comparison with them is called.
NULLS = {"random_coord": "null", "random_shift": "null_shift"}


@dataclass(frozen=True)
class WeightCards:
    """Cards of some super weights, and what moves which word (see weight_cards)."""

    cards: list[dict[str, Any]]
    effects: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """One flat row per card (see weights_table)."""
        return weights_table(self.cards)


def weight_cards(
    checkpoint: Checkpoint,
    inventory: pd.DataFrame,
    targets: dict[str, Any],
    windows: pd.DataFrame,
    changes: pd.DataFrame,
    cascade: pd.DataFrame,
    tokens: pd.DataFrame,
    settings: SuperWeightCards,
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """The cards of all targets, and what moves which word: target, id, text, direct_effect, log_odds_change...

    targets: factor and target records. windows, changes: of `measure_interventions`; cascade: of `cascade`; tokens: of
    `token_classes`. direct_effect: of the edit on a token's logit, W_U'[:, row] w
    (factor - 1).
    """
    cards, moved = [], []
    direct = _direct_effects(checkpoint, inventory, targets)
    for number, target in enumerate(targets["targets"]):
        own = changes[changes.target == number]
        own = own.assign(direct_effect=np.resize(direct[number], len(own)))
        own.loc[own.id >= len(direct[number]), "direct_effect"] = np.nan
        moved.append(own.merge(tokens[["id", "text", "special"]], on="id"))
        card = weight_card(windows, number, samples=settings.bootstrap, seed=settings.seed)
        cards.append(
            {
                **{name: target[name] for name in ("tensor", "layer", "row", "col", "expert", "component", "source")},
                "original_value": target["original_value"],
                "factor": targets["factor"],
                **card,
                "cascade": cascade_record(
                    cascade, number, ratio=settings.cascade_ratio, smallest=settings.cascade_smallest
                ),
                "dual": dual_record(own, tokens, direct[number], settings.tokens),
            }
        )
    columns = [*changes.columns, "direct_effect", "text", "special"]
    return cards, pd.concat(moved, ignore_index=True) if moved else pd.DataFrame(columns=columns)


def _direct_effects(checkpoint: Checkpoint, inventory: pd.DataFrame, targets: dict[str, Any]) -> list[np.ndarray]:
    if not targets["targets"]:
        return []
    readout = read_readout(checkpoint, inventory)
    projections = down_projections(inventory)
    effects = []
    for target in targets["targets"]:
        block = next(
            neuron_blocks(checkpoint, inventory, readout, rows=projections[projections.id == target["tensor"]])
        )
        written = float(block.vectors[target["row"], target["col"]]) * (targets["factor"] - 1)
        effects.append(scalar_effects(readout, target["row"], written))
    return effects


def weight_card(
    windows: pd.DataFrame, target: int, *, samples: int, seed: int, metrics: tuple[str, ...] = METRICS
) -> dict[str, Any]:
    """Baselines, deltas, controls and intervals of one target from the per-window sums of `measure_interventions`.

    Every delta is modified minus baseline, per scored token. controls.<kind>_delta of random draws: mean over them.
    controls.<kind>: their number, tokens and windows that they are scored on, spread and extremes, and, where they
    are changed by the same factor, magnitude_ratio: mean and minimum over them of |w| by the target's. null and
    null_shift (of random_coord and random_shift): for each metric, the target's delta on the windows of the draws, p =
    (1 + draws at least as far from zero) / (1 + draws), and ratio, |delta| over the largest |draw|, missing where no
    draw changes anything. bootstrap: metric -> mean, ci_2.5, ci_97.5 over `samples` resamples of documents; empty if
    there are none.
    """
    baseline = windows[windows.target == -1]
    own = windows[windows.target == target]
    edit = own[own.kind == "edit"]
    tokens, reached = baseline.tokens.sum(), edit.routed_tokens_count.iloc[0]
    card: dict[str, Any] = {
        "baselines": {name: float(baseline[name].sum() / tokens) for name in metrics},
        "deltas": mean_changes(baseline, edit, metrics),
        "controls": {
            f"{kind}_delta": mean_changes(baseline, part, metrics)
            for kind, part in own.groupby("kind", sort=True)
            if kind not in ("edit", *NULLS)
        },
        "tokens_scored": int(tokens),
        "windows": len(baseline),
        "routed_tokens_count": None if pd.isna(reached) else int(reached),
    }
    for kind, name in NULLS.items():
        draws = own[own.kind == kind]
        if len(draws):
            changes = pd.DataFrame([mean_changes(baseline, part, metrics) for _, part in draws.groupby("draw")])
            same = edit[edit.window.isin(draws.window.unique())]
            card["controls"][f"{kind}_delta"] = changes.mean().to_dict()
            card["controls"][kind] = _spread(changes, same)
            card[name] = _null(mean_changes(baseline, same, metrics), changes)
    if "random_coord" in card["controls"]:
        sizes = own[own.kind == "random_coord"].groupby("draw").weight.first().abs() / abs(edit.weight.iloc[0])
        found = {"mean": float(sizes.mean()), "min": float(sizes.min())} if np.isfinite(sizes).all() else None
        card["controls"]["random_coord"]["magnitude_ratio"] = found
    card["bootstrap"] = (
        _intervals(baseline, edit, metrics, samples, seed) if samples and edit.document.nunique() > 1 else {}
    )
    return card


def _intervals(
    baseline: pd.DataFrame, edit: pd.DataFrame, metrics: tuple[str, ...], samples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Percentile intervals of each metric's change per token, from the same resamples of documents for all metrics."""
    differences, tokens = document_differences(baseline, edit, metrics)
    intervals = {}
    for name, values in differences.items():
        drawn = bootstrap_ratio(values, tokens, resamples=samples, seed=[seed, len(tokens)])
        intervals[name] = {"mean": drawn.mean, "ci_2.5": drawn.low, "ci_97.5": drawn.high}
    return intervals


def _spread(changes: pd.DataFrame, windows: pd.DataFrame) -> dict[str, Any]:
    summary = {name: {"std": column.std(ddof=1) if len(column) > 1 else 0.0, "min": column.min(), "max": column.max()}
               for name, column in changes.items()}  # fmt: skip
    return {"draws": len(changes), "tokens_scored": int(windows.tokens.sum()), "windows": len(windows), **summary}


def _null(deltas: dict[str, float], changes: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    result = {}
    for name, delta in deltas.items():
        largest = float(changes[name].abs().max())
        further = int((changes[name].abs() >= abs(delta)).sum())
        ratio = abs(delta) / largest if largest > 0 else None
        result[name] = {"delta": delta, "p": (1 + further) / (1 + len(changes)), "ratio": ratio}
    return result


def cascade_record(cascade: pd.DataFrame, target: int, *, ratio: float = 2.0, smallest: float = 1e-4) -> dict[str, Any]:
    """The cascade of one target: layers, one list per quantity over them (all positions), the same by class of
    positions under `positions`, and the label (ratio, smallest: of `cascade_label`)."""
    own = cascade[cascade.target == target].sort_values("layer")
    if own.empty:
        return {"layers": [], "delta_entropy": [], "delta_margin": []}
    every = own[own.position == "all"]
    return {
        "layers": every.layer.tolist(),
        **{name: every[name].tolist() for name in CASCADE},
        "positions": {
            position: {name: part[name].tolist() for name in CASCADE}
            for position, part in own[own.position != "all"].groupby("position")
        },
        "label": cascade_label(every.kl.tolist(), ratio, smallest),
    }


def dual_record(
    changes: pd.DataFrame, tokens: pd.DataFrame, direct: np.ndarray | None = None, k: int = 20
) -> dict[str, Any]:
    """The measured change of token probabilities: strongest tokens by probability and by log-odds, and how far the
    direct effects (V,) of the edit rank tokens alike (Spearman), if they are given."""
    record = {
        "probability": strongest_changes(changes, tokens, "probability_change", k),
        "log_odds": strongest_changes(changes, tokens, "log_odds_change", k),
        "total_variation": float(changes.probability_change.abs().sum() / 2),
    }
    if direct is not None:
        known = changes[changes.id < len(direct)]
        record["rank_correlation_with_direct_effect"] = agreement(direct[known.id], known)
    return record


def weights_table(cards: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One flat row per card: place, baselines, deltas, controls, intervals and nulls of every metric, labels."""
    rows = []
    for card in cards:
        row = {"model": card.get("model", ""), **{name: card[name] for name in PLACE[1:]}}
        row |= {f"baseline_{name}": value for name, value in card["baselines"].items()}
        row |= {f"delta_{name}": value for name, value in card["deltas"].items()}
        for control, values in sorted(card["controls"].items()):
            if control.endswith("_delta"):
                row |= {f"{control}_{name}": value for name, value in values.items()}
        for name, interval in card["bootstrap"].items():
            row |= {f"delta_{name}_{key}": value for key, value in interval.items()}
        for kind, null in NULLS.items():
            draws = card["controls"].get(kind, {})
            row |= {f"{kind}_{name}": draws[name] for name in ("draws", "tokens_scored", "windows") if name in draws}
            row |= {f"{kind}_magnitude_ratio_{name}": v for name, v in (draws.get("magnitude_ratio") or {}).items()}
            for name, values in card.get(null, {}).items():
                row |= {f"{null}_{key}_{name}": value for key, value in values.items()}
        row["cascade_label"] = card["cascade"].get("label", "")
        rows.append(row)
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=PLACE)
    # A ratio that is missing in every card is still a number.
    missing = {name: float for name in table.columns if name.startswith("null")}
    return table.astype({"expert": "Int64", "routed_tokens_count": "Int64", **missing})


def card_tables(card: dict[str, Any]) -> pd.DataFrame:
    """The table behind a card's figure: kind (edit, or a control), metric, delta, low, high, draws, tokens, edit_there.

    low and high: of the bootstrap interval for the edit, extremes over the draws for random ones, else missing. draws,
    tokens: number of random draws and the tokens that they were scored on; edit_there: the edit's delta on these.
    """
    rows = []
    for metric, delta in card["deltas"].items():
        interval = card["bootstrap"].get(metric, {})
        low, high = interval.get("ci_2.5"), interval.get("ci_97.5")
        shared = {"metric": metric, "baseline": card["baselines"][metric]}
        rows.append({"kind": "edit", "delta": delta, "low": low, "high": high, **shared})
        for control, values in card["controls"].items():
            if not control.endswith("_delta"):
                continue
            row = {"kind": control.removesuffix("_delta"), "delta": values[metric], **shared}
            if row["kind"] in NULLS:
                drawn, null = card["controls"][row["kind"]], card[NULLS[row["kind"]]]
                row |= {"low": drawn[metric]["min"], "high": drawn[metric]["max"], "draws": drawn["draws"]}
                row |= {"tokens": drawn["tokens_scored"], "edit_there": null[metric]["delta"]}
            rows.append(row)
    names = ["kind", "metric", "delta", "low", "high", "draws", "tokens", "edit_there", "baseline"]
    return pd.DataFrame(rows, columns=names)


def cascade_label(kl: Sequence[float], ratio: float = 2.0, smallest: float = 1e-4) -> str:
    """Class of the course of an edit from its layer to the last, by its KL in nats at each layer.

    dampening: the last is less than 1 / ratio of the first; accelerating: the last is more than ratio times the
    first, and the second half of the layers adds more than ratio times what the first half adds; amplifying: it grows
    otherwise; stable: none of these, or below `smallest` at every layer.
    """
    series = np.asarray(kl, dtype=float)
    if len(series) < 2 or series.max() < smallest:
        return "stable"
    start, end = max(series[0], smallest), series[-1]
    if end * ratio < start:
        return "dampening"
    if end <= ratio * start:
        return "stable"
    middle = series[(len(series) - 1) // 2]
    early, late = max(middle - series[0], 0.0), end - middle
    return "accelerating" if len(series) > 2 and late > ratio * early else "amplifying"
