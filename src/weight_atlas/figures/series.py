"""Figures of a series of checkpoints: its metrics and its drift as lines over the steps."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.style import MUTED, PALETTE, ROLE_COLOURS, message, subplots
from weight_atlas.figures.vocabulary import printable

MOST_LABELS, MOST_LINES = 8, 10
# Steps are drawn on a logarithmic axis where the longest stride is this many times the shortest.
UNEVEN = 20


def series_panels(
    courses: Sequence[tuple[str, str, pd.DataFrame]], drift: pd.DataFrame, names: Sequence[str], steps: Sequence[int]
) -> Figure:
    """How far the weights moved, by role, and the courses of some metrics: (title, scale, rows of course.course) each.

    drift: of drift.drift_by_role, with `number`. Dashed: what a random matrix would have, where that is known.
    """
    if len(names) < 2:
        return message("a single checkpoint: lines begin with the second one")
    panels = 2 * (len(drift) > 0) + len(courses)
    if not panels:
        return message("no metric of these checkpoints is known")
    columns = min(3, panels)
    figure, axes = subplots(-(-panels // columns), columns, width=4.6, height=3.0, squeeze=False)
    free = iter(axes.flat)
    at = np.array(steps or range(len(names)))
    if len(drift):
        placed = drift.assign(x=at[drift["number"]])
        _drift(next(free), placed, "change_previous", "Change from the previous checkpoint / norm")
        _drift(next(free), placed, "cosine_first", "Cosine with the first checkpoint")
    for title, scale, rows in courses:
        _metric(next(free), title, scale, rows.assign(x=at[rows["number"]]))
    for axis in axes.flat[:panels]:
        _checkpoints(axis, names, steps)
    for axis in free:
        axis.axis("off")
    _legend(figure, axes.flat[:panels])
    return figure


def metric_panels(
    courses: Sequence[tuple[str, str, pd.DataFrame]], names: Sequence[str], steps: Sequence[int]
) -> Figure:
    """Courses of the metrics of one analysis, as series_panels draws them."""
    return series_panels(courses, pd.DataFrame(), names, steps)


def _drift(axis: Axes, drift: pd.DataFrame, column: str, title: str) -> None:
    for name, rows in drift[drift["role"] != "all"].groupby("role", sort=False):
        line = axis.plot(rows["x"], rows[column], marker="o", markersize=3, linewidth=1.2, label=str(name))
        line[0].set(color=_colour(str(name), 0), linestyle=_dashes(str(name)))
    whole = drift[drift["role"] == "all"]
    axis.plot(whole["x"], whole[column], color="black", linewidth=1.8, label="all")
    axis.set_title(title)


def _metric(axis: Axes, title: str, scale: str, rows: pd.DataFrame) -> None:
    for place, (name, colour, line) in enumerate(_lines(rows)):
        (drawn,) = axis.plot(line["x"], line["value"], marker="o", markersize=3, linewidth=1.2)
        drawn.set(color=colour, label=name, linestyle=_dashes(str(line["role"].iloc[0])))
        if line["n"].gt(1).any():
            axis.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.12, linewidth=0)
        if line["null"].notna().any() and (place == 0 or rows["null"].nunique() > 1):
            colour = MUTED if rows["null"].nunique() == 1 else colour
            axis.plot(line["x"], line["null"], color=colour, linestyle="--", linewidth=0.9)
    positive = rows["value"].dropna().gt(0).all()
    if scale == "log" and positive and rows["value"].max() > 10 * rows["value"].min():
        axis.set_yscale("log")
    axis.set_title(title, wrap=True)


def _lines(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, colour and rows of each line: by stack and role, or by what else tells numbers apart."""
    several = rows["stack"].nunique() > 1
    for place, ((stack, role, of), line) in enumerate(rows.groupby(["stack", "role", "of"], sort=False)):
        if place == MOST_LINES:
            break
        name = ", ".join(filter(None, (stack if several else "", role, _brief(of))))
        yield " ".join(printable(word, 24) for word in name.split(" ")), _colour(role, place), line


def _brief(of: str) -> str:
    """What tells numbers apart, each value once: "baseline, text"."""
    return ", ".join(dict.fromkeys(part.partition("=")[2] for part in of.split(", "))) if of else ""


def _colour(role: str, place: int) -> str:
    return ROLE_COLOURS.get(role, MUTED if role else PALETTE[place % len(PALETTE)])


def _dashes(role: str) -> str:
    return "-" if role in ROLE_COLOURS or not role else ":"


def _checkpoints(axis: Axes, names: Sequence[str], steps: Sequence[int]) -> None:
    """Mark the checkpoints; where their steps are not known, by their names."""
    if steps:
        strides = np.diff(steps)
        if strides.max() > UNEVEN * strides.min():
            axis.set_xscale("symlog", linthresh=max(1, min(step for step in steps if step > 0)))
        axis.set_xlabel("step")
        return
    every = -(-len(names) // MOST_LABELS)
    labels = [printable(name, 14) for name in names][::every]
    turn, side = (30, "right") if sum(map(len, labels)) > 30 else (0, "center")
    axis.set_xticks(range(0, len(names), every), labels, rotation=turn, ha=side)
    axis.set_xlim(-0.3, len(names) - 0.7)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for the roles, which several panels have; a panel of other lines has its own."""
    roles: dict[str, Artist] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        if set(labels) & {*ROLE_COLOURS, "all"}:
            roles |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in roles}
        elif labels:
            axis.legend(handles, labels, fontsize=7)
    if roles:
        figure.legend(list(roles.values()), list(roles), loc="outside lower center", ncols=min(8, len(roles)))
