"""Figures of what ablations cost, on every task, for one model and over models."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, message, subplots

COLOURS = {"baseline": MUTED, "random": NEUTRAL, "largest": NEUTRAL}
PANELS_IN_A_ROW = 4
WORDS = {
    "baseline": "unchanged", "zero": "zeroed", "each": "one by one", "scale": "scaled", "neurons": "neurons zeroed",
    "restore": "activation restored", "experts": "experts removed", "random": "random instead",
    "largest": "largest others instead", "quantize": "quantized",
}  # fmt: skip
# Shown in figures of their own.
ELSEWHERE = ("scaling_sweep", "quantization_ablation")


def impact_panels(rows: pd.DataFrame) -> Figure:
    """One panel per task: every ablation's score with its interval, and the band that random controls span.

    rows: ablation, kind, variant, task, metric, value, low, high, ratio, severity (see evaluation.impact.headlines).
    Perplexities are on a log axis. What has several variants shows each as a dot, and the worst as its value.
    """
    shown = _labelled(rows)
    names = list(dict.fromkeys(shown.label))[::-1]
    if len(names) < 2:
        return message("No super weights were found: nothing to ablate.")
    tasks = list(dict.fromkeys(shown.task))
    across = min(len(tasks), PANELS_IN_A_ROW)
    down = math.ceil(len(tasks) / across)
    figure, axes = subplots(down, across, width=3.4, height=1.3 + 0.36 * len(names), sharey=True, squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=False):
        _panel(axis, shown[shown.task == task], names)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    figure.suptitle("What the ablations cost (shaded: range of the random controls)")
    return figure


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows shown here, with the name of each: its ablation and what that does; several variants share one."""
    shown = rows[~rows.ablation.isin(ELSEWHERE)]
    words = shown.kind.map(WORDS)
    return shown.assign(label=words.where(shown.kind == "baseline", shown.ablation + ": " + words))


def _panel(axis, part: pd.DataFrame, names: list[str]) -> None:
    logarithmic = part.ratio.notna().any()
    baseline = part.baseline.iloc[0]
    texts = []
    for place, name in enumerate(names):
        own = part[part.label == name]
        if own.empty:
            continue
        colour = COLOURS.get(own.kind.iloc[0], ACCENT)
        if len(own) == 1 and not logarithmic:
            axis.plot([own.low.iloc[0], own.high.iloc[0]], [place, place], color=colour, lw=2, alpha=0.45)
        axis.scatter(own.value, [place] * len(own), color=colour, s=24, zorder=3, alpha=0.9)
        worst = own.loc[own.value.idxmax() if logarithmic else own.value.idxmin()]
        texts.append((worst.value, place, _label(worst)))
    axis.set(yticks=range(len(names)), ylim=(-0.75, len(names) - 0.25))
    axis.set_yticklabels(names)
    axis.grid(axis="y", visible=False)
    axis.set_title(f"{part.task.iloc[0]}", loc="left")
    axis.set_xlabel(part.metric.iloc[0].replace("_", " ") + (" (log scale)" if logarithmic else ""))
    if logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(part.value.min() / 2.5, part.value.max() * 6)
    else:
        axis.set_xlim(-0.12, 1.12)
        axis.set_xticks(np.linspace(0, 1, 6))
        if part.chance.notna().any() and part.chance.max() > 0:
            axis.axvline(part.chance.max(), color=MUTED, lw=0.8, ls="--")
            axis.annotate("guessing", (part.chance.max(), -0.72), fontsize=6.5, color=MUTED, ha="center")
    _null_band(axis, part, baseline)
    for value, place, text in texts:
        _write_above(axis, value, place, text)


def _write_above(axis, value: float, place: int, text: str) -> None:
    """Write a value above its dot, towards the middle of the panel where the dot is near a side."""
    across = axis.transAxes.inverted().transform(axis.transData.transform((value, place)))[0]
    side = "left" if across < 0.3 else "right" if across > 0.7 else "center"
    shift = {"left": -3, "right": 3, "center": 0}[side]
    axis.annotate(
        text, (value, place), xytext=(shift, 5), textcoords="offset points", ha=side, fontsize=7, annotation_clip=False
    )


def readable(value: float) -> str:
    """A number for a label: four digits, or all before the point up to ten million."""
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.2g}"


def _null_band(axis, part: pd.DataFrame, baseline: float) -> None:
    axis.axvline(baseline, color=MUTED, lw=1, ls=":")
    random = part[part.kind == "random"].value
    if len(random):
        # Random draws often differ in the fourth digit only: a band thinner than a pixel would vanish.
        place = axis.transData + axis.transAxes.inverted()
        low, high = (place.transform((value, 0))[0] for value in (random.min(), random.max()))
        band = Rectangle((low - 0.008, 0), high - low + 0.016, 1, transform=axis.transAxes)
        band.set(color=NEUTRAL, alpha=0.2, lw=0)
        axis.add_patch(band)


def _label(row: pd.Series) -> str:
    value = readable(row.value) if pd.notna(row.ratio) else f"{row.value:.3f}"
    return value if row.kind == "baseline" or not isinstance(row.severity, str) else f"{value}  {row.severity}"


def model_panels(rows: pd.DataFrame) -> Figure:
    """One panel per task: for each model the worst variant of every ablation, as a ratio of perplexities or a drop.

    rows: as in impact_panels, with a column `model`.
    """
    labelled = _labelled(rows)
    changed = labelled[labelled.kind != "baseline"]
    if changed.empty:
        return message("No super weights were found in any model: nothing to compare.")
    tasks, models = list(dict.fromkeys(changed.task)), list(dict.fromkeys(rows.model))[::-1]
    ablations = list(dict.fromkeys(changed.label))
    across = min(len(tasks), PANELS_IN_A_ROW)
    down = math.ceil(len(tasks) / across)
    figure, axes = subplots(
        down, across, width=3.6, height=1.6 + 0.16 * len(ablations) * len(models), sharey=True, squeeze=False
    )
    colours = dict(
        zip(ablations, [ACCENT, NEUTRAL, *(c for c in PALETTE if c not in (ACCENT, NEUTRAL))] * 10, strict=False)
    )
    for axis, task in zip(axes.flat, tasks, strict=False):
        _model_panel(axis, changed[changed.task == task], models, colours)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    figure.suptitle("What the same ablations cost different models (worst variant of each)")
    return figure


def _model_panel(axis, part: pd.DataFrame, models: list[str], colours: dict[str, str]) -> None:
    logarithmic = part.ratio.notna().any()
    column = "ratio" if logarithmic else "drop"
    offsets = np.linspace(0.3, -0.3, len(colours)) if len(colours) > 1 else [0.0]
    for offset, (name, colour) in zip(offsets, colours.items(), strict=True):
        own = part[part.label == name].groupby("model")[column].max()
        places = [models.index(model) + offset for model in own.index]
        axis.scatter(own, places, color=colour, s=28, label=name, zorder=3)
        for value, place in zip(own, places, strict=True):
            axis.annotate(
                f"{readable(value) if logarithmic else readable(round(value, 3))}",
                (value, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    axis.axvline(1 if logarithmic else 0, color=MUTED, lw=1, ls=":")
    axis.set(yticks=range(len(models)), ylim=(-0.6, len(models) - 0.4))
    axis.set_yticklabels(models)
    axis.grid(axis="y", visible=False)
    axis.set_title(part.task.iloc[0], loc="left")
    metric = part.metric.iloc[0].replace("_", " ")
    axis.set_xlabel(f"{metric}, ratio to the unchanged model" if logarithmic else f"drop of {metric}")
    if logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(min(0.6, part.ratio.min() / 2), max(part.ratio.max() * 6, 3))
    else:
        axis.set_xlim(min(-0.1, part["drop"].min() - 0.05), max(part["drop"].max() * 1.25, 0.2))
