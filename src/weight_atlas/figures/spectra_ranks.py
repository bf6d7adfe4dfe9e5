"""Effective rank by layer and role."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, ROLE_COLOURS, message, subplots


def rank_by_layer(ranks: pd.DataFrame) -> Figure:
    """One panel per role, each on its own axis, and one for the matrices outside layers; dashed: Gaussian matrices.

    ranks: a table of effective_ranks. Several matrices of a role in one layer (experts) give their mean and range.
    """
    known = ranks[ranks["erank"].notna()]
    inside, outside = known[known["layer"].notna()], known[known["layer"].isna()]
    panels = _panels(inside)
    if known.empty:
        return message("no matrix with a spectrum")
    count = len(panels) + bool(len(outside))
    columns = min(4, count)
    rows = -(-count // columns)
    figure, axes = subplots(rows, columns, width=3.6 if count > 1 else 5.5, height=2.7, squeeze=False)
    several = inside["stack"].nunique() > 1
    for axis, ((stack, role), group) in zip(axes.flat, panels, strict=False):
        _role_panel(axis, f"{stack} {role}" if several else role, role, group)
    if len(outside):
        _outside_panel(axes.flat[len(panels)], outside)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    figure.suptitle("Effective rank by layer")
    return figure


def _panels(inside: pd.DataFrame) -> list:
    order, stacks = [*ROLE_COLOURS, *inside["role"].unique()], list(inside["stack"].unique())
    groups = list(inside.groupby(["stack", "role"], sort=False))
    return sorted(groups, key=lambda group: (stacks.index(group[0][0]), order.index(group[0][1])))


def _role_panel(axis: Axes, name: str, role: str, group: pd.DataFrame) -> None:
    by_layer = group.groupby("layer")["erank"]
    mean, low, high = by_layer.mean(), by_layer.min(), by_layer.max()
    layers = mean.index.to_numpy(dtype=int)
    colour = ROLE_COLOURS.get(role, NEUTRAL)
    axis.plot(layers, mean, color=colour, marker="o" if len(layers) <= 48 else None, markersize=3, linewidth=1.4)
    if by_layer.size().max() > 1:
        axis.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
    values, null = group["erank"], float((group["erank_null"] * group["r"]).mean())
    span = max(high.max() - low.min(), 0.02 * high.max())
    if low.min() - span <= null <= high.max() + span:
        axis.axhline(null, color=MUTED, linestyle="--", linewidth=1)
    axis.set_ylim(*_limits(axis, span))
    shapes = (group["rows"].astype(str) + "x" + group["cols"].astype(str)).unique()
    shape = shapes[0] if len(shapes) == 1 else f"{len(shapes)} shapes"
    axis.set_title(f"{name}  {shape}\n", fontsize=9)
    axis.text(
        *(0.5, 1.02),
        f"mean {values.mean():.1f}, sd {values.std(ddof=0):.1f}, Gaussian {null:.1f}",
        transform=axis.transAxes,
        ha="center",
        va="bottom",
        fontsize=7.5,
        color=MUTED,
    )
    axis.set_xlabel("layer")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _limits(axis: Axes, span: float) -> tuple[float, float]:
    low, high = axis.get_ylim()
    middle, half = (low + high) / 2, max(high - low, 1.2 * span) / 2
    return middle - half, middle + half


def _outside_panel(axis: Axes, outside: pd.DataFrame) -> None:
    places = np.arange(len(outside))
    colours = [ROLE_COLOURS.get(role, NEUTRAL) for role in outside["role"]]
    axis.barh(places, outside["erank_share"], height=0.35, color=colours)
    axis.scatter(outside["erank_null"], places, marker="|", s=70, color=ACCENT, zorder=3)
    for place, row in zip(places, outside.itertuples(), strict=True):
        axis.text(0.01, place - 0.25, f"{row.role}  {row.rows}x{row.cols}: {row.erank:.1f}", va="bottom", fontsize=8)
    axis.set_ylim(len(outside) - 0.4, -0.8)
    axis.set_yticks([])
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("effective rank / min(rows, columns)")
    axis.set_title("outside layers\n", fontsize=9)
    axis.text(0.5, 1.02, "red: Gaussian", transform=axis.transAxes, ha="center", fontsize=7.5, color=MUTED)
