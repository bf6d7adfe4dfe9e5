"""Composition of attention heads: which layers read what which earlier ones write, and the strongest pairs of heads."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots

KINDS = {"Q": "Q-composition", "K": "K-composition", "V": "V-composition"}
COLOURS = dict(zip(KINDS, (NEUTRAL, PALETTE[1], PALETTE[2]), strict=True))
# Pairs of heads in the bars.
SHOWN = 18


def composition_maps(layers: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Per stack a heat map for each kind of the largest score over its null by pair of layers, and the strongest pairs.

    layers: of by_layers. pairs: of compositions, largest excess first.
    """
    stacks = list(dict.fromkeys(layers["stack"]))
    if not stacks:
        return message("No attention head has another in an earlier layer that it could read.")
    figure, axes = subplots(len(stacks), 4, width=4.0, height=3.9, squeeze=False)
    for row, stack in zip(axes, stacks, strict=True):
        of_stack, found = layers[layers["stack"] == stack], pairs[pairs["stack"] == stack]
        ratio = of_stack["max_score"] / of_stack["null"]
        largest = max(2.0, float(ratio.max()))
        for axis, (kind, title) in zip(row, KINDS.items(), strict=False):
            chosen = of_stack["kind"] == kind
            _map(axis, of_stack[chosen].assign(ratio=ratio[chosen]), largest)
            axis.set_title(f"{stack}: {title}" if len(stacks) > 1 else title)
        _bars(row[3], found.head(SHOWN))
    figure.suptitle("Composition of heads: strongest pair of each two layers, and of all")
    return figure


def _map(axis: Axes, layers: pd.DataFrame, largest: float) -> None:
    if layers.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "no such pair", ha="center", color=MUTED)
        return
    grid = layers.pivot_table(index="layer", columns="from_layer", values="ratio")
    rows, columns = (np.arange(int(index.min()), int(index.max()) + 1) for index in (grid.index, grid.columns))
    values = grid.reindex(index=rows, columns=columns).to_numpy(dtype=float)
    extent = (columns[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5, rows[0] - 0.5)
    image = axis.imshow(
        values, aspect="auto", cmap=SEQUENTIAL, vmin=1.0, vmax=largest, extent=extent, interpolation="nearest"
    )
    axis.grid(False)
    axis.set_facecolor("#efefef")
    axis.set_xticks(columns[:: -(-len(columns) // 9)])
    axis.set_yticks(rows[:: -(-len(rows) // 9)])
    axis.set_xlabel("layer that writes")
    axis.set_ylabel("layer that reads")
    bar = axis.figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02)
    bar.set_label("largest score / null", fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def _bars(axis: Axes, pairs: pd.DataFrame) -> None:
    places = np.arange(len(pairs))
    axis.barh(places, pairs["score"], color=[COLOURS[kind] for kind in pairs["kind"]], height=0.7)
    axis.scatter(pairs["null"], places, marker="|", s=60, color=ACCENT, zorder=3)
    names = [
        f"{row.kind}  {row.from_layer}.{row.from_head} → {row.layer}.{row.head}{' *' if row.label else ''}"
        for row in pairs.itertuples()
    ]
    axis.set_yticks(places, names, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel("score; red: random orientation; *: composes")
    axis.set_title("strongest, layer.head")
