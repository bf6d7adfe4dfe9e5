"""Figures of interventions on single weights: changes beside controls, and the tokens that change most."""

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, message, subplots
from weight_atlas.figures.vocabulary import printable

KINDS = {
    "edit": ("the weight", ACCENT),
    "neuron_zero": ("its whole neuron zero", PALETTE[1]),
    "mean_contribution": ("its mean contribution", PALETTE[4]),
    "random_coord": ("weights nearest in size", NEUTRAL),
    "random_shift": ("other weights, shifted as far", PALETTE[2]),
    "no_op": ("nothing", MUTED),
}
INK = "#22262e"
METRICS = {
    "loss": "loss (nats)",
    "entropy": "entropy (nats)",
    "topk_margin": "top-k margin",
    "stopword_mass": "stop-word mass",
}


def deltas_of(deltas: pd.DataFrame, title: str) -> Figure:
    """One target: change of each metric by the edit and by its controls, with intervals.

    deltas: kind, metric, delta, low, high, draws, tokens, edit_there (the last five may be missing), baseline.
    """
    if deltas.empty:
        return message("Nothing was measured.")
    metrics = [name for name in METRICS if name in set(deltas.metric)]
    kinds = [name for name in KINDS if name in set(deltas.kind)]
    figure, axes = subplots(1, len(metrics), width=3.3, height=1.2 + 0.42 * len(kinds), sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        own = deltas[deltas.metric == metric].set_index("kind").reindex(kinds)
        for place, row in enumerate(own.to_dict("records")):
            _dot(axis, place, row, KINDS[kinds[place]][1], first=axis is axes[0, 0])
        symmetric_log(axis, own[["delta", "low", "high", "edit_there"]].to_numpy(float))
        axis.axvline(0, color=INK, lw=0.8)
        axis.set(title=METRICS[metric], xlabel=f"change from {own.baseline.dropna().iloc[0]:.3g}")
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(kinds)), [_named(kind, deltas[deltas.kind == kind].iloc[0]) for kind in kinds])
    axes[0, 0].set_ylim(len(kinds) - 0.5, -0.5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"{title}: change of predictions beside controls")
    return figure


def _named(kind: str, row: pd.Series) -> str:
    name = KINDS[kind][0]
    return name if pd.isna(row.draws) else f"{name}\n{row.draws:.0f} draws, {row.tokens:.0f} tokens"


def _dot(axis, place: int, row: dict, colour: str, first: bool) -> None:
    """A change with its range, and its value at the right edge; the change that draws are compared with as a ring."""
    if pd.isna(row["delta"]):
        return
    random = pd.notna(row["edit_there"])
    label = "mean and range of draws" if random else "change, 95% interval" if pd.notna(row["low"]) else None
    label = label if first and label not in axis.get_legend_handles_labels()[1] else None
    if pd.notna(row["low"]):
        axis.plot([row["low"], row["high"]], [place, place], color=colour, lw=4, alpha=0.45, solid_capstyle="butt")
    axis.plot(row["delta"], place, "o", color=colour, ms=5, label=label, zorder=3)
    if random:
        ring = {"marker": "o", "ms": 7, "mfc": "none", "mec": ACCENT, "ls": "none"}
        known = axis.get_legend_handles_labels()[1]
        name = "the weight, on the draws' tokens"
        axis.plot(row["edit_there"], place, **ring, label=name if first and name not in known else None)
    edge = axis.get_yaxis_transform()
    axis.text(1.0, place - 0.28, signed(row["delta"]), transform=edge, va="center", ha="right", fontsize=7, color=INK)


def symmetric_log(axis, values: np.ndarray) -> None:
    """A symmetric logarithmic x axis on which the smallest of some values still has room beside the largest."""
    values = values[np.isfinite(values)]
    sizes = np.abs(values[values != 0])
    if not len(sizes):
        axis.set_xlim(-1, 1)
        return
    smallest = max(sizes.min(), sizes.max() * 1e-5)
    threshold = 10 ** np.floor(np.log10(smallest))
    axis.set_xscale("symlog", linthresh=threshold, linscale=0.5)
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    axis.set_xlim(3 * low if low < 0 else -threshold, 3 * high if high > 0 else threshold)
    decades = [np.log10(3 * max(end, threshold) / threshold) + 0.5 for end in (-low, high)]
    room = 0.2 * sum(decades)
    sides = ((-1, _decades(decades[0], room)), (1, _decades(decades[1], room)))
    ticks = sorted([0.0, *(sign * threshold * 10.0**power for sign, powers in sides for power in powers)])
    axis.set_xticks(ticks, [signed_power(tick) for tick in ticks], fontsize=7)
    axis.xaxis.set_minor_locator(ticker.NullLocator())


def _decades(length: float, room: float) -> list[int]:
    """At most two powers of ten above the threshold, with room between them, of a side of so many decades."""
    # The linear part takes half a decade, and the axis ends a little beyond the last value.
    last = int(length - 0.5)
    powers = [power for power in (round(last / 2), last) if power + 0.5 >= room]
    return powers[-1:] if len(powers) == 2 and powers[1] - powers[0] < room else powers


def signed_power(value: float) -> str:
    """A power of ten, its negative or zero, as a tick label: short numbers in full."""
    if value == 0:
        return "0"
    power = round(np.log10(abs(value)))
    return f"{value:g}" if -2 <= power <= 3 else f"{'−' if value < 0 else ''}$10^{{{power}}}$"


def signed(value: float) -> str:
    """A change with its sign, to three digits; zero without."""
    return f"{value:+.3g}" if value else "0"


def weights_overview(weights: pd.DataFrame, title: str = "", most: int = 20) -> Figure:
    """All targets of a model: |change of loss| by the edit, with interval, beside the largest of the random draws.

    weights: layer, expert, row, col, delta_loss, delta_loss_ci_2.5, delta_loss_ci_97.5 and, of null and null_shift,
    <null>_delta_loss, <null>_ratio_loss (all but the first five may be missing). most: lines.
    """
    if weights.empty:
        return message("No weight to intervene on: none was detected, and none is configured.")
    shown = weights.sort_values("delta_loss", ascending=False, key=abs).head(most)
    figure, axis = subplots(width=8, height=1.5 + 0.32 * len(shown))
    for place, row in enumerate(shown.to_dict("records")):
        axis.plot(abs(row["delta_loss"]), place, "o", color=ACCENT, zorder=3, label=None if place else "the weight")
        low, high = row.get("delta_loss_ci_2.5"), row.get("delta_loss_ci_97.5")
        if pd.notna(low) and low * high > 0:
            axis.plot(np.abs([low, high]), [place, place], color=ACCENT, lw=2, alpha=0.6)
        for null, kind in (("null", "random_coord"), ("null_shift", "random_shift")):
            name, colour = KINDS[kind]
            ratio, delta = row.get(f"{null}_ratio_loss"), row.get(f"{null}_delta_loss")
            if pd.notna(ratio) and ratio > 0 and pd.notna(delta):
                axis.plot(abs(delta) / ratio, place, "|", color=colour, ms=12, mew=2, label=f"farthest of {name}")
    names = [
        f"L{row.layer}{'' if pd.isna(row.expert) else f' E{int(row.expert)}'} [{row.row}, {row.col}]"
        for row in shown.itertuples()
    ]
    axis.set_yticks(range(len(shown)), names)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    if (shown.delta_loss != 0).any():
        axis.set_xscale("log")
    more = f" ({len(shown)} of {len(weights)})" if len(weights) > len(shown) else ""
    axis.set(xlabel="|change of loss|, nats per token")
    axis.grid(axis="y", visible=False)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{title}\nwhat changing single weights does{more}".strip())
    return figure


def tokens_moved(moved: pd.DataFrame, title: str, k: int = 15) -> Figure:
    """Measured changes of tokens by one edit against its direct effects.

    moved: text, special, direct_effect, probability_change, log_odds_change, one row per token.
    """
    known = moved[~moved.special.astype(bool) & moved.direct_effect.notna()]
    if known.empty or not known.log_odds_change.abs().max() > 0:
        return message("No token moved.")
    figure, axes = subplots(1, 4, width=3.5, height=1.2 + 0.17 * 2 * k)
    columns = {
        "direct_effect": ("direct effect", "effect on the logit, before the norm's division"),
        "log_odds_change": ("measured log-odds", "mean change of log p / (1 - p)"),
        "probability_change": ("measured probability", "mean change of p"),
    }
    for axis, (column, (name, unit)) in zip(axes, columns.items(), strict=False):
        ordered = known.sort_values(column, ascending=False, kind="stable")
        shown = pd.concat([ordered.head(k), ordered.tail(k)]).drop_duplicates("id")
        at = np.arange(len(shown))
        axis.barh(at, shown[column], color=np.where(shown[column] > 0, NEUTRAL, ACCENT), height=0.75)
        axis.set_yticks(at, [printable(text, 14) for text in shown.text], fontsize=7)
        axis.invert_yaxis()
        axis.axhline(k - 0.5, color=MUTED, lw=0.8, ls=":")
        axis.set(title=name, xlabel=unit)
        axis.grid(axis="y", visible=False)
        axis.locator_params(axis="x", nbins=4)
    axes[3].scatter(known.direct_effect, known.log_odds_change, s=4, alpha=0.4, color=NEUTRAL, lw=0, rasterized=True)
    axes[3].axhline(0, color=MUTED, lw=0.8)
    axes[3].axvline(0, color=MUTED, lw=0.8)
    axes[3].set(title="all tokens", xlabel="direct effect on the logit", ylabel="mean change of log-odds")
    figure.suptitle(f"{title}: tokens that it should move, and tokens that move")
    return figure
