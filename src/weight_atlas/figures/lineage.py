"""How several models are related: a tree above the matrix of their distances."""

import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from weight_atlas.figures.style import ACCENT, MUTED, SEQUENTIAL, subplots

# Distances from here on are drawn on a logarithmic scale, smaller ones on a linear one.
SMALL = 1e-3
# Models whose distances are written into the matrix.
WRITTEN = 16


def lineage_map(names: list[str], distances: np.ndarray, tree: np.ndarray, kin: float) -> Figure:
    """A tree of models above their distances, in the tree's order.

    distances: 2 times the share of signs that differ, (models, models). tree: scipy's linkage. kin: distance at which
    families are cut.
    """
    side = float(np.clip(0.55 * len(names) + 2.6, 4.6, 14))
    figure, (above, below) = subplots(2, 1, width=side, height=side * 0.62, gridspec_kw={"height_ratios": [1, 2]})
    drawn = dendrogram(tree, ax=above, no_labels=True, color_threshold=kin, above_threshold_color=MUTED)
    above.axhline(kin, color=ACCENT, linestyle="--", linewidth=0.8)
    above.set_yscale("symlog", linthresh=SMALL)
    above.set_ylim(0, 1.3)
    above.set_ylabel("distance")
    above.grid(False, axis="x")
    order = drawn["leaves"]
    ordered, labels = distances[np.ix_(order, order)], [_short(names[leaf]) for leaf in order]
    scale = SymLogNorm(SMALL, vmin=0, vmax=1)
    image = below.imshow(ordered, norm=scale, cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    below.grid(False)
    below.set_xticks(range(len(labels)), labels, rotation=35, ha="right", fontsize=7)
    below.set_yticks(range(len(labels)), labels, fontsize=7)
    for row, column in np.ndindex(*ordered.shape) if len(labels) <= WRITTEN else ():
        value = ordered[row, column]
        text = "" if row == column else f"{value:.2g}"
        below.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if value > 0.003 else "black")
    bar = figure.colorbar(image, ax=below, fraction=0.05, pad=0.02)
    bar.set_label("2 x share of signs that differ", fontsize=8)
    figure.suptitle("Kinship of the models (families below the dashed line)")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:13]}...{name[-12:]}"
