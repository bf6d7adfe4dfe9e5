"""Figures of token weights by themselves: their histogram, and their course over checkpoints."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from weight_atlas.figures.ablation_axes import few_log_ticks
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, message, subplots
from weight_atlas.figures.vocabulary import printable

BINS = 100
_COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")
_MOST_LABELS = 12


def weight_histogram(weights: np.ndarray, label: str) -> Figure:
    """Histograms of weights (n,) in 100 bins, with mean and median: the full range, and the 1st to 99th percentile.

    The full range has a logarithmic axis of counts, since single far weights are bins of one.
    """
    finite = weights[np.isfinite(weights)]
    if not len(finite):
        return message(f"no {label} to draw")
    figure, (full, body) = subplots(1, 2, width=4.8, height=3.4)
    bins_of_weights(full, finite)
    full.set_yscale("log")
    full.set(title="Full range", ylabel="tokens")
    low, high = np.quantile(finite, (0.01, 0.99))
    inside = finite[(finite >= low) & (finite <= high)]
    bins_of_weights(body, inside if len(inside) else finite)
    body.set_title("1st to 99th percentile")
    body.yaxis.set_major_formatter(_COUNT)
    for axis in (full, body):
        for value, name, style in ((finite.mean(), "mean", "-"), (np.median(finite), "median", "--")):
            axis.axvline(value, color=ACCENT, linestyle=style, linewidth=1.2, label=f"{name} {value:.4g}")
        axis.set_xlabel(label)
        few_ticks(axis, 6)
        axis.legend(loc="upper right")
        axis.margins(y=0.15)
    few_log_ticks(full.yaxis)
    return figure


def bins_of_weights(axis: Axes, weights: np.ndarray) -> None:
    """Draw weights in 100 bins; equal ones as one bar."""
    low, high = float(weights.min()), float(weights.max())
    if high - low <= BINS * np.spacing(max(abs(low), abs(high))):
        pad = max(abs(low) * 1e-3, 1e-3)
        low, high = low - pad, high + pad
    counts, edges = np.histogram(weights, BINS, (low, high))
    axis.stairs(counts, edges, fill=True, color=NEUTRAL, alpha=0.6)


def few_ticks(axis: Axes, most: int) -> None:
    """At most so many intervals on an x axis of weights, fewer where their numbers are long, as of a narrow range.

    No number is left out of the labels to stand apart from them.
    """
    low, high = axis.get_xlim()
    narrow = high - low < 0.01 * max(abs(low), abs(high))
    axis.xaxis.set_major_locator(MaxNLocator(3 if narrow else most))
    axis.ticklabel_format(axis="x", useOffset=False)


def evolution_panels(course: pd.DataFrame, moved: pd.DataFrame, label: str) -> Figure:
    """Token weights over checkpoints: their spread, how far they moved, and the tokens that moved most.

    course: of evolution.evolution; moved: of evolution.most_moved.
    """
    figure, axes = subplots(2, 2, width=5.2, height=3.3)
    spread, std, distance, tokens = axes.flat
    numbers = course["number"]
    for low, high, shade in (("p1", "p99", 0.15), ("p5", "p95", 0.2), ("p25", "p75", 0.3)):
        name = f"{low} to {high}"
        spread.fill_between(numbers, course[low], course[high], color=NEUTRAL, alpha=shade, linewidth=0, label=name)
    spread.plot(numbers, course["median"], color=NEUTRAL, marker="o", markersize=3, label="median")
    spread.plot(numbers, course["mean"], color=ACCENT, linestyle="--", marker="o", markersize=3, label="mean")
    spread.set(title="Weights", ylabel=label)
    spread.legend(loc="upper left", ncols=2)
    spread.margins(y=0.25)
    std.plot(numbers, course["std"], color=NEUTRAL, marker="o", markersize=3, label="standard deviation")
    std.plot(
        numbers, course["moved_first"], color=PALETTE[1], marker="o", markersize=3, label="mean |change| from first"
    )
    std.set_title("Spread, and distance from the first checkpoint")
    std.set_ylim(bottom=0)
    std.legend(loc="upper left")
    _distances(distance, course)
    _courses(tokens, moved, label)
    for axis in axes.flat:
        _checkpoints(axis, course)
    return figure


def _distances(axis: Axes, course: pd.DataFrame) -> None:
    for name, colour in (("previous", NEUTRAL), ("first", PALETTE[1])):
        style = {"color": colour, "marker": "o", "markersize": 3}
        later = course[course["number"] > 0]
        axis.plot(later["number"], later[f"spearman_{name}"], label=f"rank correlation with the {name}", **style)
        axis.plot(later["number"], later[f"ks_{name}"], linestyle=":", label=f"KS distance to the {name}", **style)
    axis.plot(course["number"], course["ks_null"], color=MUTED, linewidth=0.8, label="KS distance of chance")
    axis.set_title("Likeness to other checkpoints")
    axis.set_ylim(min(-0.02, course[["spearman_previous", "spearman_first"]].min().min() - 0.05), 1.05)
    axis.legend(loc="center left", fontsize=7)


def _courses(axis: Axes, moved: pd.DataFrame, label: str) -> None:
    shown = [group for rank, group in moved.groupby("rank") if rank <= len(PALETTE)]
    for colour, group in zip(PALETTE, shown, strict=False):
        name = printable(group["token"].iloc[0], 14) or f"id {group['id'].iloc[0]}"
        axis.plot(group["number"], group["weight"], color=colour, linewidth=1.2, label=name)
    axis.set(title="Tokens that moved most", ylabel=label)
    if shown:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)


def _checkpoints(axis: Axes, course: pd.DataFrame) -> None:
    step = -(-len(course) // _MOST_LABELS)
    ticks = course["number"][::step]
    labels = [printable(str(name), 16) for name in course["checkpoint"][::step]]
    crowded = sum(map(len, labels)) > 40
    axis.set_xticks(ticks, labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")
