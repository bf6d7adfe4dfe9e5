"""Distributions of weights: cumulative, as densities, and their statistics over the layers."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, SymmetricalLogLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, ROLE_COLOURS, SEQUENTIAL, message, subplots

# A linear axis hides the body of a distribution whose ends are further out than this many times its 5-95 % range.
_LINEAR_REACH = 8
# Tensors without a role that are drawn, each by itself.
_MOST_OTHERS = 12
# At this scale the linear part of a symmetric logarithmic axis joins the logarithmic one without a kink.
_SMOOTH = 0.9 / np.log(10)
_DEPTH = LinearSegmentedColormap.from_list("depth", colormaps[SEQUENTIAL](np.linspace(0.25, 0.95, 64)))
_WHOLE = {"color": ACCENT, "linewidth": 1.2, "linestyle": (0, (4, 1.5))}
_MARKED: dict[float, tuple[str, Literal["-", "--"]]] = {0.5: ("median", "-"), 0.95: ("p95", "--")}
_STATISTICS = {"mean": "Mean", "std": "Standard deviation", "min": "Minimum", "max": "Maximum"}


def cdf_by_role(cdf: pd.DataFrame) -> Figure:
    """Full range and p5-p95 of the CDF of each role: a line per layer, coloured by depth, and the role as a whole.

    cdf: of weight_cdf.
    """
    if cdf.empty:
        return message("no weight matrices")
    roles, left_out = _panels(cdf)
    columns = 1 if len(roles) == 1 else 2
    rows = -(-len(roles) // columns)
    figure, axes = subplots(rows, 2 * columns, width=3.5, height=2.3, squeeze=False)
    last = cdf["layer"].max()
    layered = not pd.isna(last)
    depth = Normalize(0, max(int(last), 1) if layered else 1)
    for index, (name, group) in enumerate(roles):
        row, column = divmod(index, columns)
        full, zoom = axes[row, 2 * column], axes[row, 2 * column + 1]
        _role_cdf(full, zoom, group, depth, name)
    for axis in axes.flat[2 * len(roles) :]:
        axis.set_visible(False)
    if layered:
        scale = ScalarMappable(depth, _DEPTH)
        bar = figure.colorbar(scale, ax=axes, shrink=min(1.0, 3 / rows), aspect=30, pad=0.01)
        bar.set_label("layer")
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], label="all layers", **_WHOLE)]
    handles += [Line2D([], [], color=MUTED, linestyle=style, label=name) for name, style in _MARKED.values()]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    figure.suptitle(f"Cumulative distribution of weights by role{left_out}", x=0.01, ha="left")
    return figure


def _panels(table: pd.DataFrame) -> tuple[list[tuple[str, pd.DataFrame]], str]:
    """Titles and rows of the panels of a table by stack, role and tensor, and a note on tensors left out.

    Tensors of role `other` have a panel each, the largest ones if they are many.
    """
    sizes = table[table["tensor"] != ""].groupby("tensor", sort=False)["n"].first()
    shown = {"", *sizes.sort_values(ascending=False, kind="stable").index[:_MOST_OTHERS]}
    several = table.loc[table["tensor"] == "", "stack"].nunique() > 1
    panels = [
        (_shortened(tensor) if tensor else f"{stack} {role}" if several else role, group)
        for (stack, role, tensor), group in table.groupby(["stack", "role", "tensor"], sort=False)
        if tensor in shown
    ]
    missing = len(sizes) + 1 - len(shown)
    return panels, f"; {missing} smaller tensors without a role are in the table only" if missing else ""


def _shortened(name: str, most: int = 34) -> str:
    """The end of a long name, without what matplotlib would set as a formula."""
    return (name if len(name) <= most else f"...{name[3 - most :]}").replace("$", r"\$")


def _role_cdf(full: Axes, zoom: Axes, group: pd.DataFrame, depth: Normalize, name: str) -> None:
    layers = group[group["layer"].notna()]
    whole = group[group["layer"].isna()]
    width = 1.1 if layers["layer"].nunique() <= 12 else 0.6
    for axis, inside in ((full, slice(None)), (zoom, (0.05, 0.95))):
        for layer, line in layers.groupby("layer"):
            line = _between(line, inside)
            axis.plot(line["value"], line["probability"], color=_DEPTH(depth(layer)), linewidth=width)
        line = _between(whole, inside)
        style = _WHOLE if len(layers) else {"color": ACCENT, "linewidth": 1.4}
        axis.plot(line["value"], line["probability"], zorder=3, **style)
        _mark(axis, whole)
        axis.yaxis.set_major_locator(MaxNLocator(5))
    _scale(full, whole)
    full.set_ylim(-0.02, 1.02)
    full.set_ylabel("share of weights")
    # A long name has a line to itself, so that titles of neighbours do not overlap.
    comma = ", " if len(name) <= 20 else ",\n"
    full.set_title(f"{name}{comma}full range")
    zoom.xaxis.set_major_locator(MaxNLocator(5))
    zoom.set_title(f"{name}{comma}p5 to p95")


def value_cdf_panels(cdf: pd.DataFrame, label: str) -> Figure:
    """The CDF of one set of values in two panels, full range and p5-p95, with median and 95th percentile.

    cdf: of value_cdf. label: what the values are, such as "token weight".
    """
    known = cdf.dropna()
    if known.empty:
        return message(f"no {label} to draw")
    figure, (full, zoom) = subplots(1, 2, width=4.6, height=3.4)
    value_cdf_axes(full, known, label)
    value_cdf_axes(zoom, known, label, inside=(0.05, 0.95))
    full.set_ylabel("cumulative share")
    full.set_title("Full range")
    zoom.set_title("5th to 95th percentile")
    return figure


def value_cdf_axes(axis: Axes, cdf: pd.DataFrame, label: str, *, inside: tuple[float, float] | None = None) -> None:
    """Draw the CDF of one set of values, or the part of it between two probabilities; see value_cdf_panels."""
    line = _between(cdf, slice(None) if inside is None else inside)
    axis.plot(line["value"], line["probability"], color=NEUTRAL, linewidth=1.8)
    _mark(axis, cdf, legend=True)
    axis.set_xlabel(label)
    axis.legend(loc="upper left")
    if inside is None:
        axis.set_ylim(-0.02, 1.02)
        _scale(axis, cdf)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(6))


def _between(line: pd.DataFrame, inside: slice | tuple[float, float]) -> pd.DataFrame:
    return line if isinstance(inside, slice) else line[line["probability"].between(*inside)]


def _at(cdf: pd.DataFrame, probability: float) -> float:
    return float(cdf["value"].iloc[(cdf["probability"] - probability).abs().argmin()])


def _mark(axis: Axes, cdf: pd.DataFrame, *, legend: bool = False) -> None:
    for probability, (name, style) in _MARKED.items():
        value = _at(cdf, probability)
        axis.axvline(
            value, color=MUTED, linestyle=style, linewidth=0.9, label=f"{name} {value:.4g}" if legend else None
        )


def _scale(axis: Axes, cdf: pd.DataFrame) -> None:
    """Set a symmetric logarithmic axis where the ends are far outside the body."""
    body = max(abs(_at(cdf, 0.05)), abs(_at(cdf, 0.95)))
    if body > 0 and cdf["value"].abs().max() > _LINEAR_REACH * body:
        _symlog(axis, "x", body)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))


def histograms_by_role(densities: pd.DataFrame) -> Figure:
    """Density of the weights of each role on a logarithmic axis, over the normal density of the same mean and spread.

    densities: of role_densities.
    """
    if densities.empty:
        return message("no weight matrices with a spread of values")
    roles, left_out = _panels(densities)
    columns = min(3, len(roles))
    rows = -(-len(roles) // columns)
    figure, axes = subplots(rows, columns, width=3.8, height=2.7, squeeze=False)
    for axis, (name, group) in zip(axes.flat, roles, strict=False):
        _density_panel(axis, group, name, ROLE_COLOURS.get(group["role"].iloc[0], MUTED))
    for axis in axes.flat[len(roles) :]:
        axis.set_visible(False)
    figure.suptitle(f"Values of the weights by role, and the normal distribution of the same mean and spread{left_out}")
    return figure


def _density_panel(axis: Axes, group: pd.DataFrame, name: str, colour: str) -> None:
    first = group.iloc[0]
    bounds = np.append(group["left"], group["right"].iloc[-1])
    axis.stairs(group["density"], bounds, fill=True, color=colour, alpha=0.45, linewidth=0)
    axis.stairs(group["density"], bounds, color=colour, linewidth=1)
    middle = (group["left"] + group["right"]) / 2
    axis.plot(middle, group["normal"], color=MUTED, linestyle="--", linewidth=1.2)
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(NullLocator())
    # Down to one element in a bin, since the normal has no last value.
    least = 1 / (first["n"] * (group["right"].iloc[0] - group["left"].iloc[0]))
    axis.set_ylim(max(least, group["density"].max() * 1e-9) / 2, 3 * max(group["density"].max(), group["normal"].max()))
    axis.set_title(f"{name}\n", fontsize=10)
    beyond = f", {_percent(first['beyond'])} outside" if first["beyond"] * first["n"] > 0.5 else ""
    axis.text(
        *(0.5, 1.02),
        f"sd {first['std']:.3g}, excess kurtosis {_number(first['kurtosis'])}{beyond}",
        transform=axis.transAxes,
        ha="center",
        va="bottom",
        fontsize=7.5,
        color=MUTED,
    )
    axis.set_xlabel("value")
    axis.set_ylabel("density")
    axis.xaxis.set_major_locator(MaxNLocator(5))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def statistics_by_layer(by_layer: pd.DataFrame) -> Figure:
    """Mean, standard deviation, minimum and maximum over the layers, a line per role.

    by_layer: of summaries.by_layer.
    """
    lines = role_lines(by_layer)
    if not lines:
        return message("no weight matrices in layers")
    figure, axes = subplots(2, 2, width=4.6, height=2.7, sharex=True)
    for axis, (column, title) in zip(axes.flat, _STATISTICS.items(), strict=True):
        for name, style, line in lines:
            axis.plot(line["layer"].astype(int), line[column], label=name, **style)
        axis.set_title(title)
        if column in ("min", "max"):
            _far_ends(axis, np.concatenate([line[column].to_numpy() for _, _, line in lines]))
    layer_axes(axes[1])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle("Weights by layer and role")
    return figure


def kurtosis_by_layer(by_layer: pd.DataFrame) -> Figure:
    """Excess kurtosis over the layers, a line per role; by_layer: of summaries.by_layer."""
    lines = [(name, style, line.dropna(subset="kurtosis")) for name, style, line in role_lines(by_layer)]
    lines = [(name, style, line) for name, style, line in lines if len(line)]
    if not lines:
        return message("no weight matrices in layers")
    figure, axis = subplots(width=7.2, height=3.6)
    for name, style, line in lines:
        axis.plot(line["layer"].astype(int), line["kurtosis"], label=name, **style)
    axis.axhline(0, color=MUTED, linestyle="--", linewidth=1, label="normal")
    axis.set_yscale("symlog", linthresh=1)
    highest = max(line["kurtosis"].max() for _, _, line in lines)
    lowest = min(line["kurtosis"].min() for _, _, line in lines)
    axis.set_ylim(min(-0.4, 1.3 * lowest), max(2.0, 2 * highest))
    name, top = max(
        ((name, line.loc[line["kurtosis"].idxmax()]) for name, _, line in lines), key=lambda item: item[1]["kurtosis"]
    )
    if top["kurtosis"] > 1:
        first, last = axis.get_xlim()
        place = (int(top["layer"]) - first) / (last - first)
        axis.annotate(
            f"{name}, layer {top['layer']}: {_number(top['kurtosis'])}",
            (int(top["layer"]), top["kurtosis"]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="left" if place < 0.25 else "right" if place > 0.75 else "center",
            fontsize=8,
            color=ACCENT,
        )
    axis.set_ylabel("excess kurtosis")
    axis.set_title("Excess kurtosis of the weights by layer and role")
    axis.margins(x=0.08)
    layer_axes(np.array([axis]))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    return figure


def role_lines(by_layer: pd.DataFrame) -> list[tuple[str, dict, pd.DataFrame]]:
    """Name, style and rows of each role."""
    table = by_layer[by_layer["role"] != "all"]
    several = table["stack"].nunique() > 1
    styles = dict(zip(table["stack"].unique(), ["-", "--", ":"], strict=False))
    layers = table["layer"].nunique()
    lines = []
    for (stack, role), line in table.groupby(["stack", "role"], sort=False):
        style = {
            "color": ROLE_COLOURS.get(role, MUTED),
            "linestyle": styles[stack],
            "linewidth": 1.4,
            "marker": "o" if layers <= 32 else None,
            "markersize": 3,
        }
        lines.append((f"{stack} {role}" if several else role, style, line))
    return lines


def _far_ends(axis: Axes, values: np.ndarray) -> None:
    """A symmetric logarithmic axis where one layer's extreme would flatten all others."""
    magnitude = np.abs(values[np.isfinite(values)])
    typical = float(np.median(magnitude)) if len(magnitude) else 0.0
    if typical > 0 and magnitude.max() > 2 * _LINEAR_REACH * typical:
        _symlog(axis, "y", typical)


def _symlog(axis: Axes, direction: str, body: float) -> None:
    """An axis that is linear up to the power of ten near body and logarithmic beyond, with plain numbers."""
    threshold = float(10 ** np.round(np.log10(body)))
    getattr(axis, f"set_{direction}scale")("symlog", linthresh=threshold, linscale=_SMOOTH)
    ticks = axis.xaxis if direction == "x" else axis.yaxis
    subs = (1.0,) if direction == "x" else (1.0, 3.0)
    ticks.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold, subs=subs))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def layer_axes(axes: np.ndarray) -> None:
    for axis in axes:
        axis.set_xlabel("layer")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
