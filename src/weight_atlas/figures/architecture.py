"""Figures of a model's parameters by category and layer."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from weight_atlas.figures.style import MUTED, PALETTE, message, subplots

# One colour per category, the same in both figures.
_ORDER = (
    "attention", "feed-forward", "experts", "shared experts", "state space", "token embedding", "unembedding", "router",
    "auxiliary", "head", "norms and biases", "adapter", "other",
    "position embedding", "segment embedding",
)  # fmt: skip
_COLOURS = dict(zip(_ORDER, [*PALETTE[:10], "#5b6470", "#b8860b", "#c8ccd2", "#4b2e83", "#9a7fd1"], strict=True))


def parameter_shares(table: pd.DataFrame) -> Figure:
    """A ring of parameters by category, with a legend that gives numbers. table: columns category, parameters."""
    sizes = table.groupby("category")["parameters"].sum()
    sizes = sizes[sizes > 0].sort_values(ascending=False, kind="stable")
    if sizes.empty:
        return message("The checkpoint holds no parameters.")
    figure, axes = subplots(width=6.6, height=3.8)
    total = sizes.sum()
    wedges, _ = axes.pie(
        sizes,
        colors=[_COLOURS[category] for category in sizes.index],
        startangle=90,
        counterclock=False,
        wedgeprops={"width": 0.36, "edgecolor": "white", "linewidth": 1},
    )
    axes.text(0, 0, f"{_short(total)}\nparameters", ha="center", va="center", fontsize=12, fontweight="bold")
    header = ("part", "parameters", "share")
    rows = [header, *((name, _short(size), _percent(size / total)) for name, size in sizes.items())]
    wide = max(len(name) for name, _, _ in rows)
    # Characters of one width put the numbers into columns.
    labels = [f"{name:<{wide}}  {size:>10}  {share:>6}" for name, size, share in rows]
    handles = [plt.Rectangle((0, 0), 1, 1, alpha=0), *wedges]
    figure.legend(handles, labels, loc="outside right center", prop={"family": "DejaVu Sans Mono", "size": 8})
    axes.set_title("Parameters by part")
    return figure


def size_by_layer(table: pd.DataFrame) -> Figure:
    """Parameters of each layer, stacked by category, one panel per stack; a last bar for what is in no layer.

    table: columns stack, layer (missing outside layers), category, parameters.
    """
    stacks = [stack for stack in ("encoder", "decoder", "other") if (table["stack"] == stack).any()]
    stacks = [stack for stack in stacks if table[table["stack"] == stack]["parameters"].sum() > 0]
    if not stacks:
        return message("The checkpoint holds no parameters.")
    figure, panels = subplots(1, len(stacks), width=max(4.2, 7.6 / len(stacks)), squeeze=False, sharey=True)
    for axes, stack in zip(panels[0], stacks, strict=True):
        _stacked_bars(axes, table[table["stack"] == stack])
        axes.set_title({"other": "Other tensors"}.get(stack, stack.capitalize()))
    panels[0][0].set_ylabel("Parameters")
    panels[0][0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    shown = [name for name in _ORDER if name in set(table[table["parameters"] > 0]["category"])]
    handles = [plt.Rectangle((0, 0), 1, 1, color=_COLOURS[name]) for name in shown]
    figure.legend(handles, shown, loc="outside right center")
    return figure


def _stacked_bars(axes: plt.Axes, table: pd.DataFrame) -> None:
    layers = sorted(int(layer) for layer in table["layer"].dropna().unique())
    outside = layers[-1] + 2 if layers else 0  # one bar's width of space
    places = table["layer"].astype("Float64").fillna(outside).astype(int)
    sizes = table.assign(place=places).pivot_table(
        index="place", columns="category", values="parameters", aggfunc="sum", fill_value=0
    )
    height = 0
    for category in (name for name in _ORDER if name in sizes):
        axes.bar(sizes.index, sizes[category], bottom=height, color=_COLOURS[category], width=0.86, linewidth=0)
        height = height + sizes[category]
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("Layer")
    ticks = [tick for tick in MaxNLocator(8, integer=True).tick_values(0, max(layers, default=0)) if tick in layers]
    named = {int(tick): f"{int(tick)}" for tick in ticks}
    if table["layer"].isna().any():
        named[outside] = "no\nlayer"
    axes.set_xticks(list(named), list(named.values()))
    if not layers:
        axes.set_xlim(-1.5, 1.5)
        axes.set_xlabel("")
    axes.tick_params(axis="x", colors=MUTED if not layers else "black")


def _short(count: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"
