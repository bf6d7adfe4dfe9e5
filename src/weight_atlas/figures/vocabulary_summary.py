"""The figure that puts models side by side: labels, enriched classes, strongest weights."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, SEQUENTIAL, message, subplots
from weight_atlas.figures.vocabulary import LABEL_COLOURS


def models_overview(models: pd.DataFrame, classes: pd.DataFrame) -> Figure:
    """Share of labelled neurons, share of described neurons enriched for each class, change of loss by the strongest
    weight; one line a model.

    models: model, <label>_share, strongest_delta_loss, strongest_ci_2.5, strongest_ci_97.5 (all but the first may be
    missing). classes: model, class, share.
    """
    if models.empty:
        return message("No model has vocabulary analyses switched on.")
    names = models.model.tolist()
    figure, axes = subplots(1, 3, width=4.4, height=1.5 + 0.35 * max(3, len(names)))
    _labels(axes[0], models)
    _classes(axes[1], classes, names, figure)
    _strongest(axes[2], models)
    for axis in axes[[0, 2]]:
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
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
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2) if left.any() else None


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
    axis.set_yticks(range(len(names)), names)
    axis.grid(visible=False)
    figure.colorbar(shown, ax=axis, label="share", pad=0.02)


def _strongest(axis, models: pd.DataFrame) -> None:
    axis.set(title="strongest single weight", xlabel="change of loss, nats per token")
    if "strongest_delta_loss" not in models or models.strongest_delta_loss.isna().all():
        axis.text(0.5, 0.5, "no weight was intervened on", ha="center", transform=axis.transAxes)
        axis.set_xticks([])
        return
    for place, row in enumerate(models.to_dict("records")):
        if pd.isna(row["strongest_delta_loss"]):
            continue
        axis.barh(place, row["strongest_delta_loss"], color=ACCENT, height=0.5)
        interval = [row.get("strongest_ci_2.5"), row.get("strongest_ci_97.5")]
        if pd.notna(interval[0]):
            axis.plot(interval, [place, place], color="#22262e", lw=1.4)
    axis.axvline(0, color="#22262e", lw=0.8)
