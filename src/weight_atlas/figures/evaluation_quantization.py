"""Figures of quantized models, super weights spared or not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from weight_atlas.figures.evaluation_impact import readable
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, subplots


def plain_against_sparing(schemes: pd.DataFrame) -> Figure:
    """For every scheme, plain and with super weights spared: perplexity on a log axis beside the weights' error.

    schemes: variant, plain, sparing, relative_error, task, metric, value, baseline, ratio (see
    evaluation.quantization_errors); the first task that has a perplexity is shown.
    """
    measured = schemes[schemes.ratio.notna()]
    shown = measured[measured.task == measured.task.iloc[0]]
    shown = shown[shown.metric == shown.metric.iloc[0]]
    names = list(dict.fromkeys(shown.plain))[::-1]
    figure, (left, right) = subplots(1, 2, width=4.9, height=1.3 + 0.27 * len(names), sharey=True)
    places = {name: place for place, name in enumerate(names)}
    baseline = shown.baseline.iloc[0]
    for axis, column in ((left, "value"), (right, "relative_error")):
        _dumbbells(axis, shown, places, column)
        axis.grid(axis="y", visible=False)
    left.axvline(baseline, color=MUTED, lw=1, ls=":")
    left.set(xscale="log", xlabel="perplexity (log scale; dotted: not quantized)", yticks=list(places.values()))
    left.set_yticklabels(names)
    left.set_title(f"Perplexity, {shown.task.iloc[0]}")
    left.set_xlim(baseline * 0.97, max(shown.value.max() * 1.6, baseline * 1.2))
    right.set(xlabel="relative error of the weights")
    right.set_xlim(0, shown.relative_error.max() * 1.3)
    right.set_title("Weights alone")
    _plain_ticks(left)
    _labels(left, shown, places, "value", readable)
    _labels(right, shown, places, "relative_error", "{:.3f}".format)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle("Quantization, round to nearest")
    return figure


def _plain_ticks(axis) -> None:
    """Numbers rather than powers of ten, and enough of them, on a log axis that spans little."""
    low, high = axis.get_xlim()
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 30 else (1,)
    axis.xaxis.set_major_locator(LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: readable(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _dumbbells(axis, shown: pd.DataFrame, places: dict[str, int], column: str) -> None:
    for name, pair in shown.groupby("plain", sort=False):
        axis.plot(pair[column], [places[name]] * len(pair), color=MUTED, lw=1, alpha=0.6, zorder=1)
    for sparing, colour, label in (
        (False, NEUTRAL, "plain"),
        (True, ACCENT, "clipped, super weights restored"),
    ):
        part = shown[shown.sparing == sparing]
        if len(part):
            axis.scatter(part[column], part.plain.map(places), color=colour, s=26, label=label, zorder=2)


def _labels(axis, shown: pd.DataFrame, places: dict[str, int], column: str, form: Callable[[float], str]) -> None:
    """The values of each scheme, to the right of its dots: plain, then sparing."""
    for name, pair in shown.groupby("plain", sort=False):
        ordered = pair.sort_values("sparing")
        text = " → ".join(form(value) for value in ordered[column])
        axis.annotate(
            text, (np.nanmax(pair[column]), places[name]), xytext=(7, 0), textcoords="offset points", va="center",
            fontsize=7,
        )  # fmt: skip
