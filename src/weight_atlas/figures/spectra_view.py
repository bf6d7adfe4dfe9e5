"""Close views of single matrices: how much of their energy each component holds."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots

MILESTONES = (50, 75, 90, 95, 99)


def variance_explained(chosen: pd.DataFrame, ranks: pd.DataFrame) -> Figure:
    """For each matrix the share of its energy per component, and the cumulative share with its milestones.

    chosen: rows of a table of singular values; ranks: their effective_ranks.
    """
    milestones = ranks.loc[ranks["n99"].notna(), ["id", *(f"n{share}" for share in MILESTONES)]]
    chosen = chosen.merge(milestones, on="id")
    if chosen.empty:
        return message("none of the chosen matrices is in this model")
    figure, axes = subplots(len(chosen), 2, width=5.2, height=2.9, squeeze=False)
    for (left, right), row in zip(axes, chosen.itertuples(index=False), strict=True):
        energy = np.asarray(row.sigma, dtype=float) ** 2
        energy /= energy.sum()
        index = np.arange(1, len(energy) + 1)
        left.semilogy(index, np.where(energy > 0, energy, np.nan), color=NEUTRAL)
        left.axhline(1 / len(energy), color=MUTED, linestyle="--", linewidth=1)
        left.set_title(f"{row.id}  {row.rows}x{row.cols}", fontsize=8)
        left.set_ylabel("share of energy")
        cumulative = np.cumsum(energy)
        right.plot(index, cumulative, color=NEUTRAL)
        reached = {share: int(getattr(row, f"n{share}")) for share in MILESTONES}
        places = np.array(list(reached.values()))
        right.plot(places, cumulative[places - 1], "o", color=ACCENT, markersize=4)
        lines = "\n".join(f"{share} % in {count}" for share, count in reached.items())
        right.text(0.97, 0.06, lines, transform=right.transAxes, ha="right", va="bottom", fontsize=8)
        right.set_title(f"cumulative, {len(energy)} components", fontsize=9)
        right.set_ylim(0, 1.05)
        for axis in (left, right):
            axis.set_xlabel("component")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle("Energy of singular components (dashed: spread evenly)")
    return figure
