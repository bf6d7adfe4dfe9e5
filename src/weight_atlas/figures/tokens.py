"""Figures of token counts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots
from weight_atlas.numbers_of import number_of

_MARKED = ("95%", "99%")
_COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")


def token_coverage(counts: pd.DataFrame, summary: dict, title: str) -> Figure:
    """Coverage of a corpus by the tokens of a vocabulary, from the rarest and from the most frequent.

    counts: one row per token id, with a column `count`. summary: of these counts, with `tokens`, `unseen`, `below` and
    `coverage_rank`. Left: cumulative occurrences, rarest tokens first. Right: share of the corpus that the most
    frequent tokens cover, with the ranks of 95 % and 99 %.
    """
    if not summary["tokens"]:
        return message("The corpus has no tokens.")
    figure, (left, right) = subplots(1, 2)
    ascending = np.sort(counts["count"].to_numpy())
    _draw_rarest_first(left, ascending, summary)
    _draw_coverage(right, ascending[::-1], summary)
    figure.suptitle(title)
    return figure


def _draw_rarest_first(axes: Axes, ascending: np.ndarray, summary: dict) -> None:
    axes.plot(np.arange(1, len(ascending) + 1), ascending.cumsum(), color=NEUTRAL)
    axes.set(title="Cumulative count, rarest first", xlabel="rank, rarest first", ylabel="occurrences so far")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, summary["tokens"] * 2)
    axes.xaxis.set_major_formatter(_COUNT)
    limits = {"never seen": summary["unseen"], **{f"seen < {limit} times": n for limit, n in summary["below"].items()}}
    for (label, rank), line in zip(limits.items(), ("-", "--", ":"), strict=True):
        axes.axvline(rank, color=ACCENT, linestyle=line, linewidth=1, label=f"{label}: {number_of(rank, 'token')}")
    axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=1, edgecolor="none")


def _draw_coverage(axes: Axes, descending: np.ndarray, summary: dict) -> None:
    axes.plot(np.arange(1, len(descending) + 1), descending.cumsum() / summary["tokens"], color=NEUTRAL)
    axes.set(title="Coverage, most frequent first", xlabel="rank, most frequent first", ylabel="share of the corpus")
    axes.set_xscale("log")
    axes.set_xlim(1, max(2, len(descending)))
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(_COUNT)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    lines = []
    for name in _MARKED:
        rank = summary["coverage_rank"][name]
        share = descending[:rank].sum() / summary["tokens"]
        axes.plot([1, rank, rank], [share, share, 0], color=MUTED, linestyle="--", linewidth=0.8)
        axes.plot(rank, share, "o", color=ACCENT, markersize=4)
        lines.append(f"{name}: {number_of(rank, 'token')}")
    lines.append(f"all: {summary['types']:,} of {len(descending):,}")
    axes.text(0.03, 0.9, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=8)
