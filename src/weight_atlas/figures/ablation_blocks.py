"""Figures of quantization against the size of the blocks that share a scale."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from weight_atlas.figures.ablation_axes import is_perplexity, metric_name, style_of, upright_log_axis
from weight_atlas.figures.style import MUTED


def over_sizes(schemes: pd.DataFrame) -> pd.DataFrame:
    """The rows of formats with several sizes of blocks or groups, with a column `series`."""
    sized = schemes.dropna(subset=["block"])
    sized = sized[sized.inputs == ""]
    names = sized.format + " per " + sized.granularity.str.split(":").str[0]
    several = sized.groupby(names).block.transform("nunique") > 1
    return sized.assign(series=names)[several]


def size_panels(figure: SubFigure, sizes: pd.DataFrame) -> None:
    """One panel per task and one of the weights' error: plain dashed, super weights spared solid.

    sizes: see over_sizes. The panels lie below those of plain_against_sparing, in the same order.
    """
    tasks = [part for _, part in sizes.groupby("task", sort=False)]
    axes = figure.subplots(1, len(tasks) + 1, squeeze=False)[0]
    for axis, part in zip(axes, tasks, strict=False):
        _curves(axis, part, "value")
        axis.set_ylabel(metric_name(part) + (" (log scale)" if is_perplexity(part) else ""))
        axis.axhline(part.baseline.iloc[0], color=MUTED, lw=1, ls=":")
        if is_perplexity(part):
            low, high = min(part.value.min(), part.baseline.iloc[0]), max(part.value.max(), part.baseline.iloc[0])
            margin = max((high / low) ** 0.08, 1.005)
            upright_log_axis(axis, low / margin, high * margin)
        else:
            axis.set_ylim(-0.03, 1.03)
    _curves(axes[-1], tasks[0], "relative_error")
    axes[-1].set(ylabel="relative error of the weights")
    axes[-1].set_ylim(bottom=0)
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))


def _curves(axis: Axes, part: pd.DataFrame, column: str) -> None:
    known = sorted(part.block.unique())
    for number, (name, series) in enumerate(part.groupby("series", sort=False)):
        colour, marker = style_of(number)
        for sparing, line, label in ((False, "--", "plain"), (True, "-", "super weights spared")):
            curve = series[series.sparing == sparing].sort_values("block")
            if len(curve):
                axis.plot(curve.block, curve[column], line, color=colour, marker=marker, ms=4, label=f"{name}, {label}")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(known))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))
    axis.tick_params(axis="x", rotation=45 if len(known) > 5 else 0)
    axis.set_xlabel("weights that share a scale")


def _size(value: float) -> str:
    """A number of weights, as a square where it is one of a power of two, as in the paper."""
    root = round(value**0.5)
    return f"{root}²" if root * root == round(value) and root >= 64 else f"{value:,.0f}"
