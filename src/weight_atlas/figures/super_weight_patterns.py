"""Figure of the super weights of all models: how deep each lies, in which role, and what its removal costs."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from weight_atlas.figures.style import MUTED, ROLE_COLOURS, message, subplots

# Nats per token between which the size of a marker grows.
SMALLEST, LARGEST = 0.01, 10.0


def patterns(models: pd.DataFrame, weights: pd.DataFrame) -> Figure:
    """A row a model, a marker a verified weight at its depth; hollow ones are inert, lines join those of one channel.

    models, weights: see super_weights.patterns.
    """
    shown = models[models.note.isna()]
    if shown.empty:
        return message("No model has verified super weights.")
    figure, axis = subplots(width=9.5, height=1.6 + 0.42 * len(shown))
    for place, model in enumerate(shown.itertuples()):
        _model(axis, place, weights[weights.model == model.model])
        text = f"{model.super_weights}: {model.roles}" if model.super_weights else "none found"
        axis.annotate(
            text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, annotation_clip=False,
            parse_math=False,
        )  # fmt: skip
    names = [f"{row.model}\n{row.architecture or 'unknown architecture'}" for row in shown.itertuples()]
    axis.set_yticks(range(len(shown)), names, parse_math=False)
    axis.set(ylim=(len(shown) - 0.5, -0.5), xlim=(-0.03, 1.03), xlabel="depth: share of the layers below")
    axis.grid(axis="y", visible=False)
    for third in (1 / 3, 2 / 3):
        axis.axvline(third, color=MUTED, lw=0.8, ls=":")
    _legend(figure, weights[weights.model.isin(shown.model)])
    figure.suptitle("Super weights by depth and role")
    return figure


def _model(axis: Axes, place: int, weights: pd.DataFrame) -> None:
    own = weights[weights.verdict != "inert"]
    for _, shared in own[own.same_channel.fillna(0) > 0].groupby("channel"):
        axis.plot(shared.depth, np.full(len(shared), place), color=MUTED, lw=1, zorder=2)
    for row in weights.itertuples():
        colour, inert = ROLE_COLOURS.get(row.role, MUTED), row.verdict == "inert"
        face = "white" if inert else colour
        axis.scatter([row.depth], [place], s=_size(row.delta_nll), facecolor=face, edgecolor=colour, lw=1.2, zorder=3)


def _size(harm: float) -> float:
    """Area of a marker; a removal that leaves no numbers has the largest."""
    if np.isnan(harm):
        harm = LARGEST
    share = np.log(np.clip(harm, SMALLEST, LARGEST) / SMALLEST) / np.log(LARGEST / SMALLEST)
    return 18 + 110 * float(share)


def _legend(figure: Figure, weights: pd.DataFrame) -> None:
    def dot(colour: str, face: str, size: float, label: str) -> Line2D:
        return Line2D(
            [], [], ls="", marker="o", markerfacecolor=face, markeredgecolor=colour, markersize=size**0.5, label=label
        )

    roles = [role for role in ROLE_COLOURS if (weights.role == role).any()]
    others = sorted({*weights.role} - {*ROLE_COLOURS})
    handles = [dot(ROLE_COLOURS[role], ROLE_COLOURS[role], 40, role) for role in roles]
    handles += [dot(MUTED, MUTED, 40, ", ".join(others))] if others else []
    handles += [dot(MUTED, MUTED, _size(nats), f"{nats:g} nats") for nats in (0.1, 10.0)]
    handles.append(dot(MUTED, "white", 40, "inert"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8))
