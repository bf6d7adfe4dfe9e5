"""Figure of a mixture of experts: how often the router selects each, largest outputs, and weights behind them."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, SEQUENTIAL, message, name_point, subplots


def expert_routing(table: pd.DataFrame, *, residual_ratio: float, co_spike_threshold: float) -> Figure:
    """Heat maps of p_active and largest output by layer and expert, and contribution against co-spike score.

    table: layer, expert, tokens, p_active, max_output, contribution_ratio, co_spike_score, candidate, super_expert.
    """
    if table.empty:
        return message("This model has no mixture of experts.")
    figure, axes = subplots(1, 3, width=4.6, height=3.9)
    _map(figure, axes[0], table, "p_active", "share of tokens that reach the expert")
    _map(
        figure,
        axes[1],
        # An expert that no token was routed to has no output, not a small one.
        table.assign(log=np.log10(table.max_output.where(table.tokens > 0).clip(lower=1e-9))),
        "log",
        "log10 of its largest |output|",
    )
    for row in table[table.super_expert].itertuples():
        axes[1].plot(row.expert, row.layer, marker="*", ms=11, color=ACCENT, mec="white", mew=0.5)
    _scores(axes[2], table, residual_ratio, co_spike_threshold)
    count = int(table.super_expert.sum())
    figure.suptitle(f"{len(table)} experts, {count} super expert{'' if count == 1 else 's'}")
    return figure


def _map(figure: Figure, axis, table: pd.DataFrame, column: str, title: str) -> None:
    grid = table.pivot_table(index="layer", columns="expert", values=column, aggfunc="max")
    extent = (grid.columns.min() - 0.5, grid.columns.max() + 0.5, grid.index.max() + 0.5, grid.index.min() - 0.5)
    full = grid.reindex(range(int(grid.index.min()), int(grid.index.max()) + 1))
    image = axis.imshow(full.to_numpy(float), aspect="auto", cmap=SEQUENTIAL, interpolation="nearest", extent=extent)
    axis.set(xlabel="expert", ylabel="layer", title=title)
    axis.grid(visible=False)
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=axis)


def _scores(axis, table: pd.DataFrame, residual_ratio: float, co_spike_threshold: float) -> None:
    seen = table.dropna(subset=["co_spike_score"])
    ratio = seen.contribution_ratio.clip(lower=1e-3)
    axis.scatter(seen.co_spike_score, ratio, s=np.clip(seen.tokens, 4, 60), color=NEUTRAL, alpha=0.55, lw=0)
    chosen = seen[seen.candidate]
    axis.scatter(chosen.co_spike_score, chosen.contribution_ratio, marker="*", s=130, color=ACCENT, zorder=4)
    labels: dict[tuple, list] = {}
    for row in chosen.nlargest(8, "contribution_ratio").itertuples():
        # The labels of neighbours are placed below each other.
        near = round(row.co_spike_score, 1), round(np.log10(row.contribution_ratio), 0)
        labels.setdefault(near, []).append(row)
    axis.axhline(residual_ratio, color=MUTED, ls="--", lw=1)
    axis.axvline(co_spike_threshold, color=MUTED, ls=":", lw=1)
    axis.set(yscale="log", xlim=(0, 1.05), xlabel="co-spike score", ylabel="contribution / median |h| of its token")
    for rows in labels.values():
        names = "\n".join(f"L{row.layer} expert {row.expert} [{row.row}, {row.column}]" for row in rows)
        point = rows[0].co_spike_score, np.sqrt(rows[0].contribution_ratio * rows[-1].contribution_ratio)
        name_point(axis, point, names, clear=12, fontsize=7.5)
    axis.set_title("the strongest weight of each expert")
