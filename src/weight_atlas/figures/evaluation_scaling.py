"""Figures of what scaling super weights does."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.evaluation_impact import readable
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, message, subplots


def scaling_curves(curves: pd.DataFrame) -> Figure:
    """Perplexities on a log axis and accuracies with their intervals, against the factor on the super weights.

    curves: task, metric, factor, value, low, high, baseline, ratio, chance (see evaluation.impact).
    """
    if curves.empty:
        return message("No super weights were found: nothing to scale.")
    perplexities, scores = curves[curves.ratio.notna()], curves[curves.ratio.isna()]
    panels = [part for part in (perplexities, scores) if len(part)]
    figure, axes = subplots(1, len(panels), width=5.2, height=3.6, squeeze=False)
    for axis, part in zip(axes[0], panels, strict=True):
        (_perplexity_panel if part is perplexities else _score_panel)(axis, part)
        axis.axvline(1, color=MUTED, lw=1, ls=":")
        axis.set_xlabel("factor on the super weights")
        axis.margins(x=0.03)
    figure.suptitle("Scaling the super weights")
    return figure


def _perplexity_panel(axis, part: pd.DataFrame) -> None:
    colours = [ACCENT, *PALETTE[4:]]
    for colour, (task, curve) in zip(colours, part.groupby("task", sort=False), strict=False):
        # Relative to the unchanged model, perplexities per token, word and byte share an axis.
        axis.plot(curve.factor, curve.ratio, "o-", color=colour, ms=4, lw=1.5, label=f"{task} ({curve.metric.iloc[0]})")
        if task == part.task.iloc[0]:
            _label_ends(axis, curve)
    axis.axhline(1, color=MUTED, lw=1, ls=":")
    axis.set_yscale("log")
    top = part.ratio.max()
    axis.set_ylim(min(0.8, part.ratio.min() * 0.9), max(top * 3, 2))
    axis.set(ylabel="perplexity over the unchanged model's", title="Perplexity")
    axis.legend(loc="upper right")


def _label_ends(axis, curve: pd.DataFrame) -> None:
    """The perplexity itself at the first factor and at the knee's foot: where it is first within a tenth of one."""
    near = curve[(curve.ratio < 1.1)]
    for row in [curve.iloc[0], *([near.iloc[0]] if len(near) else [])]:
        axis.annotate(
            readable(row.value), (row.factor, row.ratio), xytext=(6, 7), textcoords="offset points", fontsize=7.5
        )


def _score_panel(axis, part: pd.DataFrame) -> None:
    colours = [NEUTRAL, PALETTE[2], PALETTE[4], *PALETTE[5:]]
    for colour, (task, curve) in zip(_cycled(colours), part.groupby("task", sort=False), strict=False):
        axis.plot(curve.factor, curve.value, "o-", color=colour, ms=4, lw=1.5, label=f"{task} ({curve.metric.iloc[0]})")
        axis.fill_between(curve.factor, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
        if curve.chance.iloc[0] > 0:
            axis.axhline(curve.chance.iloc[0], color=colour, lw=1, ls=":")
    axis.set(ylim=(-0.03, 1.03), ylabel="score with its 95 % interval", title="Accuracies (dotted: guessing)")
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.legend(loc="best")


def _cycled(colours: list[str]):
    while True:
        yield from colours
