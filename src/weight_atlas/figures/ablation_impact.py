"""Figures of the impact of ablations on every task, for one model and over models."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from weight_atlas.figures.ablation_axes import (
    COLOURS,
    WORDS,
    beside,
    is_perplexity,
    log_axis,
    metric_name,
    readable,
    style_of,
)
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots

PANELS_IN_A_ROW = 4
# Kinds that have figures of their own.
ELSEWHERE = ("scaling_sweep", "quantization_ablation")


def impact_panels(rows: pd.DataFrame) -> Figure:
    """One panel per task: every ablation's score with its interval, and the band that random controls span.

    rows: ablation, kind, variant, task, metric, filter, value, low, high, ratio, severity, note (see
    ablations.impact.headlines). Perplexities are on a log axis. A change with several variants shows
    each as a dot, their span, and the worst one's value; one with a single variant shows its 95 % interval.
    """
    shown = _labelled(rows)
    measured = shown[shown.task.notna()]
    if (measured.kind == "baseline").all():
        return message(_nothing(shown))
    names, tasks = list(dict.fromkeys(shown.label))[::-1], list(dict.fromkeys(measured.task))
    across = min(len(tasks), PANELS_IN_A_ROW)
    down = math.ceil(len(tasks) / across)
    height = 1.3 + 0.3 * len(names)
    figure, axes = subplots(down, across, width=_width(across), height=height, sharey=True, squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=False):
        _panel(axis, measured[measured.task == task], names, set(names) - set(measured.label))
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    figure.suptitle("What the ablations cost (dotted: unchanged; shaded: range of the random controls)")
    return figure


def _width(across: int) -> float:
    """Width of a panel in inches: a single one must have room for title and legend."""
    return 3.6 if across > 1 else 6.0


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of this figure, each with a name of ablation and change, which variants share."""
    shown = rows[~rows.ablation.isin(ELSEWHERE) & rows.kind.isin(list(WORDS))]
    words = shown.kind.map(WORDS)
    names = shown.ablation.str.replace("_", " ")
    return shown.assign(label=words.where(shown.kind == "baseline", names + ": " + words))


def _nothing(rows: pd.DataFrame) -> str:
    reasons = list(dict.fromkeys(rows.note.dropna())) if "note" in rows else []
    return f"Nothing was ablated: {'; '.join(reasons) or 'no super weights were detected'}."


def _panel(axis: Axes, part: pd.DataFrame, names: list[str], impossible: set[str]) -> None:
    logarithmic, baseline = is_perplexity(part), part.baseline.iloc[0]
    axis.set(yticks=range(len(names)), ylim=(-0.6, len(names) - 0.4), xlabel=metric_name(part))
    axis.set_yticklabels(names)
    axis.grid(axis="y", visible=False)
    axis.set_title(part.task.iloc[0], loc="left")
    if logarithmic:
        low, high = part.value.min(), part.value.max()
        margin = max((high / low) ** 0.08, 1.02)
        log_axis(axis, low / margin, high * margin)
        axis.set_xlabel(f"{metric_name(part)} (log scale)")
    else:
        axis.set(xlim=(-0.03, 1.03), xticks=np.linspace(0, 1, 6))
        _guessing(axis, part)
    for place, name in enumerate(names):
        own = part[part.label == name]
        if own.empty:
            beside(axis, place, "no variants" if name in impossible else "not evaluated", MUTED)
        else:
            _row(axis, own, place)
    _null_band(axis, part, baseline)


def _guessing(axis: Axes, part: pd.DataFrame) -> None:
    if part.chance.notna().any() and part.chance.max() > 0:
        axis.axvline(part.chance.max(), color=MUTED, lw=0.8, ls="--")
        axis.set_xlabel(f"{metric_name(part)} (dashed: guessing, {part.chance.max():.2g})")


def _row(axis: Axes, own: pd.DataFrame, place: int) -> None:
    """The variants of one kind of change: dots, an interval or a span, and the worst one's value on the right."""
    colour, values = COLOURS.get(own.kind.iloc[0], ACCENT), own.value.dropna()
    single = own.iloc[0] if len(own) == 1 else None
    span = (values.min(), values.max()) if single is None else (single.low, single.high)
    axis.plot(np.clip(span, *axis.get_xlim()), [place, place], color=colour, lw=3, alpha=0.35, solid_capstyle="butt")
    axis.scatter(values, [place] * len(values), color=colour, s=18, zorder=3, alpha=0.9, lw=0)
    beside(axis, place, _worst(own))


def _worst(own: pd.DataFrame) -> str:
    """The value of the worst variant, its name, and the number of variants."""
    among = f", worst of {len(own)}" if len(own) > 1 else ""
    if own.value.isna().any():
        return f"not finite{among}"
    worst = own.loc[own.value.idxmax() if is_perplexity(own) else own.value.idxmin()]
    value = readable(worst.value) if pd.notna(worst.ratio) else f"{worst.value:.3f}"
    severe = worst.kind == "baseline" or not isinstance(worst.severity, str)
    return value + ("" if severe else f" {worst.severity}") + among


def _null_band(axis: Axes, part: pd.DataFrame, baseline: float) -> None:
    axis.axvline(baseline, color=MUTED, lw=1, ls=":")
    random = part[part.kind == "random"].value.dropna()
    if len(random):
        # Random draws often differ in the fourth digit only, so that the band would be thinner than a pixel.
        place = axis.transData + axis.transAxes.inverted()
        low, high = (place.transform((value, 0))[0] for value in (random.min(), random.max()))
        band = Rectangle((low - 0.008, 0), high - low + 0.016, 1, transform=axis.transAxes)
        band.set(color=NEUTRAL, alpha=0.2, lw=0)
        axis.add_patch(band)


def model_panels(rows: pd.DataFrame) -> Figure:
    """One panel per task: for each model the worst variant of every ablation, as a ratio of perplexities or a drop.

    rows: as in impact_panels, with a column `model`.
    """
    labelled = _labelled(rows)
    changed = labelled[(labelled.kind != "baseline") & labelled.task.notna()]
    if changed.empty:
        return message(_nothing(labelled))
    tasks, models = list(dict.fromkeys(changed.task)), list(dict.fromkeys(rows.model))[::-1]
    ablations = list(dict.fromkeys(changed.label))
    across = min(len(tasks), PANELS_IN_A_ROW)
    down = math.ceil(len(tasks) / across)
    height = 1.3 + 0.15 * (len(ablations) + 1) * len(models)
    figure, axes = subplots(down, across, width=_width(across), height=height, sharey=True, squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=False):
        _model_panel(axis, changed[changed.task == task], models, ablations)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), max(2, across)))
    figure.suptitle("What the same ablations cost different models (worst variant of each)")
    return figure


def _model_panel(axis: Axes, part: pd.DataFrame, models: list[str], ablations: list[str]) -> None:
    logarithmic = is_perplexity(part)
    worst, name = part["ratio" if logarithmic else "drop"], metric_name(part)
    axis.set(yticks=range(len(models)), ylim=(-0.5, len(models) - 0.5))
    axis.set_yticklabels(models)
    axis.grid(axis="y", visible=False)
    axis.set_title(part.task.iloc[0], loc="left")
    if logarithmic:
        log_axis(axis, min(0.9, worst.min() / 1.1), max(worst.max() * 1.3, 1.3))
    else:
        axis.set_xlim(min(-0.05, worst.min() - 0.05), max(worst.max() * 1.1, 0.2))
    axis.axvline(1 if logarithmic else 0, color=MUTED, lw=1, ls=":")
    axis.set_xlabel(f"{name}, ratio to the unchanged model" if logarithmic else f"drop of {name}")
    for edge in range(1, len(models)):
        axis.axhline(edge - 0.5, color="#e8eaee", lw=0.8)
    step = 1 / (len(ablations) + 1)
    for number, ablation in enumerate(ablations):
        colour, marker = style_of(number)
        own = part[part.label == ablation]
        # Every ablation is in every panel's legend, also where it has no point.
        axis.scatter([], [], color=colour, marker=marker, s=24, label=ablation)
        for model, each in own.groupby("model", sort=False):
            place = models.index(model) + 0.5 - step * (number + 1)
            value = each["ratio" if logarithmic else "drop"].max()
            axis.scatter([value], [place], color=colour, marker=marker, s=22, zorder=3, lw=0)
            text = "not finite" if each.value.isna().any() else readable(value if logarithmic else round(value, 3))
            beside(axis, place, text)
