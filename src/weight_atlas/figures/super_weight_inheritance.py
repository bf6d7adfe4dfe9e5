"""Figure of the super weights of two models: the values of each, and what its removal costs in both."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots

COLOURS = {"a": NEUTRAL, "b": ACCENT}
# Nats per token below which the axis of effects is linear.
LINEAR = 0.01


def inheritance(table: pd.DataFrame, models: list[str]) -> Figure:
    """A row for each super weight of either model, a dot for each model. models: names of a and b."""
    if table.empty:
        return message("Neither model has super weights.")
    names = list(table.weight)
    figure, (left, right) = subplots(1, 2, width=4.8, height=1.5 + 0.36 * len(names), sharey=True)
    _dots(left, table, "value", models)
    _dots(right, table, "delta_nll", models)
    left.set_title("value of the weight", loc="left")
    right.set_title("rise of the loss without it", loc="left")
    right.set(xlabel="nats per token")
    right.set_xscale("symlog", linthresh=LINEAR)
    left.set_yticks(range(len(names)), names, parse_math=False)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.axvline(0, color=MUTED, lw=0.8, ls=":")
    handles, labels = left.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _dots(axis: Axes, table: pd.DataFrame, column: str, models: list[str]) -> None:
    axis.grid(axis="y", visible=False)
    one, other = (table[f"{column}_{side}"].to_numpy(float) for side in "ab")
    for place, ends in enumerate(zip(one, other, strict=True)):
        if np.isfinite(ends).all():
            axis.plot(ends, [place, place], color=MUTED, lw=1, zorder=2)
        elif np.isinf(ends).any():
            axis.annotate("no numbers", (0.98, place), xycoords=("axes fraction", "data"), ha="right", fontsize=7)
    for side, name, values in zip("ab", models, (one, other), strict=True):
        finite = np.isfinite(values)
        axis.scatter(
            values[finite], np.flatnonzero(finite), color=COLOURS[side], s=30, lw=0, zorder=3, label=f"{side}: {name}"
        )
