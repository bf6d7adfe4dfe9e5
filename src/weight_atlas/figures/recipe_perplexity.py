"""Figure of what a recipe is worth: perplexity of it and of single types, and their differences."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.ablation_axes import beside, readable
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, subplots

_BROKEN = 30  # times the unchanged model's: what is worse, or no number, is drawn as long
_MANY = 1e6  # from here on a perplexity is a power of ten
_COLOURS = {"unchanged": MUTED, "recipe": ACCENT}


def recipe_against_single_types(table: pd.DataFrame, tool: str) -> Figure:
    """Perplexities with their intervals, and how much larger each loss is than the recipe's.

    table: of ablations.recipe_perplexity. tool: whose types they are.
    """
    figure, (left, right) = subplots(1, 2, width=4.6, height=1.2 + 0.45 * len(table), sharey=True)
    places = np.arange(len(table))[::-1]
    colours = [_COLOURS.get(name, NEUTRAL) for name in table["variant"]]
    left.set(yticks=places, yticklabels=[_label(row) for row in table.itertuples()], ylim=(-0.6, len(table) - 0.4))
    _perplexities(left, table, places, colours)
    _differences(right, table, places, colours)
    figure.suptitle(f"Recipe for {tool} beside single types", x=0.01, ha="left")
    return figure


def _label(row) -> str:
    name = {"unchanged": "as it is", "recipe": "recipe"}.get(row.variant, f"all {row.type}")
    return f"{name}, {row.bits:.2f} bits"


def _perplexities(axis: Axes, table: pd.DataFrame, places: np.ndarray, colours: list[str]) -> None:
    """Bars that begin at the unchanged model's perplexity, which is what none can do much better than."""
    values = table["perplexity"].to_numpy()
    edge = values[0] * _BROKEN
    lengths = np.where(np.isfinite(values), np.minimum(values, edge), edge) - values[0]
    axis.barh(places, lengths, left=values[0], height=0.55, color=colours)
    whole = table["high"].to_numpy() < edge
    _intervals(axis, table[whole], places[whole], "perplexity", "low", "high", ["black"] * int(whole.sum()))
    axis.axvline(values[0], color=MUTED, ls=":", lw=1)
    axis.set_xlabel("perplexity; bars begin at the model as it is")
    axis.set_title("Perplexity", loc="left")
    _few_ticks(axis)
    for place, value in zip(places, values, strict=True):
        beside(axis, place, f"{value:,.6g}" if value < _MANY else readable(value))


def _differences(axis: Axes, table: pd.DataFrame, places: np.ndarray, colours: list[str]) -> None:
    _intervals(axis, table, places, "to_recipe", "to_recipe_low", "to_recipe_high", colours)
    axis.scatter(table["to_recipe"], places, color=colours, s=26, zorder=3)
    axis.axvline(0, color=ACCENT, ls=":", lw=1)
    axis.set_xlabel("nats per token; right of 0: worse than the recipe")
    axis.set_title("Loss above the recipe's", loc="left")
    axis.margins(x=0.1)
    _few_ticks(axis)
    for place, value in zip(places, table["to_recipe"], strict=True):
        text = "±0" if value == 0 else f"{value:+.3g}" if np.isfinite(value) else "not finite"
        beside(axis, place, text.replace("-", "−"))


def _few_ticks(axis: Axes) -> None:
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.ticklabel_format(axis="x", useOffset=False)


def _intervals(
    axis: Axes, table: pd.DataFrame, places: np.ndarray, value: str, low: str, high: str, colours: list[str]
) -> None:
    for place, row, colour in zip(places, table.to_dict("records"), colours, strict=True):
        if np.isfinite([row[value], row[low], row[high]]).all():
            axis.plot([row[low], row[high]], [place, place], color=colour, lw=1.6, zorder=2, solid_capstyle="butt")
