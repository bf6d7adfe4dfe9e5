"""Singular directions: how much the first of each matrix carries, and the tokens of those that say most."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots
from weight_atlas.figures.vocabulary import printable

KINDS = {"OV": "W_OV of heads", "W_down": "W_down"}
# Directions whose tokens are written, and tokens of each.
SHOWN, TOKENS = 12, 5


def directions_figure(directions: pd.DataFrame) -> Figure:
    """Per kind: energy of the first direction by layer beside noise, and the strongest tokens of some directions.

    directions: of singular_directions. Chosen are those of largest kurtosis, at most one of a matrix.
    """
    kinds = [kind for kind in KINDS if (directions["kind"] == kind).any()] if len(directions) else []
    if not kinds:
        return message("No direction of this model could be read.")
    figure, axes = subplots(len(kinds), 2, width=6.2, height=3.7, squeeze=False, gridspec_kw={"width_ratios": [1, 1.9]})
    for (energy, words), kind in zip(axes, kinds, strict=True):
        chosen = directions[directions["kind"] == kind]
        _energy(energy, chosen[chosen["direction"] == 1], KINDS[kind])
        _words(words, chosen)
    figure.suptitle("Singular directions read through the unembedding")
    return figure


def _energy(axis: Axes, first: pd.DataFrame, title: str) -> None:
    layers = first["layer"].astype(int)
    axis.scatter(layers, first["energy"], s=14, color=NEUTRAL, alpha=0.75, label="first direction")
    null = first.groupby(layers)["energy_null"].mean()
    axis.plot(null.index, null, color=ACCENT, linewidth=1.2, marker="_", label="of noise")
    axis.set_ylim(0, max(0.05, 1.1 * float(first["energy"].max())))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="layer", ylabel="share of the energy", title=title)
    axis.legend()


def _words(axis: Axes, directions: pd.DataFrame) -> None:
    ordered = directions.sort_values("kurt", ascending=False, kind="stable", na_position="last")
    shown = ordered.drop_duplicates(["layer", "component", "expert", "head"]).head(SHOWN)
    axis.axis("off")
    axis.set_title("directions of largest kurtosis: strongest tokens up | down", loc="left")
    for place, row in zip(np.linspace(0.95, 0.02, SHOWN), shown.itertuples(), strict=False):
        axis.text(0.0, place, _place(row), transform=axis.transAxes, fontsize=7, color=MUTED, va="center")
        for at, texts, colour in ((0.27, row.up, NEUTRAL), (0.64, row.down, ACCENT)):
            words = "  ".join(printable(text, 11) for text in list(texts)[:TOKENS])
            axis.text(at, place, words, transform=axis.transAxes, fontsize=7, color=colour, va="center")


def _place(row) -> str:
    """Where a direction lies, and how far its effects are from a Gaussian's."""
    parts = [f"layer {row.layer}", row.component.replace("_", " ")]
    parts += [f"{name} {getattr(row, name)}" for name in ("expert", "head") if pd.notna(getattr(row, name))]
    return f"{' '.join(filter(None, parts))}, no. {row.direction}: kurt {row.kurt:.3g}"
