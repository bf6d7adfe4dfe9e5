"""Learned positions: the matrix, single dimensions, neighbours along the sequence, Gram matrix, periodogram."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.images import picture
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, subplots

# Dimensions of one kind that are drawn in full colour; the others stand behind them.
KINDS = {
    "highest variance": PALETTE[3],
    "median variance": PALETTE[0],
    "lowest variance": "black",
    "chosen": PALETTE[1],
}


def position_panels(learned: Any, gram: np.ndarray, power: np.ndarray) -> Figure:
    """Six panels of learned positions.

    learned: of embeddings.geometry; gram: (p, p) cosines; power: share of the variance by frequency.
    """
    values, dimensions = learned.values, learned.dimensions
    figure, axes = subplots(2, 3, width=5.2, height=3.8)
    picture(axes[0, 0], values)
    axes[0, 0].set(title="position embeddings", xlabel="dimension", ylabel="position")
    _dimensions(axes[0, 1], values, dimensions)
    _neighbours(axes[0, 2], learned.table, learned.smoothness)
    picture(axes[1, 0], gram, 1.0)
    axes[1, 0].set(title="cosine of positions with each other", xlabel="position", ylabel="position")
    _periodogram(axes[1, 1], power, len(values))
    _variances(axes[1, 2], dimensions)
    figure.suptitle(f"Learned positions: {len(values):,} of width {values.shape[1]:,}")
    return figure


def _dimensions(axis: Axes, values: np.ndarray, dimensions: pd.DataFrame) -> None:
    shown = dimensions[dimensions["shown"] != ""]
    for kind, colour in KINDS.items():
        rows = shown[shown["shown"] == kind]
        for place, row in enumerate(rows.itertuples()):
            label = f"{kind}: {', '.join(map(str, rows['dimension']))}" if place == 0 else None
            axis.plot(values[:, row.dimension], color=colour, linewidth=0.8, alpha=0.8, label=label)
    axis.set(title="single dimensions along the sequence", xlabel="position", ylabel="value")
    axis.margins(x=0)
    # Single positions, often the first, can lie far outside of all others.
    drawn = values[:, shown["dimension"].to_numpy()] if len(shown) else values
    low, high = (float(np.quantile(drawn, share)) for share in (0.005, 0.995))
    room = 0.2 * (high - low) or 1.0
    axis.set_ylim(low - room, high + 2.5 * room)
    if outside := int(((drawn < low - room) | (drawn > high + 2.5 * room)).sum()):
        axis.text(
            0.99,
            0.01,
            f"{outside} value{'s' if outside > 1 else ''} outside",
            transform=axis.transAxes,
            ha="right",
            fontsize=7,
            color=MUTED,
        )
    axis.legend(fontsize=7, loc="upper left", ncols=1)


def _neighbours(axis: Axes, positions: pd.DataFrame, smooth: float) -> None:
    deviation = positions["correlation_null_sd"].iloc[0]
    axis.axhspan(-3 * deviation, 3 * deviation, color=MUTED, alpha=0.25, linewidth=0, label="independent rows, 3 sd")
    axis.plot(positions["position"], positions["correlation"], color=NEUTRAL, linewidth=0.8, label="with the next one")
    axis.set(title=f"correlation of neighbours (smoothness {smooth:.3f})", xlabel="position", ylabel="correlation")
    axis.margins(x=0)
    axis.set_ylim(min(-0.1, np.nanmin(positions["correlation"].to_numpy(), initial=0) - 0.05), 1.05)
    axis.legend(loc="lower right")


def _periodogram(axis: Axes, power: np.ndarray, count: int) -> None:
    frequencies = np.arange(1, len(power) + 1)
    axis.loglog(frequencies, np.where(power > 0, power, np.nan), color=NEUTRAL, linewidth=0.9, label="all dimensions")
    axis.axhline(1 / max(len(power), 1), color=MUTED, linestyle="--", linewidth=1, label="white noise")
    axis.set(title="periodogram", xlabel=f"cycles over {count:,} positions", ylabel="share of the variance")
    axis.legend(loc="upper right")


def _variances(axis: Axes, dimensions: pd.DataFrame) -> None:
    ranked = dimensions.sort_values("variance", ascending=False, kind="stable").reset_index(drop=True)
    place = np.arange(1, len(ranked) + 1)
    axis.scatter(place, ranked["variance"], s=6, color=MUTED, linewidths=0, label="dimension")
    periodic = ranked["periodic"].to_numpy(dtype=bool)
    if periodic.any():
        axis.scatter(
            place[periodic],
            ranked["variance"][periodic],
            s=9,
            color=ACCENT,
            linewidths=0,
            label=f"periodic ({periodic.sum()})",
        )
    positive = ranked["variance"] > 0
    if positive.any():
        axis.set_yscale("log")
    axis.set(title="variance of the dimensions", xlabel="rank of the dimension", ylabel="variance")
    axis.legend(loc="upper right")
