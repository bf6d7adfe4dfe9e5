"""Figure of a recipe: the bits of every unit, and what a uniform type of the same size would cost."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.ablation_axes import style_of
from weight_atlas.figures.style import ACCENT, MUTED, message, subplots

_EDGE = 0.4


def types_by_layer(table: pd.DataFrame, summary: dict[str, Any]) -> Figure:
    """Bits per weight of the units in their order, a mark per type, those with super weights ringed.

    table, summary: of recipes.recipe.Allocated.
    """
    if table.empty:
        return message("no unit to quantize")
    figure, (upper, lower) = subplots(2, 1, width=8.4, height=2.5, sharex=True)
    places = np.arange(len(table))
    for number, (name, part) in enumerate(table.groupby("type", sort=True)):
        colour, marker = style_of(number)
        chosen = part.index.to_numpy()
        upper.scatter(places[chosen], part["bits"], s=22, color=colour, marker=marker, label=name, lw=0, zorder=2)
        shown = np.isfinite(part["sqnr_db"])
        lower.scatter(places[chosen][shown], part["sqnr_db"][shown], s=22, color=colour, marker=marker, lw=0, zorder=2)
    kept = table.index[table["spared"]].to_numpy()
    if len(kept):
        style = {"s": 90, "facecolor": "none", "edgecolor": ACCENT, "lw": 1.3, "zorder": 3}
        upper.scatter(places[kept], table["bits"][kept], label="holds a super weight", **style)
    upper.axhline(summary["bits_per_weight"], color=MUTED, ls="--", lw=1, label="whole model")
    upper.set_ylabel("bits per weight")
    upper.set_ylim(0, 1.1 * table["bits"].max())
    upper.set_title("Types", loc="left")
    lower.set_ylabel("SQNR of the output (dB)")
    lower.set_title("Signal to noise, input channels weighted", loc="left")
    lower.set_xlabel("unit, in the order of the table")
    lower.set_xlim(-_EDGE - 0.02 * len(table), len(table) - 1 + _EDGE + 0.02 * len(table))
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper")
    uniform = summary["uniform"]
    beside = f"; all {uniform['type']}: {uniform['noise']:.3g}" if uniform else ""
    figure.suptitle(
        f"Recipe for {summary['format']}: {summary['bits_per_weight']:.2f} bits, noise {summary['noise']:.3g}{beside}",
        x=0.01,
        ha="left",
    )
    return figure
