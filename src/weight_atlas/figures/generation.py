"""Figure of generated text: how unlikely each change makes the original continuations, and how much text repeats."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots

COLOURS = {"baseline": MUTED, "zero": ACCENT, "restore": NEUTRAL, "each": ACCENT}
MEASURES = (
    ("original_delta_nll", "loss on the original continuation", "rise, nats per token"),
    ("repeated_fourgrams", "repetition", "share of repeated sequences of four tokens"),
)


def continuations(texts: pd.DataFrame) -> Figure:
    """One row per variant: a dot for each prompt, a line at their mean. texts: see ablations.generation.generated."""
    measured = texts[texts.tokens.notna()]
    if measured.empty:
        return message("The model allows none of the changes: there is no text to compare.")
    variants = list(dict.fromkeys(measured.variant))
    height = 1.2 + 0.36 * len(variants)
    figure, axes = subplots(1, len(MEASURES), width=4.8, height=height, sharey=True)
    for axis, (column, title, label) in zip(axes, MEASURES, strict=True):
        _panel(axis, measured, variants, column)
        axis.set_title(title, loc="left")
        axis.set_xlabel(label)
    axes[0].set_yticks(range(len(variants)), variants, parse_math=False)
    axes[0].set_ylim(len(variants) - 0.5, -0.5)
    axes[1].set_xlim(-0.04, 1.04)
    return figure


def _panel(axis: Axes, texts: pd.DataFrame, variants: list[str], column: str) -> None:
    axis.grid(axis="y", visible=False)
    for place, variant in enumerate(variants):
        own = texts[texts.variant == variant]
        values = own[column].to_numpy(float)
        finite = values[np.isfinite(values)]
        colour = COLOURS.get(own.kind.iloc[0], NEUTRAL)
        axis.scatter(finite, np.full(len(finite), place), s=22, color=colour, alpha=0.7, lw=0, zorder=3)
        if len(finite):
            axis.plot([finite.mean()] * 2, [place - 0.28, place + 0.28], color=colour, lw=2, zorder=4)
        if np.isinf(values).any():
            text = f"no numbers for {int(np.isinf(values).sum())} of {len(values)} prompts"
            axis.annotate(text, (0.98, place), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7)
