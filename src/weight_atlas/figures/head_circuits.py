"""Circuits of heads through the vocabulary: heat maps over layers and heads, marked where they are beyond chance."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.attention_kernel import head_map
from weight_atlas.figures.style import message, subplots

MAPS = {
    "copying": ("copying", ("copies", "inverts")),
    "matching": ("matching", ("matches", "mismatches")),
    "induction": ("induction, with an earlier head", ("induction", "induction?")),
    "previous_token": ("attention to the token before", ("previous token",)),
}


def circuit_maps(heads: pd.DataFrame) -> Figure:
    """A heat map of each score that the model has, heads across and layers down; a dot: a label of that score.

    heads: of head_circuits.
    """
    own = heads[heads["component"].fillna("") == ""]
    shown = {name: words for name, words in MAPS.items() if own[name].notna().any()}
    if not shown:
        return message("No circuit of this model's heads could be scored.")
    depth, across = int(own["layer"].max()) + 1, int(own["head"].max()) + 1
    width, height = float(np.clip(0.12 * across, 2.4, 6.0)) + 1.4, float(np.clip(0.16 * depth, 2.0, 9.0)) + 0.9
    figure, axes = subplots(1, len(shown), width=width, height=height, squeeze=False)
    for axis, (name, (title, labels)) in zip(axes[0], shown.items(), strict=True):
        head_map(axis, own, name, None if name == "previous_token" else 0.0)
        marked = own[[bool({*labels} & set(label.split(", "))) for label in own["label"].fillna("")]]
        axis.scatter(marked["head"].astype(int), marked["layer"].astype(int), s=9, color="black", linewidths=0)
        axis.set_title(title, fontsize=9)
    figure.suptitle("Circuits through the vocabulary by layer and head (dots: labels)")
    return figure
