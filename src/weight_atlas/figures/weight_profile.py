"""Rows and columns of weight matrices: variances by layer, norms, and heat maps of single matrices."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import DIVERGING, MUTED, ROLE_COLOURS, SEQUENTIAL, message, subplots

_FEW_LAYERS = 40  # up to here every layer has a tick


def variances_by_layer(variances: dict[tuple[str, int], np.ndarray]) -> Figure:
    """Variance per output row, a box and a violin plot by layer for each role; variances: (role, layer) -> values."""
    known = {key: values[values > 0] for key, values in variances.items() if (values > 0).sum() > 1}
    if not known:
        return message("no weight matrices in layers")
    roles = list(dict.fromkeys(role for role, _ in known))
    figure, axes = subplots(len(roles), 2, width=5.2, height=2.1, squeeze=False)
    for (box, violin), role in zip(axes, roles, strict=True):
        layers = sorted(layer for name, layer in known if name == role)
        values = [np.log10(known[role, layer]) for layer in layers]
        colour = ROLE_COLOURS.get(role.rpartition(" ")[2], MUTED)
        style = {"color": colour, "linewidth": 1}
        box.boxplot(
            values,
            positions=layers,
            widths=0.6,
            manage_ticks=False,
            boxprops=style,
            whiskerprops=style,
            capprops=style,
            medianprops={"color": "black"},
            flierprops={"marker": ".", "markersize": 2, "markeredgecolor": colour},
        )
        parts = violin.violinplot(values, positions=layers, widths=0.85, showextrema=False, showmedians=True)
        for body in parts["bodies"]:
            body.set(facecolor=colour, alpha=0.5)
        parts["cmedians"].set(color="black", linewidth=1)
        for axis in (box, violin):
            axis.set_ylabel("log10 variance")
            axis.set_title(f"{role}")
            axis.set_xlim(layers[0] - 0.7, layers[-1] + 0.7)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(_FEW_LAYERS, 12)))
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    figure.suptitle("Variance of the weights of each output row, by layer")
    return figure


def norms_by_layer(table: pd.DataFrame) -> Figure:
    """Least, median and largest norm of rows and columns over the layers, a panel a role; table: of channel_table."""
    inside = table[table["layer"].notna() & table["role"].isin(list(ROLE_COLOURS)) & (table["row_norm_max"] > 0)]
    if inside.empty:
        return message("no weight matrices in layers")
    roles = list(inside["role"].unique())
    columns = min(4, len(roles))
    figure, axes = subplots(-(-len(roles) // columns), columns, width=3.4, height=2.5, squeeze=False)
    for axis, role in zip(axes.flat, roles, strict=False):
        groups = inside[inside["role"] == role].groupby("layer")
        for name, label, colour in (
            ("row", "rows (outputs)", ROLE_COLOURS["W_Q"]),
            ("col", "columns (inputs)", ROLE_COLOURS["W_O"]),
        ):
            low, middle, high = (
                groups[f"{name}_norm_{which}"].agg(how)
                for which, how in (("min", "min"), ("median", "median"), ("max", "max"))
            )
            layers = middle.index.astype(int)
            axis.fill_between(layers, low.where(low > 0), high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(layers, middle, color=colour, linewidth=1.4, marker="o", markersize=3, label=label)
        axis.set_yscale("log")
        axis.set_title(role)
        axis.set_xlabel("layer")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    for axis in axes.flat[len(roles) :]:
        axis.set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle("Norms of rows and columns: median, and range from the least to the largest")
    return figure


def heat_maps(maps: list[dict[str, Any]]) -> Figure:
    """Heat maps of chosen matrices: mean and largest magnitude of each cell.

    maps: dicts of title, rows, cols, height, width (of a cell), mean and absmax (cells), all in the logical
    orientation: outputs downwards, inputs to the right.
    """
    maps = [each for each in maps if each["mean"].size]
    if not maps:
        return message("the model has none of the chosen matrices")
    figure, axes = subplots(len(maps), 2, width=4.8, height=4.0, squeeze=False)
    for (left, right), each in zip(axes, maps, strict=True):
        size = f"{each['height']} x {each['width']}"
        cell = "each element" if size == "1 x 1" else f"cells of {size}"
        reach = float(np.nanquantile(np.abs(each["mean"]), 0.995)) or 1.0
        _image(figure, left, each["mean"], each, f"{each['title']}: mean of {cell}", DIVERGING, (-reach, reach))
        high = float(np.nanquantile(each["absmax"], 0.995)) or 1.0
        _image(figure, right, each["absmax"], each, f"largest magnitude, {cell}", SEQUENTIAL, (0, high))
    return figure


def windows(maps: list[dict[str, Any]]) -> Figure:
    """Windows of matrices, element by element. maps: dicts of title, first_row, first_col, values (rows, columns)."""
    if not maps:
        return message("no windows are configured (weight_profile.windows)")
    figure, axes = subplots(len(maps), 1, width=7.0, height=4.4, squeeze=False)
    for axis, each in zip(axes[:, 0], maps, strict=True):
        rows, cols = each["values"].shape
        known = np.abs(each["values"][np.isfinite(each["values"])])
        reach = (float(np.quantile(known, 0.995)) if len(known) else 0.0) or 1.0
        place = {"rows": rows, "cols": cols, "first_row": each["first_row"], "first_col": each["first_col"]}
        _image(figure, axis, each["values"], place, each["title"], DIVERGING, (-reach, reach))
    return figure


def _image(figure: Figure, axis: Any, values: np.ndarray, place: dict, title: str, colours: str, limits: tuple) -> None:
    top, left = place.get("first_row", 0), place.get("first_col", 0)
    extent = (left - 0.5, left + place["cols"] - 0.5, top + place["rows"] - 0.5, top - 0.5)
    shown = axis.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto", extent=extent)
    figure.colorbar(shown, ax=axis, extend="max" if limits[0] == 0 else "both", pad=0.02)
    axis.grid(visible=False)
    axis.set_title(title.replace("$", r"\$"), fontsize=9)
    axis.set_xlabel("input (column)")
    axis.set_ylabel("output (row)")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
