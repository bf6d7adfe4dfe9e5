"""Figures of the effect of scaling super weights."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import ArrayLike

from weight_atlas.figures.ablation_axes import is_perplexity, metric_name, readable, style_of
from weight_atlas.figures.style import MUTED, message, subplots

# Ratio to the unchanged model's perplexity above which a curve has left its minimum.
KNEE = 1.1


def scaling_curves(curves: pd.DataFrame) -> Figure:
    """Perplexities on a log axis and accuracies, with their intervals, against the factor on the super weights.

    curves: task, metric, filter, factor, value, low, high, baseline, ratio, chance (see ablations.impact). A ring
    marks the knee of a perplexity: the smallest factor from which on up to 1 it stays within a tenth of the unchanged
    model's.
    """
    if curves.empty:
        return message("No super weights were detected: nothing to scale.")
    tasks = [part for _, part in curves.groupby("task", sort=False)]
    kinds = [[part for part in tasks if is_perplexity(part) is kind] for kind in (True, False)]
    panels = [(kind, parts) for kind, parts in zip((True, False), kinds, strict=True) if parts]
    figure, axes = subplots(1, len(panels), width=5.4, height=3.6 + 0.17 * max(map(len, kinds)), squeeze=False)
    for axis, (perplexities, parts) in zip(axes[0], panels, strict=True):
        (_perplexities if perplexities else _scores)(axis, parts)
        axis.axvline(1, color=MUTED, lw=1, ls=":")
        axis.set_xlabel("factor on the super weights")
        _factor_ticks(axis, curves.factor)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1)
    figure.suptitle("Scaling the super weights")
    return figure


def knee(curve: pd.DataFrame) -> pd.Series | None:
    """The row of the smallest factor from which on up to 1 the ratio of perplexities stays below KNEE; None if none."""
    below = curve[curve.factor <= 1].sort_values("factor", ascending=False)
    near = below[(below.ratio < KNEE).cummin()] if len(below) else below
    return None if near.empty else near.iloc[-1]


def _perplexities(axis: Axes, parts: list[pd.DataFrame]) -> None:
    for number, curve in enumerate(parts):
        colour, marker = style_of(number)
        first, bend = curve.iloc[0], knee(curve)
        label = f"{curve.task.iloc[0]}: {metric_name(curve)} {readable(first.baseline)}; {_at(first)}"
        label += "" if bend is None or bend.factor in (first.factor, 1) else f"; {_at(bend)}"
        label += "".join(f"; infinite at × {factor:g}" for factor in curve.factor[np.isinf(curve.ratio)].iloc[:3])
        # Relative to the unchanged model, perplexities per token, word and byte share an axis.
        axis.plot(curve.factor, curve.ratio, color=colour, marker=marker, ms=4, lw=1.5, label=label)
        ends = (np.maximum(curve[end] / curve.baseline, 1e-3) for end in ("low", "high"))
        axis.fill_between(curve.factor, *ends, color=colour, alpha=0.15, lw=0)
        if bend is not None and bend.factor != 1:
            axis.plot(bend.factor, bend.ratio, "o", ms=11, mfc="none", mec=colour, mew=1.2)
    axis.axhline(1, color=MUTED, lw=1, ls=":")
    every = pd.concat(parts)
    axis.set_yscale("log")
    ratios, highs = _finite([1.0, *every.ratio]), _finite([1.0, *every.high / every.baseline])
    top = min(max(highs.max(), ratios.max()), ratios.max() * 30)
    axis.set_ylim(min(0.8, ratios.min() * 0.9) / top**0.04, max(top * 1.3, 2))
    axis.set(ylabel="perplexity over the unchanged model's")
    axis.set_title("Perplexity with its 95 % interval (ring: knee)")


def _finite(values: ArrayLike) -> np.ndarray:
    """The finite ones of some values."""
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


def _at(row: pd.Series) -> str:
    return f"{readable(row.value)} at × {row.factor:g}"


def _scores(axis: Axes, parts: list[pd.DataFrame]) -> None:
    for number, curve in enumerate(parts):
        colour, marker = style_of(number)
        label = f"{curve.task.iloc[0]}: {metric_name(curve)}"
        axis.plot(curve.factor, curve.value, color=colour, marker=marker, ms=4, lw=1.5, label=label)
        axis.fill_between(curve.factor, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
        if curve.chance.max() > 0:
            axis.axhline(curve.chance.max(), color=colour, lw=1, ls=":")
    axis.set(ylim=(-0.03, 1.03), ylabel="score")
    axis.set_title("Scores with their 95 % intervals (dotted: guessing)")
    axis.set_yticks(np.linspace(0, 1, 6))


def _factor_ticks(axis: Axes, factors: pd.Series) -> None:
    """Ticks at factors that were measured, as many as have room."""
    finite = _finite(factors)
    known = np.unique(finite) if len(finite) else np.ones(1)
    low, high = known[0], known[-1]
    room = max((high - low) * 0.06, 1e-9)
    ticks = [1.0] if low <= 1 <= high else [low]
    for factor in known:
        if all(abs(factor - tick) >= room for tick in ticks):
            ticks.append(float(factor))
    axis.set_xlim(low - max(room / 2, 0.02), high + max(room / 2, 0.02))
    axis.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
