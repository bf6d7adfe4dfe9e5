"""Figures of cascades: how the removal of a weight shows at the layers above it."""

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, DIVERGING, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots
from weight_atlas.figures.vocabulary import printable

POSITIONS = {"all": ("all positions", "#22262e"), "first": ("first position", ACCENT), "others": ("others", NEUTRAL)}
NOTHING = "Nothing to follow: no weight was detected, and none is configured."


def cascade_by_layer(cascade: pd.DataFrame, title: str) -> Figure:
    """One target: change of entropy and margin, KL, cosine and norm of the residual stream, from its layer on.

    cascade: layer, position (all, first, others), delta_entropy, delta_margin, kl, residual_cosine, residual_norm,
    residual_norm_edited.
    """
    if cascade.empty:
        return message(NOTHING)
    figure, axes = subplots(1, 5, width=3.0, height=3.0)
    panels = {
        "delta_entropy": "change of entropy (nats)",
        "delta_margin": "change of top-k margin",
        "kl": "KL(before ‖ after) (nats)",
        "residual_cosine": "cosine of residual streams",
    }
    for axis, (column, name) in zip(axes, panels.items(), strict=False):
        for position, (label, colour) in POSITIONS.items():
            own = cascade[cascade.position == position].sort_values("layer")
            axis.plot(own.layer, own[column], color=colour, marker="o", ms=3, lw=1.4, label=label)
        axis.set(title=name)
    axes[0].axhline(0, color="#22262e", lw=0.6)
    axes[1].axhline(0, color="#22262e", lw=0.6)
    axes[2].set_yscale("symlog", linthresh=1e-3)
    for position in ("first", "others"):
        own = cascade[cascade.position == position].sort_values("layer")
        colour = POSITIONS[position][1]
        axes[4].plot(own.layer, own.residual_norm, color=colour, lw=1.4, marker="o", ms=3)
        axes[4].plot(own.layer, own.residual_norm_edited, color=colour, lw=1.4, ls="--", marker="o", ms=3, mfc="white")
    axes[4].set(yscale="log", title="norm (dashed: after)")
    for axis in axes:
        axis.set_xlabel("layer")
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{title}: what its removal does to the layers above, through the logit lens")
    return figure


def cascades(cascade: pd.DataFrame, names: list[str], most: int = 12) -> Figure:
    """All targets: KL of the lens by layer over all positions. names: of targets, by number. most: lines."""
    if cascade.empty:
        return message(NOTHING)
    figure, axis = subplots(width=6, height=3.6)
    every = cascade[cascade.position == "all"]
    for number in sorted(every.target.unique())[:most]:
        own = every[every.target == number].sort_values("layer")
        axis.plot(own.layer, own.kl, marker="o", ms=3.5, lw=1.4, color=PALETTE[number % len(PALETTE)],
                  ls="-" if number < len(PALETTE) else "--", label=names[number])  # fmt: skip
    axis.set_yscale("symlog", linthresh=1e-3)
    axis.set(xlabel="layer", ylabel="KL(before ‖ after), nats", title="How the removal of a weight travels upwards")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def cascade_of_tokens(cascade: pd.DataFrame, title: str) -> Figure:
    """One target and one text: KL and change of entropy at every layer and token.

    cascade: layer, index, token, kl, delta_entropy.
    """
    if cascade.empty:
        return message(NOTHING)
    tokens = cascade.drop_duplicates("index").sort_values("index").token
    layers = np.sort(cascade.layer.unique())
    width = max(7.0, 1.5 + 0.24 * len(tokens))
    figure, axes = subplots(2, 1, width=width, height=1.1 + 0.26 * len(layers), sharex=True, squeeze=False)
    for axis, column, name in (
        (axes[0, 0], "kl", "KL(before ‖ after), nats"),
        (axes[1, 0], "delta_entropy", "change of entropy, nats"),
    ):
        values = cascade.pivot(index="layer", columns="index", values=column).to_numpy(float)
        largest = max(float(np.abs(values).max()), 1e-6)
        style = (
            {"cmap": SEQUENTIAL, "vmin": 0, "vmax": largest}
            if column == "kl"
            else {"cmap": DIVERGING, "norm": TwoSlopeNorm(0, -largest, largest)}
        )
        shown = axis.imshow(values, aspect="auto", origin="lower", interpolation="nearest", **style)
        axis.set_yticks(_some(len(layers)), layers[_some(len(layers))])
        axis.set(ylabel="layer", title=name)
        axis.grid(visible=False)
        figure.colorbar(shown, ax=axis, pad=0.01)
    axes[1, 0].set_xticks(range(len(tokens)), [printable(token, 12) for token in tokens], rotation=90, fontsize=7)
    figure.suptitle(title)
    return figure


def _some(count: int, most: int = 12) -> np.ndarray:
    return np.arange(0, count, -(-count // most))
