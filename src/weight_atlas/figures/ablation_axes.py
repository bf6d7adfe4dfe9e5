"""Shared parts of the figures of ablations: names of changes, readable numbers, axes for perplexities."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE

COLOURS = {
    "baseline": MUTED,
    "random": NEUTRAL,
    "largest": NEUTRAL,
    "random_tokens": NEUTRAL,
    "random_experts": NEUTRAL,
}
WORDS = {
    "baseline": "unchanged", "zero": "zeroed", "each": "one by one", "scale": "scaled", "neurons": "neurons zeroed",
    "restore": "activation restored", "experts": "experts removed", "random": "random instead",
    "super_experts": "super experts removed", "random_experts": "as many random experts removed",
    "largest": "largest others instead", "quantize": "quantized", "token_rows": "tokens of low weight pruned",
    "random_tokens": "as many random tokens pruned",
}  # fmt: skip
MARKERS = "osD^vPX*"
# Without grey, which is for the unchanged model, and without colours that are hard to see on white.
DISTINCT = [ACCENT, NEUTRAL, *(PALETTE[number] for number in (1, 2, 4, 5, 9))]
# An axis over more than this shows powers of ten.
POWERS = 10**2.5
# Filters of answers that need no mention.
PLAIN_FILTERS = ("none", "windows", "")


def readable(value: float) -> str:
    """A number for a label: four digits, all digits before the point up to ten million, or a power of ten."""
    if not np.isfinite(value):
        return "not finite" if np.isnan(value) else "infinite"
    if abs(value) < 10_000:
        return f"{value:,.4g}"
    if abs(value) < 1e7:
        return f"{value:,.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10$^{{{int(exponent)}}}$"


def style_of(number: int) -> tuple[str, str]:
    """(colour, marker) of the n-th of up to 56 series: neighbours differ in both, and all pairs are different."""
    # Seven colours and eight markers have no common divisor.
    return DISTINCT[number % len(DISTINCT)], MARKERS[number % len(MARKERS)]


def metric_name(part: pd.DataFrame) -> str:
    """Name of a panel's measure: its metric and, where it has one, the filter of the answers."""
    filter_ = part["filter"].dropna().iloc[0] if part["filter"].notna().any() else ""
    name = part.metric.iloc[0].replace("_", " ")
    return name if filter_ in PLAIN_FILTERS else f"{name}, {filter_.replace('_', ' ')}"


def is_perplexity(part: pd.DataFrame) -> bool:
    """Whether rows of an impact table are of a perplexity or other unbounded measure, for a log axis."""
    return bool(part.ratio.notna().any())


def beside(axis: Axes, place: float, text: str, colour: str = "black") -> None:
    """Write a row's value to the right of the panel."""
    axis.annotate(
        text, (1.03, place), xycoords=("axes fraction", "data"), va="center", fontsize=7, color=colour,
        annotation_clip=False,
    )  # fmt: skip


def log_axis(axis: Axes, low: float, high: float) -> None:
    """A log x axis from low to high with three to five ticks, all in one notation."""
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    _few_ticks(axis.xaxis, low, high)


def upright_log_axis(axis: Axes, low: float, high: float) -> None:
    """As log_axis, for y."""
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    _few_ticks(axis.yaxis, low, high)


def few_log_ticks(axis: Axis) -> None:
    """As log_axis, of an axis that is logarithmic already and whose limits are final."""
    low, high = sorted(axis.get_view_interval())
    _few_ticks(axis, float(low), float(high))


def _few_ticks(axis: Axis, low: float, high: float) -> None:
    axis.set_major_locator(FixedLocator(_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    powers = high / low >= POWERS
    axis.set_major_formatter(FuncFormatter(_power if powers else lambda value, _: readable(value)))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between: powers of ten if there are enough, else ever finer steps."""
    powers = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    if high / low >= POWERS:
        return powers[:: math.ceil(len(powers) / 5)]
    for steps in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**power for power in decades for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / 5)]
    return [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]


def _power(value: float, _: int) -> str:
    return f"10$^{{{round(math.log10(value))}}}$"
