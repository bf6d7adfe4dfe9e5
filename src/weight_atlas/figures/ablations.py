"""Figures of what ablations do to perplexity."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots

COLOURS = {"baseline": MUTED, "random": NEUTRAL, "single": ACCENT, "super_weights": ACCENT}


def ablation_perplexity(table: pd.DataFrame) -> Figure:
    """Perplexity of every variant on a log axis, with the band that random controls span and the value at each bar.

    table: variant, kind, weights, perplexity, ratio, severity.
    """
    baseline = table.loc[table.kind == "baseline", "perplexity"].item()
    if len(table) == 1:
        return message(f"No super weights were found: nothing to ablate.\nPerplexity of the model: {baseline:.4g}")
    bars = _bars(table)
    figure, axis = subplots(width=7.2, height=1.3 + 0.42 * len(bars))
    places = np.arange(len(bars))[::-1]
    # Room on the right for the values, which stand beside the longest bar.
    lengths = bars.perplexity.clip(upper=baseline * 1e12)
    decades = np.log10(lengths.max() / baseline)
    low, high = baseline / 10 ** (0.1 + 0.05 * decades), lengths.max() * 10 ** (0.5 + 0.8 * decades)
    axis.barh(places, lengths, color=[COLOURS[kind] for kind in bars.kind], height=0.62)
    axis.set(xscale="log", xlabel="perplexity (log scale)", yticks=places, yticklabels=bars.label, xlim=(low, high))
    _null_band(axis, table, baseline, 10 ** (0.006 * np.log10(high / low)))
    for place, length, text in zip(places, lengths, bars.text, strict=True):
        axis.annotate(text, (length, place), (6, 0), textcoords="offset points", va="center", fontsize=8.5)
    axis.grid(axis="y", visible=False)
    count = int(table.loc[table.kind == "super_weights", "weights"].item())
    controls = int((table.kind == "random").sum())
    axis.set_title(f"Perplexity without {count} super weight{_plural(count)}, and in {controls} random draws")
    return figure


def _bars(table: pd.DataFrame) -> pd.DataFrame:
    """One bar for the baseline, each ablation, and the median and the worst of the random controls."""
    random = table[table.kind == "random"].sort_values("perplexity", kind="stable")
    rows = []
    for row in table[table.kind != "random"].itertuples():
        plural = _plural(row.weights)
        label = {"baseline": "unchanged", "super_weights": f"{row.weights} super weight{plural} = 0"}.get(
            row.kind, row.variant
        )
        rows.append((label, row.kind, row.perplexity, row.ratio, row.severity))
    if len(random):
        middle, worst = random.iloc[(len(random) - 1) // 2], random.iloc[-1]
        plural = _plural(worst.weights)
        for name, row in (("median", middle), ("worst", worst)):
            label = f"{row.weights} random weight{plural} = 0, {name}"
            rows.append((label, "random", row.perplexity, row.ratio, row.severity))
    bars = pd.DataFrame(rows, columns=["label", "kind", "perplexity", "ratio", "severity"])
    bars["text"] = [
        _number(bar.perplexity) + ("" if bar.kind == "baseline" else f"   ({_number(bar.ratio)}×, {bar.severity})")
        for bar in bars.itertuples()
    ]
    return bars


def _null_band(axis, table: pd.DataFrame, baseline: float, margin: float) -> None:
    """Mark what the random draws span, at least `margin` wide as a factor: they often differ in the fourth digit."""
    random = table[table.kind == "random"].perplexity
    axis.axvline(baseline, color=MUTED, lw=1, ls=":")
    if len(random):
        low, high = min(random.min(), baseline) / margin, max(random.max(), baseline) * margin
        axis.axvspan(low, high, color=NEUTRAL, alpha=0.25, lw=0)
        top = axis.get_ylim()[1]
        axis.annotate("range of the random draws", (high, top), (3, -2), textcoords="offset points", fontsize=7.5,
                      color=NEUTRAL, va="top")  # fmt: skip


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "infinite"
    if value >= 1e7:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{digits}·10$^{{{int(exponent)}}}$"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _plural(count: int) -> str:
    return "" if count == 1 else "s"
