"""Single tensors: histogram with the normal density and a box of statistics, and the cumulative distribution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots


def tensor_panels(views: Sequence[Any]) -> Figure:
    """A row of panels a tensor; views: with name, density, cdf and statistics, see weights.tensor_views."""
    if not views:
        return message("the model has none of the chosen tensors, or they have no spread")
    figure, axes = subplots(len(views), 2, width=5.4, height=3.4, squeeze=False)
    for (left, right), view in zip(axes, views, strict=True):
        density = view.density
        bounds = np.append(density["left"], density["right"].iloc[-1])
        left.stairs(density["density"], bounds, fill=True, color=NEUTRAL, alpha=0.5, linewidth=0)
        middle = (density["left"] + density["right"]) / 2
        left.plot(middle, density["normal"], color=ACCENT, linestyle="--", linewidth=1.4, label="normal")
        left.set_xlabel("value")
        left.set_ylabel("density")
        left.set_title(_title(view.name))
        left.legend(loc="upper left")
        text = "\n".join(
            f"{name}: {value:{',.0f' if name == 'Elements' else '.4g'}}" for name, value in view.statistics.items()
        )
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": MUTED, "boxstyle": "round"}
        left.text(0.98, 0.96, text, transform=left.transAxes, ha="right", va="top", fontsize=7.5, bbox=box)
        right.plot(view.cdf["value"], view.cdf["probability"], color=NEUTRAL, linewidth=1.6)
        for probability, style in ((0.5, "-"), (0.95, "--")):
            place = float(np.interp(probability, view.cdf["probability"], view.cdf["value"]))
            label = f"{'median' if probability == 0.5 else 'p95'} {place:.4g}"
            right.axvline(place, color=MUTED, linestyle=style, linewidth=0.9, label=label)
        right.set_xlim(bounds[0], bounds[-1])
        right.set_xlabel("value")
        right.set_ylabel("cumulative share")
        right.set_title("Cumulative distribution")
        right.legend(loc="upper left")
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def _title(name: str, most: int = 46) -> str:
    return (name if len(name) <= most else f"...{name[3 - most :]}").replace("$", r"\$")
