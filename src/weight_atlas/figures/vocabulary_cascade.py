"""Figures of cascades: effect of the removal of a weight at the layers above it."""

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, DIVERGING, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots
from weight_atlas.figures.vocabulary import printable

# A broad band under the other lines, since it nearly coincides with one where few first positions are scored.
POSITIONS = {
    "all": ("all scored positions", {"color": "#c3c8d0", "lw": 6, "zorder": 1, "solid_capstyle": "round"}),
    "first": ("first position of each window", {"color": ACCENT, "lw": 1.4, "marker": "o", "ms": 3}),
    "others": ("other scored positions", {"color": NEUTRAL, "lw": 1.4, "marker": "o", "ms": 3}),
}
AFTER = {"ls": (0, (2, 1.2)), "mfc": "white"}
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
    for position, (label, style) in POSITIONS.items():
        own = cascade[cascade.position == position].sort_values("layer")
        for axis, (column, name) in zip(axes, panels.items(), strict=False):
            axis.plot(own.layer, own[column], label=label, **style)
            axis.set(title=name)
        axes[4].plot(own.layer, own.residual_norm, **style)
        axes[4].plot(own.layer, own.residual_norm_edited, **{**style, **AFTER, "lw": min(style["lw"], 3)})
    axes[0].axhline(0, color="#22262e", lw=0.6)
    axes[1].axhline(0, color="#22262e", lw=0.6)
    _logarithmic(axes[2], cascade.kl)
    axes[4].set(yscale="log", title="norm (dashed: after)")
    for axis in axes:
        axis.set_xlabel("layer")
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{title}\nwhat the layers from there on make of it, through the logit lens")
    return figure


def _logarithmic(axis, kl: pd.Series) -> None:
    """A logarithmic y axis, linear below the smallest divergence where some are zero."""
    positive = kl[kl > 0]
    if len(positive) == len(kl):
        axis.set_yscale("log")
    elif len(positive):
        axis.set_yscale("symlog", linthresh=max(positive.min(), 1e-9 * positive.max()))


def cascades(cascade: pd.DataFrame, names: list[str], title: str = "", most: int = 12) -> Figure:
    """All targets: KL of the lens by layer over all scored positions. names: of targets, by number. most: lines."""
    if cascade.empty:
        return message(NOTHING)
    figure, axis = subplots(width=7, height=3.9)
    every = cascade[cascade.position == "all"]
    for number in sorted(every.target.unique())[:most]:
        own = every[every.target == number].sort_values("layer")
        axis.plot(own.layer, own.kl, marker="o", ms=3.5, lw=1.4, color=PALETTE[number % len(PALETTE)],
                  ls="-" if number < len(PALETTE) else "--", label=names[number])  # fmt: skip
    shown = every[every.target.isin(sorted(every.target.unique())[:most])]
    _logarithmic(axis, shown.kl)
    more = f" (first {most} of {every.target.nunique()})" if every.target.nunique() > most else ""
    axis.set(xlabel="layer", ylabel="KL(before ‖ after), nats")
    figure.suptitle(f"{title}\nhow changes of single weights travel upwards{more}".strip())
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
    figure.suptitle(f"{title}: the change at every layer and token of a text")
    return figure


def _some(count: int, most: int = 12) -> np.ndarray:
    return np.arange(0, count, -(-count // most))
