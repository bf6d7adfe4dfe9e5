"""Norms of the rows of embeddings, those without training apart."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, message, subplots

_BINS = 80


def norms_of_rows(rows: pd.DataFrame) -> Figure:
    """Histogram of the norms, a panel a matrix. rows: columns id, role, norm, signs ("" for trained rows)."""
    known = rows[rows["norm"] > 0]
    if known.empty:
        return message("no embedding with rows that are not zero")
    groups = list(known.groupby(["id", "role"], sort=False))
    figure, axes = subplots(1, len(groups), width=4.8, height=3.2, squeeze=False)
    for axis, ((name, role), group) in zip(axes[0], groups, strict=True):
        norms, untrained = group["norm"].to_numpy(), (group["signs"] != "").to_numpy()
        low, high = norms.min() / 1.05, norms.max() * 1.05
        bins = np.geomspace(low, high, _BINS + 1)
        parts = [norms[~untrained], norms[untrained]]
        labels = [f"other rows ({len(parts[0]):,})", f"signs of no training ({len(parts[1]):,})"]
        axis.hist(parts, bins, stacked=True, color=[MUTED, ACCENT], label=labels, linewidth=0)
        axis.set_xscale("log" if high > 4 * low else "linear")
        axis.set_yscale("symlog", linthresh=1)
        axis.set_ylim(0)
        axis.set_xlabel("norm of the row")
        axis.set_ylabel("rows")
        axis.set_title(f"{role}: {name if len(name) < 40 else '...' + name[-37:]}".replace("$", r"\$"))
        axis.margins(y=0.2)
        axis.legend(loc="upper right")
        axis.set_ylim(top=axis.get_ylim()[1] * 8)
    return figure
