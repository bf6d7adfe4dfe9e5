"""Figures of interventions on single weights: changes beside controls, and the words that move."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, message, subplots
from weight_atlas.figures.vocabulary import printable

KINDS = {
    "edit": ("weight removed", ACCENT),
    "neuron_zero": ("whole neuron zero", PALETTE[1]),
    "mean_contribution": ("mean contribution", PALETTE[4]),
    "random_coord": ("random weights", NEUTRAL),
    "no_op": ("no-op", MUTED),
}
METRICS = {
    "loss": "loss (nats)",
    "entropy": "entropy (nats)",
    "topk_margin": "top-k margin",
    "stopword_mass": "stop-word mass",
}


def deltas_of(deltas: pd.DataFrame, title: str) -> Figure:
    """One target: change of each metric by the edit and by its controls, with intervals.

    deltas: kind, metric, delta, low, high (may be missing), baseline.
    """
    if deltas.empty:
        return message("Nothing was measured.")
    metrics = [name for name in METRICS if name in set(deltas.metric)]
    kinds = [name for name in KINDS if name in set(deltas.kind)]
    figure, axes = subplots(1, len(metrics), width=3.2, height=0.9 + 0.4 * len(kinds), sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        own = deltas[deltas.metric == metric].set_index("kind")
        for place, kind in enumerate(kinds):
            if kind not in own.index:
                continue
            row = own.loc[kind]
            axis.barh(place, row.delta, color=KINDS[kind][1], height=0.6)
            if pd.notna(row.low):
                axis.plot([row.low, row.high], [place, place], color="#22262e", lw=1.4, solid_capstyle="butt")
        axis.axvline(0, color="#22262e", lw=0.8)
        _label_bars(axis, own.reindex(kinds))
        axis.set(title=METRICS[metric], xlabel=f"change from {own.baseline.iloc[0]:.3g}")
        axis.grid(axis="y", visible=False)
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(range(len(kinds)), [KINDS[kind][0] for kind in kinds])
    axes[0, 0].invert_yaxis()
    figure.suptitle(title)
    return figure


def _label_bars(axis, own: pd.DataFrame) -> None:
    low, high = axis.get_xlim()
    span = max(high - low, 1e-12)
    for place, row in enumerate(own.itertuples()):
        if pd.isna(row.delta):
            continue
        ends = [value for value in (row.delta, row.low, row.high, 0.0) if pd.notna(value)]
        right = row.delta >= 0
        at = max(ends) + 0.02 * span if right else min(ends) - 0.02 * span
        axis.text(at, place, f"{row.delta:+.2g}", va="center", ha="left" if right else "right", fontsize=7)
    margin = 0.22 * span
    axis.set_xlim(low - margin * (own.delta.min() < 0), high + margin * (own.delta.max() >= 0))


def weights_overview(weights: pd.DataFrame, most: int = 20) -> Figure:
    """All targets of a model: |change of loss| by removal, with interval, beside the range of the random draws.

    weights: layer, expert, row, col, delta_loss, delta_loss_ci_2.5, delta_loss_ci_97.5, null_ratio_loss,
    random_coord_delta_loss (the last four may be missing). most: lines.
    """
    if weights.empty:
        return message("No weight to intervene on: none was detected, and none is configured.")
    shown = weights.sort_values("delta_loss", ascending=False, key=abs).head(most)
    figure, axis = subplots(width=8, height=1.5 + 0.32 * len(shown))
    for place, row in enumerate(shown.to_dict("records")):
        axis.plot(abs(row["delta_loss"]), place, "o", color=ACCENT, zorder=3, label=None if place else "weight removed")
        low, high = row.get("delta_loss_ci_2.5"), row.get("delta_loss_ci_97.5")
        if pd.notna(low) and low * high > 0:
            axis.plot(np.abs([low, high]), [place, place], color=ACCENT, lw=2, alpha=0.6)
        ratio = row.get("null_ratio_loss")
        if ratio is not None and np.isfinite(ratio) and ratio > 0:
            largest = abs(row["delta_loss"]) / ratio
            axis.plot(largest, place, "|", color=NEUTRAL, ms=12, mew=2,
                      label=None if place else "largest of the random draws")  # fmt: skip
    names = [
        f"L{row.layer}{'' if pd.isna(row.expert) else f' E{int(row.expert)}'} [{row.row}, {row.col}]"
        for row in shown.itertuples()
    ]
    axis.set_yticks(range(len(shown)), names)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    if (shown.delta_loss != 0).any():
        axis.set_xscale("log")
    axis.set(xlabel="|change of loss|, nats per token", title="What removing single weights does")
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def tokens_moved(moved: pd.DataFrame, title: str, k: int = 15) -> Figure:
    """The dual view of one edit: which tokens it should move by its direct effect, and which it moves.

    moved: text, special, direct_effect, probability_change, log_odds_change, one row per token.
    """
    known = moved[~moved.special.astype(bool) & moved.direct_effect.notna()]
    if known.empty or not known.log_odds_change.abs().max() > 0:
        return message("No token moved.")
    figure, axes = subplots(1, 4, width=3.5, height=1.2 + 0.17 * 2 * k)
    columns = {
        "direct_effect": "direct effect on the logit",
        "log_odds_change": "measured change of log-odds",
        "probability_change": "measured change of probability",
    }
    for axis, (column, name) in zip(axes, columns.items(), strict=False):
        ordered = known.sort_values(column, ascending=False, kind="stable")
        shown = pd.concat([ordered.head(k), ordered.tail(k)]).drop_duplicates("id")
        at = np.arange(len(shown))
        axis.barh(at, shown[column], color=np.where(shown[column] > 0, NEUTRAL, ACCENT), height=0.75)
        axis.set_yticks(at, [printable(text, 14) for text in shown.text], fontsize=7)
        axis.invert_yaxis()
        axis.axhline(k - 0.5, color=MUTED, lw=0.8, ls=":")
        axis.set(title=name)
        axis.grid(axis="y", visible=False)
        axis.locator_params(axis="x", nbins=4)
    axes[3].scatter(known.direct_effect, known.log_odds_change, s=4, alpha=0.4, color=NEUTRAL, lw=0, rasterized=True)
    axes[3].axhline(0, color=MUTED, lw=0.8)
    axes[3].axvline(0, color=MUTED, lw=0.8)
    axes[3].set(title="all tokens", xlabel="direct effect on the logit", ylabel="change of log-odds")
    figure.suptitle(title)
    return figure
