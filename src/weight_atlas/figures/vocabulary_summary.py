"""Figure that compares models: labels, enriched classes, strongest weights."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, SEQUENTIAL, message, subplots
from weight_atlas.figures.vocabulary import LABEL_COLOURS
from weight_atlas.figures.vocabulary_interventions import signed, symmetric_log


def models_overview(models: pd.DataFrame, classes: pd.DataFrame) -> Figure:
    """Share of labelled neurons, share of described neurons enriched for each class, change of loss by the strongest
    weight; one line a model.

    models: model, <label>_share, strongest_delta_loss, strongest_ci_2.5, strongest_ci_97.5 (all but the first may be
    missing). classes: model, class, share.
    """
    if models.empty:
        return message("No model has vocabulary analyses switched on.")
    names = models.model.tolist()
    # Names at the first panel only, since long ones would leave no room for the others.
    figure, axes = subplots(1, 3, width=4.2, height=2.1 + 0.3 * max(2, len(names)))
    _labels(axes[0], models)
    _classes(axes[1], classes, names, figure)
    _strongest(axes[2], models)
    for axis in axes:
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
    return figure


def _labels(axis, models: pd.DataFrame) -> None:
    left = np.zeros(len(models))
    for label, colour in list(LABEL_COLOURS.items())[:-1]:
        if f"{label}_share" in models:
            share = models[f"{label}_share"].fillna(0).to_numpy(float)
            axis.barh(range(len(models)), share, left=left, color=colour, height=0.65, label=label)
            left += share
    axis.set(title="neurons with a label", xlabel="share of neurons")
    axis.set_xlim(0, max(0.01, 1.1 * left.max()))
    # Below the axis's own label, at a distance in inches whatever the number of models.
    down = -0.55 / axis.figure.get_size_inches()[1] / 0.75
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, down), ncols=4, columnspacing=1) if left.any() else None


def _classes(axis, classes: pd.DataFrame, names: list[str], figure: Figure) -> None:
    axis.set_title("described neurons enriched")
    if classes.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "no neuron was described", ha="center", transform=axis.transAxes)
        return
    order = classes["class"].unique()
    values = classes.pivot(index="model", columns="class", values="share").reindex(index=names, columns=order)
    shown = axis.imshow(values.to_numpy(float), aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1)
    axis.set_xticks(range(len(order)), [name.replace("_", " ") for name in order], rotation=40, ha="right")
    axis.grid(visible=False)
    figure.colorbar(shown, ax=axis, label="share", pad=0.02)


def _strongest(axis, models: pd.DataFrame) -> None:
    axis.set(title="strongest single weight", xlabel="change of loss, nats per token")
    if "strongest_delta_loss" not in models or models.strongest_delta_loss.isna().all():
        axis.text(0.5, 0.5, "no weight was intervened on", ha="center", transform=axis.transAxes)
        axis.set_xticks([])
        return
    values = models.reindex(columns=["strongest_delta_loss", "strongest_ci_2.5", "strongest_ci_97.5"]).to_numpy(float)
    for place, (delta, low, high) in enumerate(values):
        if np.isnan(delta):
            continue
        axis.barh(place, delta, color=ACCENT, height=0.5)
        if not np.isnan(low):
            axis.plot([low, high], [place, place], color="#22262e", lw=1.4)
        axis.text(1.02, place, signed(delta), transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    symmetric_log(axis, values)
    axis.axvline(0, color="#22262e", lw=0.8)
