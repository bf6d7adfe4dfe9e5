"""Figures of token weights beside how often the tokens occur."""

from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from weight_atlas.figures.ablation_axes import few_log_ticks
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots
from weight_atlas.figures.token_weights import bins_of_weights, few_ticks
from weight_atlas.figures.vocabulary import printable
from weight_atlas.figures.weights import value_cdf_axes
from weight_atlas.numbers_of import number_of

_COUNT = FuncFormatter(lambda value, _: f"{value:,.0f}")
_SHARES = (0.95, 0.99)
_NAMED = 6  # outliers that are labelled
_GRID = 60  # cells of a side of the map of ranks


class Tables(Protocol):
    """What six_panels draws; see token_weights.beside_counts."""

    @property
    def tokens(self) -> pd.DataFrame: ...
    @property
    def bins(self) -> pd.DataFrame: ...
    @property
    def outliers(self) -> pd.DataFrame: ...
    @property
    def divergence(self) -> pd.DataFrame: ...
    @property
    def line(self) -> tuple[float, float]: ...
    @property
    def label(self) -> str: ...


def six_panels(found: Tables, threshold: int) -> Figure:
    """Weight against frequency, histograms, coverage, weight by count, outliers and ranks.

    Its table of tokens has columns id, token, weight, masked, count, outlier (bool), and `language` where it is known;
    line: slope and intercept of weight on log(1 + count); label: what the weights are. threshold: of rare tokens.
    """
    tokens, label = found.tokens, found.label
    used = tokens[~tokens["masked"] & np.isfinite(tokens["weight"])]
    if used.empty or not used["count"].sum():
        return message("no occurrences of tokens with a weight")
    figure, axes = subplots(2, 3, width=4.9, height=3.8)
    _scatter(axes[0, 0], used, found.line, threshold, label)
    _histograms(axes[0, 1], used, threshold, label)
    _coverage(axes[0, 2], used)
    _by_count(axes[1, 0], found.bins, label)
    _outliers(axes[1, 1], used, found.outliers, threshold, label)
    _ranks(axes[1, 2], used, found.divergence)
    return figure


def cdfs(weights: pd.DataFrame, counts: np.ndarray, label: str) -> Figure:
    """The count CDF beside the weight CDF: occurrences so far from the rarest token on, and the share of tokens.

    weights: of value_cdf; counts: (V,).
    """
    if weights.dropna().empty or not counts.sum():
        return message("no occurrences of tokens with a weight")
    figure, (left, right) = subplots(1, 2, width=4.8, height=3.4)
    count_cdf_axes(left, counts)
    value_cdf_axes(right, weights, label)
    right.set(title="Weights", ylabel="cumulative share of tokens")
    return figure


def count_cdf(counts: np.ndarray) -> Figure:
    """Occurrences so far by frequency rank, rarest first: in numbers, and as a share of the corpus. counts: (V,)."""
    if not counts.sum():
        return message("The corpus has no tokens.")
    figure, (left, right) = subplots(1, 2, width=4.8, height=3.4)
    count_cdf_axes(left, counts)
    shares = np.sort(counts).cumsum() / counts.sum()
    right.plot(np.arange(1, len(shares) + 1), shares, color=NEUTRAL)
    right.set(title="Share of the corpus", xlabel="rank, rarest first", ylabel="share of the occurrences so far")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.xaxis.set_major_formatter(_COUNT)
    return figure


def count_cdf_axes(axis: Axes, counts: np.ndarray) -> None:
    """Draw occurrences so far by frequency rank, rarest first, and how many tokens are rare."""
    ascending = np.sort(counts)
    axis.plot(np.arange(1, len(ascending) + 1), ascending.cumsum(), color=NEUTRAL)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(0, ascending.sum() * 2)
    for limit, name, style in ((1, "never seen", "-"), (10, "seen < 10 times", "--"), (100, "seen < 100 times", ":")):
        below = int((ascending < limit).sum())
        axis.axvline(below, color=ACCENT, linestyle=style, linewidth=1, label=f"{name}: {number_of(below, 'token')}")
    axis.set(title="Counts, rarest first", xlabel="rank, rarest first", ylabel="occurrences so far")
    axis.xaxis.set_major_formatter(_COUNT)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")


def _scatter(axis: Axes, used: pd.DataFrame, line: tuple[float, float], threshold: int, label: str) -> None:
    below = used["count"] < threshold
    if "language" in used and used["language"].ne("").any():
        groups = used["language"].value_counts()
        named = [name for name in groups.index if name][: len(PALETTE) - 1]
        parts = [
            (printable(name), used["language"] == name, colour) for name, colour in zip(named, PALETTE, strict=False)
        ]
        parts.insert(0, ("others", ~used["language"].isin(named), MUTED))
    else:
        parts = [
            (f"{number_of(threshold, 'time')} and more", ~below, NEUTRAL),
            (f"less than {number_of(threshold, 'time')}", below, ACCENT),
        ]
    for name, chosen, colour in parts:
        if chosen.any():
            _points(axis, used[chosen], color=colour, label=f"{name} ({int(chosen.sum()):,})")
    slope, intercept = line
    if np.isfinite(slope):
        x = np.linspace(0, np.log1p(used["count"].max()), 200)
        axis.plot(np.exp(x), intercept + slope * x, color="black", linewidth=1.2, label=f"{slope:+.3g} per e-fold")
    axis.axvline(threshold + 1, color=MUTED, linestyle="--", linewidth=0.8)
    _weight_axis(axis, used["weight"].to_numpy())
    _count_axis(axis)
    axis.set(title="Weight against frequency", ylabel=label)
    _few_ticks(axis)
    _legend(axis, 3)


def _points(axis: Axes, part: pd.DataFrame, **style: Any) -> None:
    alpha = float(np.clip(3000 / max(1, len(part)), 0.08, 0.6))
    axis.plot(part["count"] + 1, part["weight"], ".", markersize=3, markeredgewidth=0, alpha=alpha, **style)


def _legend(axis: Axes, markerscale: float = 1) -> None:
    legend = axis.legend(
        loc="best", markerscale=markerscale, fontsize=7, frameon=True, framealpha=0.8, edgecolor="none"
    )
    for handle in legend.legend_handles:  # what is drawn faint since there are many of it
        if handle is not None:
            handle.set_alpha(1)


def _count_axis(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.set_xlabel("occurrences + 1")


def _weight_axis(axis: Axes, weights: np.ndarray) -> None:
    """A logarithmic axis for positive weights of some range, a symmetric one where signs differ and ends are far."""
    size = np.abs(weights[weights != 0])
    if not len(size):
        return
    middle = float(np.quantile(size, 0.25))
    if weights.min() > 0:
        if weights.max() > 3 * weights.min():
            axis.set_yscale("log")
    elif size.max() > 8 * float(np.quantile(size, 0.9)):
        axis.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(middle)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _few_ticks(axis: Axes) -> None:
    """Ticks of a panel of weights over counts, whose limits are final."""
    few_log_ticks(axis.xaxis)
    if axis.get_yscale() == "log":
        few_log_ticks(axis.yaxis)
    elif axis.get_yscale() == "linear":
        axis.ticklabel_format(axis="y", useOffset=False)


def _histograms(axis: Axes, used: pd.DataFrame, threshold: int, label: str) -> None:
    """Two histograms in the place of one panel."""
    axis.set_axis_off()
    axis.set_title("Histograms")
    upper, lower = axis.inset_axes((0, 0.58, 1, 0.42)), axis.inset_axes((0, 0, 1, 0.40))
    logs = np.log10(used["count"].to_numpy() + 1.0)
    counts, edges = np.histogram(logs, 100)
    upper.stairs(counts, 10**edges, fill=True, color=PALETTE[1], alpha=0.6)
    upper.set_xscale("log")
    upper.axvline(threshold + 1, color=ACCENT, linestyle="--", linewidth=1, label=f"threshold {threshold:,}")
    upper.set_xlabel("occurrences + 1", labelpad=1)
    upper.legend(loc="upper right")
    weights = used["weight"].to_numpy()
    low, high = np.quantile(weights, (0.001, 0.999))
    far = max(weights.max() - high, low - weights.min()) > 4 * (high - low)
    bins_of_weights(lower, weights[(weights >= low) & (weights <= high)] if far else weights)
    lower.set_xlabel(f"{label}, without the outer 0.1 %" if far else label)
    few_ticks(lower, 5)
    few_log_ticks(upper.xaxis)
    for each in (upper, lower):
        each.set_yscale("log")
        each.set_ylabel("tokens")
        few_log_ticks(each.yaxis)


def _coverage(axis: Axes, used: pd.DataFrame) -> None:
    descending = np.sort(used["count"].to_numpy())[::-1]
    covered = descending.cumsum() / descending.sum()
    axis.plot(np.arange(1, len(covered) + 1), covered, color=NEUTRAL)
    for share in _SHARES:
        rank = int(np.searchsorted(covered, share - 1e-12)) + 1
        axis.plot([1, rank, rank], [share, share, 0], color=MUTED, linestyle="--", linewidth=0.8)
        axis.plot(rank, share, "o", color=ACCENT, markersize=4, label=f"{share:.0%}: {number_of(rank, 'token')}")
    axis.set_xscale("log")
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set(title="Coverage, most frequent first", xlabel="rank", ylabel="share of the corpus")
    few_log_ticks(axis.xaxis)
    axis.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")


def _by_count(axis: Axes, bins: pd.DataFrame, label: str) -> None:
    place = np.arange(len(bins))
    there = bins["n"].to_numpy() > 0
    rows = bins[there]
    spread = [rows["mean"] - rows["p5"], rows["p95"] - rows["mean"]]
    axis.bar(place[there], rows["mean"], color=NEUTRAL, alpha=0.6, width=0.7)
    axis.errorbar(
        place[there], rows["mean"], np.clip(spread, 0, None), fmt="none", color=MUTED, capsize=3, label="p5 to p95"
    )
    axis.errorbar(
        place[there],
        rows["mean"],
        1.96 * rows["error"],
        fmt="o",
        color=ACCENT,
        markersize=3,
        label="mean, 95 % interval",
    )
    names = [f"{name}\n({n:,})" for name, n in zip(bins["counts"], bins["n"], strict=True)]
    axis.set_xticks(place, names, fontsize=7)
    axis.set_xlim(-0.6, len(bins) - 0.4)
    axis.set(title="Weight by count", xlabel="occurrences (tokens)", ylabel=f"mean {label}")
    _legend(axis)


def _outliers(axis: Axes, used: pd.DataFrame, outliers: pd.DataFrame, threshold: int, label: str) -> None:
    far = used["outlier"]
    _points(axis, used[~far], color=MUTED, label=f"others ({int((~far).sum()):,})")
    _points(axis, used[far], color=ACCENT, label=f"outliers ({int(far.sum()):,})")
    _weight_axis(axis, used["weight"].to_numpy())
    _count_axis(axis)
    axis.set(title=f"High weight, less than {number_of(threshold, 'time')}", ylabel=label)
    _few_ticks(axis)
    _legend(axis, 3)
    texts = [printable(token, 12) or f"id {id}" for token, id in zip(outliers["token"], outliers["id"], strict=True)]
    if texts:
        text = "highest: " + ", ".join(texts[:_NAMED])
        axis.text(
            0.98, 0.02, text, transform=axis.transAxes, ha="right", va="bottom", fontsize=6, color=ACCENT, wrap=True
        )


def _ranks(axis: Axes, used: pd.DataFrame, divergent: pd.DataFrame) -> None:
    n = len(used)
    by_count, by_weight = (used[name].rank(method="average").to_numpy() / n for name in ("count", "weight"))
    cells, *_ = np.histogram2d(by_count, by_weight, bins=_GRID, range=((0, 1), (0, 1)))
    shown = np.ma.masked_equal(cells.T, 0)
    axis.imshow(
        shown, origin="lower", extent=(0, 1, 0, 1), aspect="auto", cmap=SEQUENTIAL, norm=LogNorm(1, max(2, cells.max()))
    )
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    axis.plot(
        divergent["count_rank"] / n, divergent["weight_rank"] / n, "x", color=ACCENT, markersize=4,
        label=f"{len(divergent):,} most divergent",
    )  # fmt: skip
    axis.set(title="Ranks", xlabel="rank by count / tokens", ylabel="rank by weight / tokens")
    axis.grid(visible=False)
    _legend(axis)
