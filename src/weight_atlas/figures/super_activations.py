"""Figure of super activations: where they arise, and the attention that their positions draw."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots


def super_activations(places: pd.DataFrame, sinks: pd.DataFrame, *, most: int = 12) -> Figure:
    """Tokens with super activations, and the share of attention on their positions by layer, with and without them.

    places: layer, channel, token, first_position, activations, share, mean_value. sinks: layer, share, share_without.
    """
    if places.empty and sinks.empty:
        return message("No super weights were detected: no super activations to look at.")
    figure, (left, right) = subplots(1, 2, width=5.4, height=3.9)
    _tokens(left, places, most)
    _attention(right, sinks)
    return figure


def _tokens(axis, places: pd.DataFrame, most: int) -> None:
    axis.set_title("tokens with a super activation")
    if places.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "no super activation in this text", ha="center", va="center", color=MUTED)
        return
    top = places.nlargest(most, "activations", keep="first")
    rows = np.arange(len(top))
    axis.barh(rows, top.activations, color=[ACCENT if first else NEUTRAL for first in top.first_position], height=0.65)
    names = [
        f"{repr(row.token)[1:-1]}{', first' if row.first_position else ''}  (L{row.layer}, channel {row.channel})"
        for row in top.itertuples()
    ]
    axis.set_yticks(rows, names)
    axis.set_ylim(max(len(top), 4) - 0.5, -0.5)
    for place, row in zip(rows, top.itertuples(), strict=True):
        text = f"{row.share:.0%} of {row.occurrences}, mean {row.mean_value:.4g}"
        axis.annotate(text, (row.activations, place), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    axis.set_xlim(0, top.activations.max() * 1.9)
    axis.set_xlabel("activations in the text")
    axis.grid(axis="y", visible=False)


def _attention(axis, sinks: pd.DataFrame) -> None:
    axis.set_title("attention on their positions")
    if sinks.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "the model gives no attention weights", ha="center", va="center", color=MUTED)
        return
    for column, head, colour, label in (
        ("share", "largest_head", NEUTRAL, "as it is"),
        ("share_without", "largest_head_without", ACCENT, "super weights zeroed"),
    ):
        axis.plot(sinks.layer, sinks[column], color=colour, marker="o", markersize=4, label=label)
        axis.plot(sinks.layer, sinks[head], color=colour, lw=1, ls=":", label=f"{label}, strongest head")
    axis.set(xlabel="layer", ylabel="share of later positions' attention", ylim=(0, 1.05))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(loc="best")
