"""What pruning weights by magnitude keeps, by role, and what 2:4 masks keep, by layer."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from weight_atlas.figures.style import MUTED, ROLE_COLOURS, message, subplots

_NULL: dict[str, Any] = {"color": MUTED, "linestyle": "--", "linewidth": 1.2}


def pruning_and_masks(tensors: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Left the energy lost by pruning a share of the weights over that of a Gaussian, the median of each role with a
    colour; right 2:4 masks by layer.

    tensors: columns role, layer, cols, two_four_energy and its null. curve: of weights.sparsity.
    """
    tensors = tensors[tensors["two_four_energy"].notna() & tensors["role"].isin(list(ROLE_COLOURS))]
    curve = curve[curve["id"].isin(tensors["id"])]
    if curve.empty:
        return message("no weight matrices with elements that are not zero")
    figure, (left, right) = subplots(1, 2, width=4.8, height=3.6)
    for role, group in curve.groupby("role", sort=False):
        lost = (1 - group["energy_kept"]) / (1 - group["energy_kept_null"])
        lost = lost.groupby(group["pruned"]).median()
        left.plot(lost.index, lost, color=ROLE_COLOURS.get(role, MUTED), linewidth=1.4, marker="o", ms=3, label=role)
    left.axhline(1, label="Gaussian", **_NULL)
    left.set_ylim(bottom=0)
    left.set_xlabel("share of weights pruned, the smallest first")
    left.set_ylabel("sum of squares lost, relative to a Gaussian")
    left.set_title("Magnitude pruning")
    _masks(right, tensors)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _masks(axis: Axes, tensors: pd.DataFrame) -> None:
    layered = tensors[tensors["layer"].notna()]
    for role, group in layered.groupby("role", sort=False):
        line = group.groupby("layer")["two_four_energy"].mean()
        axis.plot(line.index.astype(int), line, color=ROLE_COLOURS.get(role, MUTED), linewidth=1.4, marker="o", ms=3)
    axis.axhline(tensors["two_four_energy_null"].iloc[0], **_NULL)
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axis.set_xlabel("layer")
    axis.set_ylabel("share of the sum of squares kept")
    axis.set_title("Best 2:4 mask")
