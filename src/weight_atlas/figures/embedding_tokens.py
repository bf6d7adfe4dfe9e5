"""Token embeddings as clouds of vectors: norms, norms by id, components of the variance, neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, subplots

# Ids drawn together where there are more than this many tokens.
DRAWN = 4000
# Norms that reach this many times their median need a logarithmic axis.
FAR = 8


def embedding_panels(clouds: Sequence[Any], measures: pd.DataFrame, neighbours: pd.DataFrame) -> Figure:
    """A row of four panels for each embedding: norms, norms by id, components of the variance, nearest neighbours.

    clouds: of embeddings.geometry; measures: a row for each embedding; neighbours: of all.
    """
    figure, axes = subplots(len(clouds), 4, width=4.1, height=3.4, squeeze=False)
    for row, cloud in zip(axes, clouds, strict=True):
        measured, norms = measures[measures["id"] == cloud.row.id].iloc[0], cloud.table["norm"].to_numpy()
        _norms(row[0], norms, measured.role)
        _by_id(row[1], norms)
        _components(row[2], cloud.variances, cloud.null, measured)
        _neighbours(row[3], neighbours[neighbours["id"] == cloud.row.id])
    figure.suptitle("Embeddings as clouds of vectors")
    return figure


def _norms(axis: Axes, norms: np.ndarray, role: str) -> None:
    known = norms[np.isfinite(norms)]
    positive = known[known > 0]
    far = len(positive) > 0 and positive.max() > FAR * np.median(positive)
    if far:
        axis.set_xscale("log")
    bins = np.geomspace(positive.min(), positive.max(), 81).tolist() if far else 80
    axis.hist(positive if far else known, bins=bins, color=NEUTRAL, alpha=0.85)
    axis.axvline(float(np.median(known)) if len(known) else 0.0, color=ACCENT, linewidth=1, label="median")
    axis.set_yscale("log")
    axis.set(title=f"{role}: norms of {len(norms):,} rows", xlabel="L2 norm", ylabel="rows")
    axis.legend(loc="upper right")


def _by_id(axis: Axes, norms: np.ndarray) -> None:
    size = -(-len(norms) // DRAWN)
    if size == 1:
        axis.scatter(np.arange(len(norms)), norms, s=3, color=NEUTRAL, alpha=0.5, linewidths=0)
    else:
        starts = np.arange(0, len(norms), size)
        known = np.where(np.isfinite(norms), norms, np.nan)
        low, high = np.fmin.reduceat(known, starts), np.fmax.reduceat(known, starts)
        middle = [
            float(np.nanmedian(part)) if np.isfinite(part).any() else np.nan for part in np.split(known, starts[1:])
        ]
        axis.fill_between(starts, low, high, color=MUTED, alpha=0.5, linewidth=0, label=f"range of {size} ids")
        axis.plot(starts, middle, color=NEUTRAL, linewidth=0.7, label="median")
        axis.legend(loc="upper right")
    positive = norms[norms > 0]
    if len(positive) and positive.max() > FAR * np.median(positive):
        axis.set_yscale("log")
    axis.set(title="norm by id", xlabel="row (token id)", ylabel="L2 norm")
    axis.margins(x=0.01)


def _components(axis: Axes, variances: np.ndarray, null: np.ndarray, measured: pd.Series) -> None:
    for values, colour, style, name in ((variances, NEUTRAL, "-", "rows"), (null, MUTED, "--", "Gaussian rows")):
        total = values.sum()
        if total > 0:
            place = np.arange(1, len(values) + 1)
            axis.loglog(place, np.where(values > 0, values / total, np.nan), color=colour, linestyle=style, label=name)
    title = f"principal components (IsoScore {measured.isoscore:.3f}, noise {measured.isoscore_null:.3f})"
    axis.set(title=title, xlabel="component", ylabel="share of the variance")
    axis.title.set_fontsize(9)
    axis.legend(loc="lower left")


def _neighbours(axis: Axes, neighbours: pd.DataFrame) -> None:
    first = neighbours[neighbours["rank"] == 1]
    if first.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "no neighbours were asked for", ha="center", color=MUTED)
        return
    for colour, (why, rows) in zip(PALETTE, first.groupby("why", sort=False), strict=False):
        axis.scatter(rows["norm"], rows["cosine"], s=14, color=colour, alpha=0.8, linewidths=0, label=str(why))
    axis.axhline(first["cosine_null"].iloc[0], color=MUTED, linestyle="--", linewidth=1, label="nearest of random rows")
    axis.set_ylim(min(-0.05, float(first["cosine"].min()) - 0.05), 1.05)
    if first["norm"].max() > FAR * first["norm"].median():
        axis.set_xscale("log")
    axis.set(title="cosine with the nearest row", xlabel="L2 norm", ylabel="cosine")
    axis.legend(fontsize=7)
