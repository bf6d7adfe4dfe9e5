"""Principal components of projections: by layer, and close looks at chosen ones."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, ROLE_COLOURS, message, subplots

MEASURES = [
    ("first", "share of the first component"),
    ("n90", "components for 90 % of the variance"),
    ("spread", "spread in the plane of the first two"),
]


def components_by_layer(table: pd.DataFrame) -> Figure:
    """Three measures by layer, a row of panels for each role: the whole projection, its heads, and Gaussian samples.

    table: of embeddings.projections.component_table.
    """
    known = table[(table["status"] == "ok") & table["layer"].notna()]
    if known.empty:
        return message("no layers with projections of these roles")
    groups = list(known.groupby(["stack", "component", "role"], sort=False))
    several = known["stack"].nunique() > 1
    figure, axes = subplots(len(groups), len(MEASURES), width=4.4, height=2.3, squeeze=False)
    for row, ((stack, component, role), rows) in zip(axes, groups, strict=True):
        for axis, (measure, title) in zip(row, MEASURES, strict=True):
            _by_layer(axis, rows, measure, ROLE_COLOURS.get(str(role), NEUTRAL))
            axis.set_title(f"{stack + ' ' if several else ''}{component} {role}: {title}".lstrip(), fontsize=9)
    axes[0, 0].legend(fontsize=7)
    figure.suptitle("Principal components of projections by layer")
    return figure


def _by_layer(axis: Axes, rows: pd.DataFrame, measure: str, colour: str) -> None:
    whole, heads = rows[rows["head"].isna()], rows[rows["head"].notna()]
    if len(heads) and measure != "n90":  # of as many components as a head has rows
        axis.scatter(
            heads["layer"].astype(float),
            heads[measure].astype(float),
            s=7,
            color=MUTED,
            alpha=0.6,
            linewidths=0,
            label="a head",
        )
    means = whole.groupby("layer")[[measure, f"{measure}_null"]].mean()
    layers = means.index.to_numpy(dtype=float)
    axis.plot(layers, means[measure].to_numpy(dtype=float), "o-", color=colour, markersize=3, label="whole projection")
    axis.plot(
        layers,
        means[f"{measure}_null"].to_numpy(dtype=float),
        "--",
        color=colour,
        linewidth=0.9,
        alpha=0.7,
        label="Gaussian samples",
    )
    axis.set_xlabel("layer")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(bottom=0)


def component_views(made: list[Any], said: str) -> Figure:
    """Two panels for each chosen projection: cumulative variance beside its null, and the first two components.

    made: of embeddings.projections.views; said: what are samples, and how they were scaled.
    """
    if not made:
        return message("none of the chosen projections is there")
    columns = 1 if len(made) == 1 else 2
    rows = -(-len(made) // columns)
    figure, axes = subplots(rows, 2 * columns, width=3.9, height=3.2, squeeze=False)
    for place, view in enumerate(made):
        row, column = divmod(place, columns)
        _cumulative(axes[row, 2 * column], view)
        _plane(axes[row, 2 * column + 1], view)
    for axis in axes.flat[2 * len(made) :]:
        axis.set_visible(False)
    figure.suptitle(f"Principal components of chosen projections ({said})")
    return figure


def _name(view: Any) -> str:
    layer = "" if pd.isna(view.place["layer"]) else f" of layer {view.place['layer']}"
    expert = "" if pd.isna(view.place["expert"]) else f", expert {view.place['expert']}"
    return f"{view.place['role']}{layer}{expert}"


def _cumulative(axis: Axes, view: Any) -> None:
    for ratios, colour, style, label in (
        (view.components.ratios, NEUTRAL, "-", "this"),
        (view.null, MUTED, "--", "Gaussian samples"),
    ):
        axis.plot(np.arange(1, len(ratios) + 1), np.cumsum(ratios), color=colour, linestyle=style, label=label)
    axis.set(
        title=f"{_name(view)}: cumulative variance", xlabel="component", ylabel="share of the variance", ylim=(0, 1.03)
    )
    axis.title.set_fontsize(9)
    axis.legend(loc="lower right")


def _plane(axis: Axes, view: Any) -> None:
    scores, shares = view.components.scores, view.components.ratios
    heads = view.head
    if (heads >= 0).any():
        points = axis.scatter(scores[:, 0], scores[:, 1], s=7, c=heads, cmap="turbo", alpha=0.7, linewidths=0)
        bar = axis.figure.colorbar(points, ax=axis, fraction=0.05, pad=0.02)
        bar.set_label("head", fontsize=8)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        bar.outline.set_visible(False)
    else:
        axis.scatter(scores[:, 0], scores[:, 1], s=7, color=NEUTRAL, alpha=0.5, linewidths=0)
    axis.plot(0, 0, "+", color=ACCENT, markersize=8)
    second = shares[1] if len(shares) > 1 else 0.0
    axis.set(
        title="first two components", xlabel=f"first ({shares[0]:.1%} of the variance)", ylabel=f"second ({second:.1%})"
    )
    axis.title.set_fontsize(9)
