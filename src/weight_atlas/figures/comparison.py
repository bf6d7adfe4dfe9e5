"""Two models compared: the change by role and depth, what changed most, and in how many directions."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import MUTED, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots

# Relative changes are drawn down to this share of the largest.
DEPTH = 1e-4


def change_map(roles: pd.DataFrame, title: str) -> Figure:
    """The relative change and the cosine of every role (rows) in every layer (columns), beside what is in no layer.

    roles: of comparison.table.by_role. title: names both models.
    """
    if not (roles["relative"] > 0).any():
        return message(f"{title}: nothing changed")
    names = roles["role"].astype(str) + roles["of_role"].fillna("").map(lambda of: f" of {of}" if of else "")
    names = names.where(roles["stack"] == roles["stack"].iloc[0], roles["stack"] + " " + names)
    table = roles.assign(name=names, column=roles["layer"].astype(object).where(roles["layer"].notna(), -1))
    height = float(np.clip(0.21 * table["name"].nunique() + 1.2, 2.6, 12))
    figure, axes = subplots(1, 2, width=float(np.clip(0.22 * table["column"].nunique() + 3, 4.5, 11)), height=height)
    _map(axes[0], table, "relative", "relative change, |b - a| / |a|")
    _map(axes[1], table.assign(apart=1 - table["cosine"]), "apart", "1 - cosine of a and b")
    figure.suptitle(title)
    return figure


def _map(axis: Axes, table: pd.DataFrame, column: str, title: str) -> None:
    grid = table.pivot_table(index="name", columns="column", values=column, sort=False, observed=True)
    grid = grid[sorted(grid.columns)]
    values = grid.to_numpy(dtype=float)
    finite = values[np.isfinite(values) & (values > 0)]
    top = float(finite.max()) if len(finite) else 1.0
    low = max(float(finite.min()) if len(finite) else top, top * DEPTH)
    colours = LogNorm(low if low < top else top / 10, top)
    axis.set_facecolor("#e3e5e8")
    shown = np.where(values > 0, np.clip(values, low, None), np.nan)
    image = axis.imshow(shown, aspect="auto", cmap=SEQUENTIAL, norm=colours, interpolation="nearest")
    axis.grid(False)
    axis.set_yticks(range(len(grid)), grid.index, fontsize=7)
    step = -(-len(grid.columns) // 24)
    labels = ["none" if layer == -1 else str(layer) for layer in grid.columns]
    axis.set_xticks(range(0, len(labels), step), labels[::step], fontsize=7)
    axis.set(title=title, xlabel="layer (grey: no change, or no such tensor)")
    axis.figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)


def most_changed_tensors(table: pd.DataFrame, title: str) -> Figure:
    """Relative change of the tensors that changed most, the largest at the top.

    table: of comparison.table.most_changed.
    """
    if table.empty:
        return message(f"{title}: nothing changed")
    rows = table.iloc[::-1]
    figure, axis = subplots(width=7.5, height=float(np.clip(0.21 * len(rows) + 1.1, 2, 9)))
    axis.hlines(range(len(rows)), 0, rows["relative"], color="#c4c8cf", linewidth=1.2)
    axis.plot(rows["relative"], range(len(rows)), "o", color=NEUTRAL, markersize=5)
    axis.plot(rows["relative_null"], range(len(rows)), "|", color=MUTED, markersize=8)
    axis.set_yticks(range(len(rows)), [_short(name) for name in rows["id_a"]], fontsize=7)
    axis.set_xlim(left=0)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set(xlabel="relative change, |b - a| / |a| (ticks: of an unrelated tensor)", title=title)
    axis.grid(False, axis="y")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"...{name[-45:]}"


def change_directions(table: pd.DataFrame, ranks: list[int], title: str) -> Figure:
    """What a LoRA of each rank would leave of the changes, by role, and the directions for 90 % of the energy by layer.

    table: of comparison.table.comparison_table.
    """
    columns = [f"lora_error_{rank}" for rank in ranks]
    known = table[table[columns[0]].notna()]
    if known.empty:
        return message(f"{title}: no matrix changed")
    figure, axes = subplots(1, 2, width=5.4, height=3.8)
    roles = list(known.groupby("role", sort=False))
    for number, (role, rows) in enumerate(roles):
        style = {
            "color": PALETTE[number % len(PALETTE)],
            "marker": "os^Dv"[number // len(PALETTE) % 5],
            "markersize": 3.5,
        }
        axes[0].plot(ranks, rows[columns].median().clip(lower=1e-4), label=str(role), **style)
        layers = rows[rows["layer"].notna()].groupby("layer")
        share = layers["n90"].median().astype(float) / layers["n90_null"].median()
        axes[1].plot(share.index.astype(int), share, linewidth=1.1, **style)
    axes[0].set_xscale("log", base=2)
    axes[0].set_yscale("log")
    axes[0].set_xticks(ranks, ranks)
    axes[0].set(
        xlabel="rank", ylabel="relative error left (median, 1e-4 at least)", title="a low-rank copy of the change"
    )
    axes[0].legend(fontsize=7, ncols=2)
    axes[1].axhline(1, color=MUTED, linestyle="--", linewidth=0.9)
    axes[1].set(xlabel="layer", ylabel="n90 over that of a random change", title="directions of the change")
    axes[1].set_ylim(bottom=0)
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title)
    return figure
