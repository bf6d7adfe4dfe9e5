"""Attention heads compared: trees and cosines of chosen layers, clusteredness by layer, the weights of each head."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.images import picture
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, message, subplots


def head_trees(layers: list[Any], least: float) -> Figure:
    """A tree of heads above their cosines, in the tree's order, for each chosen layer and circuit.

    layers: of embeddings.heads, with heads to compare; least: mean cosine at which the tree is cut into clusters.
    """
    if not layers:
        return message("none of the chosen layers has heads to compare")
    circuits = list(dict.fromkeys(layer.place["circuit"] for layer in layers))
    names = list(dict.fromkeys(_name(layer) for layer in layers))
    widest = max(len(layer.found.head) for layer in layers)
    width = float(np.clip(0.13 * widest, 2.9, 7))
    figure, axes = subplots(2 * len(circuits), len(names), width=width, height=2.7, squeeze=False)
    for axis in axes.flat:
        axis.set_visible(False)
    for layer in layers:
        row, column = 2 * circuits.index(layer.place["circuit"]), names.index(_name(layer))
        order = _tree(axes[row, column], layer, least)
        _cosines(axes[row + 1, column], layer, order)
        axes[row, column].set_title(f"{layer.place['circuit']}, {_name(layer)}", fontsize=9)
    figure.suptitle("Attention heads by the cosine of their kernels (average linkage)")
    return figure


def _name(layer: Any) -> str:
    place = layer.place
    return " ".join(part for part in (f"layer {place['layer']}", place["component"]) if part)


def _tree(axis: Axes, layer: Any, least: float) -> list[int]:
    from scipy.cluster.hierarchy import dendrogram

    axis.set_visible(True)
    cut = (2 - 2 * least) ** 0.5
    drawn = dendrogram(
        layer.tree.linkage, ax=axis, labels=layer.found.head.tolist(), color_threshold=cut, above_threshold_color=MUTED,
        leaf_font_size=7,
    )  # fmt: skip
    axis.axhline(2**0.5, color=NEUTRAL, linestyle=":", linewidth=0.9)
    axis.axhline(cut, color=ACCENT, linestyle="--", linewidth=0.8)
    axis.set_ylim(0, max(1.5, 1.04 * float(layer.tree.linkage[-1, 2])))
    axis.grid(False, axis="x")
    axis.set_ylabel("distance")
    axis.set_xlabel(f"head (cophenetic correlation {layer.tree.cophenetic:.2f})", fontsize=8)
    return list(drawn["leaves"])


def _cosines(axis: Axes, layer: Any, order: list[int]) -> None:
    axis.set_visible(True)
    ordered = layer.found.cosines[np.ix_(order, order)].copy()
    np.fill_diagonal(ordered, np.nan)
    reach = max(0.05, float(np.nanmax(np.abs(ordered))))
    picture(axis, ordered, reach)
    axis.set_facecolor("#d9d9d9")
    heads = layer.found.head[order]
    step = -(-len(heads) // 16)
    axis.set_xticks(np.arange(0, len(heads), step), heads[::step], fontsize=7)
    axis.set_yticks(np.arange(0, len(heads), step), heads[::step], fontsize=7)
    axis.set(xlabel="head", ylabel="head")


def clusteredness_by_layer(layers: pd.DataFrame) -> Figure:
    """Clusteredness of each layer's heads beside that of Gaussian heads, a panel for each circuit.

    layers: of embeddings.heads.layer_table.
    """
    known = layers[layers["clusteredness"].notna()]
    groups = list(known.groupby("circuit", sort=False))
    figure, axes = subplots(1, max(len(groups), 1), width=4.8, height=3.2, squeeze=False)
    for axis, (circuit, rows) in zip(axes[0], groups, strict=True):
        kinds = list(rows.groupby(["stack", "component"], sort=False))
        for colour, ((stack, component), own) in zip(PALETTE, kinds, strict=False):
            name = " ".join(part for part in (stack, component) if part)
            axis.plot(own["layer"].astype(float), own["clusteredness"], "o-", color=colour, markersize=3.5, label=name)
            high = own["clusteredness_null_high"]
            axis.plot(own["layer"].astype(float), high, "--", color=colour, linewidth=0.9, label="Gaussian heads, 99 %")
        axis.set(title=f"{circuit}: clusteredness of the heads", xlabel="layer", ylabel="agglomerative coefficient")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)
    return figure


def head_weights(parts: list[tuple[str, np.ndarray, int]]) -> Figure:
    """The weights of chosen projections as they are cut into heads: a picture each, heads from top to bottom.

    parts: (title, matrix with the heads' rows one after the other, number of heads).
    """
    if not parts:
        return message("none of the chosen layers has projections with heads")
    figure, axes = subplots(
        1, len(parts), width=5.2, height=float(np.clip(0.28 * max(p[2] for p in parts), 3.6, 9)), squeeze=False
    )
    for axis, (title, matrix, heads) in zip(axes[0], parts, strict=True):
        picture(axis, matrix)
        size = len(matrix) // heads
        for edge in range(1, heads):
            axis.axhline(edge * size - 0.5, color="black", linewidth=0.5)
        step = -(-heads // 32)
        axis.set_yticks((np.arange(0, heads, step) + 0.5) * size - 0.5, range(0, heads, step), fontsize=7)
        axis.set(title=title, xlabel="input dimension", ylabel=f"head ({size} rows each)")
    figure.suptitle("Weights of each attention head")
    return figure
