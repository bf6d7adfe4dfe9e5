"""Figure of massive activations: their way through the layers, the attention on them, and the values there."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.ablation_axes import style_of
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots

# Markers of what happens to an activation at a site.
EVENTS = {"arises": "^", "grows": "P", "removed": "v"}
# Heads beside each other within a layer's width.
SPREAD = 0.5


def massive_activations(
    sites: pd.DataFrame, heads: pd.DataFrame | None, without_heads: str, *, most: int = 6
) -> Figure:
    """Size of each massive channel after every site, attention of each head on its positions, and the values there.

    sites: channel, layer, site, event, after, token. heads: layer, head, on, share, uniform, value_ratio, and the same
    without super weights; None where `without_heads` says why. most: channels that are drawn, the largest first.
    """
    if sites.empty and heads is None:
        return message(f"No massive activation was found; {without_heads}.")
    figure, (left, middle, right) = subplots(1, 3, width=4.4, height=3.9)
    _courses(left, sites, most)
    if heads is None:
        for axis in (middle, right):
            _nothing(axis, without_heads)
    else:
        _shares(middle, heads)
        _values(right, heads)
    return figure


def _nothing(axis: Axes, text: str) -> None:
    axis.axis("off")
    axis.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, wrap=True)


def _courses(axis: Axes, sites: pd.DataFrame, most: int) -> None:
    axis.set_title("massive activations after every site")
    if sites.empty:
        _nothing(axis, "no massive activation in this text")
        return
    channels = list(dict.fromkeys(sites.channel))[:most]
    for number, channel in enumerate(channels):
        own = sites[(sites.channel == channel) & (sites.site != "final norm")]
        colour, _ = style_of(number)
        places = _places(own)
        size = own.after.abs().to_numpy()
        label = f"channel {channel}, {repr(own.token.iloc[0])[1:-1]}"
        axis.plot(places, size, color=colour, lw=1.2, label=label.replace("$", r"\$"))
        for event, marker in EVENTS.items():
            chosen = (own.event == event).to_numpy()
            axis.scatter(places[chosen], size[chosen], color=colour, marker=marker, s=36, zorder=3)
    for event, marker in EVENTS.items():
        if (sites.event == event).any():
            axis.scatter([], [], color=MUTED, marker=marker, s=36, label=event)
    axis.set_yscale("log")
    axis.set(xlabel="layer (-1: embedding; attention, then MLP)", ylabel="|h| at its token")
    _finished(axis, 3)


def _places(own: pd.DataFrame) -> np.ndarray:
    """Where the sites of one channel stand: the last of a layer at its number, those before it evenly below."""
    counts = own.groupby("layer").site.transform("size")
    order = own.groupby("layer").cumcount()
    return (own.layer - 1 + (order + 1) / counts).to_numpy(float)


def _shares(axis: Axes, heads: pd.DataFrame) -> None:
    on = heads.on.iloc[0]
    axis.set_title(f"attention of each head on the {'first token' if on == 'first token' else 'massive activations'}")
    _dots(axis, heads, "share")
    uniform = heads.groupby("layer").uniform.mean()
    axis.plot(uniform.index, uniform, color=MUTED, ls=":", lw=1, label="uniform attention")
    axis.set(xlabel="layer", ylabel="share of later positions' attention", ylim=(-0.03, 1.05))
    _finished(axis, 3)


def _values(axis: Axes, heads: pd.DataFrame) -> None:
    axis.set_title("values there against others'")
    if heads.value_ratio.isna().all():
        _nothing(axis, "the model has no value matrix of its own")
        return
    _dots(axis, heads.drop_duplicates(["layer", "kv_head"]), "value_ratio")
    axis.axhline(1, color=MUTED, ls=":", lw=1)
    axis.set_yscale("log")
    axis.set(xlabel="layer", ylabel="length of the value vectors, ratio")
    _finished(axis, 3)


def _finished(axis: Axes, columns: int) -> None:
    """Whole layers below the panel, and its legend under them, where it covers nothing."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=7, ncols=columns)


def _dots(axis: Axes, heads: pd.DataFrame, column: str) -> None:
    """A dot for each head, as it is and without super weights, beside each other within their layer."""
    by_layer = heads.groupby("layer").layer
    place = (by_layer.cumcount() + 0.5) / by_layer.transform("size") - 0.5
    x = heads.layer + SPREAD * place
    axis.scatter(x, heads[column], color=NEUTRAL, s=14, label="as it is")
    if heads[f"{column}_without"].notna().any():
        axis.scatter(
            x, heads[f"{column}_without"], facecolors="none", edgecolors=ACCENT, s=22, label="super weights zeroed"
        )
