"""Figures of quantized models, super weights spared or not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.ablation_axes import beside, is_perplexity, log_axis, metric_name, readable
from weight_atlas.figures.ablation_blocks import over_sizes, size_panels
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, WholeTitle, message

# What is spared: (weights, activations), colour, words.
SPARED = (
    (False, False, NEUTRAL, "plain"),
    (True, False, ACCENT, "clipped, super weights restored"),
    (False, True, PALETTE[2], "super activations kept"),
    (True, True, PALETTE[4], "both"),
)
# Perplexities beyond this many times the unchanged model's are drawn at the edge: the model is useless either way.
BROKEN = 30
WIDTH = 3.7


def plain_against_sparing(schemes: pd.DataFrame) -> Figure:
    """For every scheme, plain and with super weights or activations spared: perplexity, task scores, weights' error.

    schemes: variant, plain, sparing, inputs, keeping, format, granularity, block, relative_error, and the columns of an
    impact table's headlines (see ablations.quantization_errors). Where several sizes of blocks or groups were tried, a
    second row shows what is measured against them, as figure 6 of Yu et al., arXiv 2411.07191, does.
    """
    if schemes.empty:
        return message("Nothing was quantized.")
    tasks = [part for _, part in schemes.groupby("task", sort=False)]
    names, sizes = list(dict.fromkeys(schemes.plain))[::-1], over_sizes(schemes)
    heights = [1.3 + 0.25 * len(names), *([] if sizes.empty else [3.2])]
    # Names and numbers of quantized inputs are longer.
    width = WIDTH * (len(tasks) + 1) + (2.5 if schemes.inputs.any() else 0)
    figure = WholeTitle(figsize=(width, sum(heights) + 0.4), layout="constrained")
    upper, *lower = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = upper.subplots(1, len(tasks) + 1, sharey=True, squeeze=False)[0]
    for axis, part in zip(axes, tasks, strict=False):
        _task_panel(axis, part, names)
    _error_panel(axes[-1], tasks[0], names)
    handles, labels = axes[0].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside lower center", ncols=4)
    for below in lower:
        size_panels(below, sizes)
    figure.suptitle("Quantization, round to nearest (beside: in the order of the legend)")
    return figure


def _rows(axis: Axes, names: list[str]) -> None:
    axis.set(yticks=range(len(names)), ylim=(-0.6, len(names) - 0.4))
    axis.set_yticklabels(names)
    axis.grid(axis="y", visible=False)


def _task_panel(axis: Axes, part: pd.DataFrame, names: list[str]) -> None:
    _rows(axis, names)
    baseline, perplexity = part.baseline.iloc[0], is_perplexity(part)
    axis.set_title(part.task.iloc[0], loc="left")
    if perplexity:
        top = np.nanmax(np.minimum(part.value, baseline * BROKEN))
        margin = (top / baseline) ** 0.06 * 1.01
        log_axis(axis, min(baseline, part.value.min()) / margin, max(top, baseline * 1.02) * margin)
        axis.set_xlabel(f"{metric_name(part)} (log scale; dotted: not quantized)")
    else:
        axis.set(xlim=(-0.03, 1.03), xlabel=f"{metric_name(part)} (dotted: not quantized)")
    axis.axvline(baseline, color=MUTED, lw=1, ls=":")
    _dumbbells(axis, part, names, "value", baseline * BROKEN if perplexity else np.inf)
    _texts(axis, part, names, "value", readable if perplexity else "{:.3f}".format)


def _error_panel(axis: Axes, part: pd.DataFrame, names: list[str]) -> None:
    # Activations change no weight: of those beside the same weights one row is enough.
    part = part[~part.keeping & ((part.inputs == "") | (part.format != ""))]
    _rows(axis, names)
    axis.set_title("Weights alone", loc="left")
    axis.set(xlabel="relative error of the weights", xlim=(0, part.relative_error.max() * 1.05))
    _dumbbells(axis, part, names, "relative_error", np.inf)
    _texts(axis, part, names, "relative_error", "{:.3f}".format)


def _dumbbells(axis: Axes, part: pd.DataFrame, names: list[str], column: str, most: float) -> None:
    """A dot for each variant in the row of its scheme; an arrow at the edge where it is beyond `most` or no number."""
    values, places = part[column].fillna(np.inf), part.plain.map(names.index)
    edge = axis.get_xlim()[1] if np.isfinite(most) else most
    drawn = values.where(values <= most, edge)
    for place in places.unique():
        pair = drawn[places == place]
        if np.isfinite(pair).all():
            axis.plot(pair, [place] * len(pair), color=MUTED, lw=1, alpha=0.6, zorder=1)
    for sparing, keeping, colour, label in SPARED:
        own = (part.sparing == sparing) & (part.keeping == keeping)
        for beyond, marker in ((False, "o"), (True, ">")):
            chosen = own & ((values > most) == beyond) & np.isfinite(drawn)
            if chosen.any():
                axis.scatter(
                    drawn[chosen], places[chosen], color=colour, marker=marker, s=24, zorder=2, lw=0, clip_on=False
                )
        if own.any():
            axis.scatter([], [], color=colour, s=24, label=label)


def _texts(axis: Axes, part: pd.DataFrame, names: list[str], column: str, form: Callable[[float], str]) -> None:
    """The values of each scheme, right of the panel, in the order of the legend."""
    for name, pair in part.groupby("plain", sort=False):
        values = pair.sort_values(["keeping", "sparing"])[column]
        beside(axis, names.index(name), " → ".join("not finite" if np.isnan(v) else form(v) for v in values))
