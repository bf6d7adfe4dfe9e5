"""Figures of what quantization costs the weights: by layer and role, by scheme, and by outlier channel."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.ablation_axes import beside
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots
from weight_atlas.figures.weights import layer_axes, role_lines

_LEAST_SPAN = 3.0  # dB: less is no difference worth a look
_MOST_ROWS = 24  # matrices in the figure of outlier channels


def sqnr_by_layer(layers: pd.DataFrame, drawn: Sequence[str]) -> Figure:
    """Signal to quantization noise over the layers, a panel per scheme and a line per role, over the Gaussian band.

    layers: of readiness.by_layer. drawn: the schemes.
    """
    panels = [(name, layers[layers["scheme"] == name]) for name in drawn if (layers["scheme"] == name).any()]
    if not panels:
        return message("no weight matrices in layers")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = subplots(rows, columns, width=4.6, height=2.9, squeeze=False)
    for axis, (name, table) in zip(axes.flat, panels, strict=False):
        _layer_panel(axis, table)
        axis.set_title(spoken(name))
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    layer_axes(axes.flat[: len(panels)])
    for axis in axes[:, 0]:
        axis.set_ylabel("SQNR (dB)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle("Signal to quantization noise by layer and role", x=0.01, ha="left")
    return figure


def _layer_panel(axis: Axes, table: pd.DataFrame) -> None:
    for name, style, line in role_lines(table):
        finite = line["sqnr_db"].where(np.isfinite(line["sqnr_db"]))
        axis.plot(line["layer"].astype(int), finite, label=name, **style)
    null = table.dropna(subset="sqnr_db_null").groupby("layer")["sqnr_db_null"].agg(["min", "max"])
    if len(null):
        # A band of one height would not be seen.
        low, high = null["min"] - 0.15, null["max"] + 0.15
        layers = null.index.astype(int).to_numpy()
        if len(layers) == 1:
            layers, low, high = np.array([layers[0] - 0.4, layers[0] + 0.4]), np.repeat(low, 2), np.repeat(high, 2)
        axis.fill_between(layers, low, high, color=MUTED, alpha=0.45, lw=0, label="Gaussian", zorder=0)
    low, high = axis.get_ylim()
    if high - low < _LEAST_SPAN:
        axis.set_ylim((low + high - _LEAST_SPAN) / 2, (low + high + _LEAST_SPAN) / 2)
    axis.yaxis.set_major_locator(MaxNLocator(6))


def spoken(scheme: str) -> str:
    """A scheme's name for a title: "int4, group of 128, clipped"."""
    format_, granularity, *words = scheme.split("/")
    shared = granularity.replace("group:", "group of ")
    shown = format_.upper().replace("_", " ")
    return ", ".join([shown, f"per {shared}" if "group" not in shared else shared, *words])


def schemes_by_bits(schemes: pd.DataFrame) -> Figure:
    """Signal to noise that every scheme loses against Gaussian matrices: the median over the matrices, and the worst.

    schemes: of readiness.by_scheme.
    """
    table = schemes[(schemes["role"] == "all") & schemes["loss_db_median"].notna()]
    if table.empty:
        return message("no weight matrices to quantize")
    table = table.sort_values(["bits", "sqnr_db_median"], kind="stable", ignore_index=True)
    figure, axis = subplots(width=7.6, height=1.2 + 0.26 * len(table))
    places = np.arange(len(table))
    median, worst = (table[name].where(np.isfinite(table[name])) for name in ("loss_db_median", "worst_loss_db"))
    axis.axvline(0, color=MUTED, lw=1, ls="--", label="Gaussian")
    axis.hlines(places, median, worst, color=MUTED, lw=1.2, alpha=0.6, zorder=1)
    axis.scatter(worst, places, s=34, color=ACCENT, label="worst matrix", zorder=2)
    axis.scatter(median, places, s=34, color=NEUTRAL, label="median matrix", zorder=3)
    axis.set_yticks(places, [f"{spoken(name)}  ({bits:.3g} bits)" for name, bits in table[["scheme", "bits"]].values])
    axis.set_ylim(-0.7, len(table) - 0.3)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("loss against a Gaussian matrix (dB)")
    figure.suptitle("What quantization schemes cost (beside: median SQNR, matrices that are ready)", x=0.01, ha="left")
    for place, row in enumerate(table.itertuples()):
        sqnr = f"{row.sqnr_db_median:.1f} dB" if np.isfinite(row.sqnr_db_median) else "exact"
        beside(axis, place, f"{sqnr}, {row.ready}/{row.tensors}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def loss_by_channels(channels: pd.DataFrame) -> Figure:
    """The matrices that gain most where their worst input channels stay in 16 bits, a panel per scheme.

    channels: of quantization_sensitivity.
    """
    table = channels[np.isfinite(channels["gain_db"].astype(float))]
    if table.empty:
        return message("no input channels were kept in 16 bits")
    panels = list(table.groupby("scheme", sort=False))
    chosen = [_most(part) for _, part in panels]
    height = 1.3 + 0.22 * max(part["id"].nunique() for part in chosen)
    figure, axes = subplots(1, len(panels), width=6.4, height=height, squeeze=False)
    for axis, (scheme, _), part in zip(axes.flat, panels, chosen, strict=True):
        _channel_panel(axis, part)
        axis.set_title(spoken(str(scheme)))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle("What outlier channels cost: SQNR as it is and with the worst input channels in 16 bits")
    return figure


def _most(part: pd.DataFrame) -> pd.DataFrame:
    """The matrices with the largest gain beyond that of a Gaussian, the largest first."""
    beyond = (part["gain_db"] - part["gain_db_null"]).groupby(part["id"]).max()
    order = beyond.sort_values(ascending=False, kind="stable").index[:_MOST_ROWS]
    return part[part["id"].isin(order)].assign(place=lambda rows: rows["id"].map({n: i for i, n in enumerate(order)}))


def _channel_panel(axis: Axes, part: pd.DataFrame) -> None:
    last = part["place"].max()
    first = part.drop_duplicates("id")
    axis.scatter(first["sqnr_db"], last - first["place"], s=26, color=ACCENT, label="all rounded", zorder=3)
    for shade, (number, kept) in zip((0.45, 1.0, 0.7, 0.3), part.groupby("kept"), strict=False):
        axis.scatter(
            kept["sqnr_db_kept"], last - kept["place"], s=26, color=NEUTRAL, alpha=shade, zorder=2,
            label=f"{number} kept",
        )  # fmt: skip
    ends = part.groupby("place").agg(low=("sqnr_db", "min"), high=("sqnr_db_kept", "max"))
    axis.hlines(last - ends.index, ends["low"], ends["high"], color=MUTED, lw=1, alpha=0.6, zorder=1)
    names = first.sort_values("place", ascending=False)
    axis.set_yticks(last - names["place"], [_short(name) for name in names["id"]], fontsize=7)
    axis.set_ylim(-0.7, last + 0.7)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("SQNR (dB)")


def _short(name: str, most: int = 44) -> str:
    """The end of a tensor's name, without what matplotlib would set as a formula."""
    name = name.removesuffix(".weight")
    return (name if len(name) <= most else f"...{name[3 - most :]}").replace("$", r"\$")
