"""Figures of the effect of ablations on perplexity."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.ablation_axes import COLOURS, WORDS, readable
from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots


def ablation_perplexity(table: pd.DataFrame) -> Figure:
    """Perplexity of every ablation on a log axis, with the band that random controls span and the value at each bar.

    table: corpus, ablation, kind, perplexity, ratio, severity (see ablations.perplexity); a panel per corpus. A change
    with several variants shows the median and the worst; one that the model does not allow is left out.
    """
    table = table[table.severity != "no variants"]
    if (table.kind == "baseline").all():
        values = ", ".join(f"{row.perplexity:.4g} on {row.corpus}" for row in table.itertuples())
        return message(f"No super weights were detected: nothing to ablate.\nPerplexity of the model: {values}")
    panels = {corpus: _bars(part) for corpus, part in table.groupby("corpus", sort=False)}
    height = 1.3 + 0.42 * max(map(len, panels.values()))
    figure, axes = subplots(1, len(panels), width=7.2, height=height, squeeze=False)
    for axis, (corpus, bars) in zip(axes.flat, panels.items(), strict=True):
        _panel(axis, bars, table[table.corpus == corpus])
        axis.set_title(f"Perplexity on {corpus} after each ablation")
    return figure


def _panel(axis, bars: pd.DataFrame, table: pd.DataFrame) -> None:
    baseline = table.loc[table.kind == "baseline", "perplexity"].item()
    places = np.arange(len(bars))[::-1]
    # Room on the right for the values beside the longest bar.
    lengths = bars.perplexity.clip(upper=baseline * 1e12).fillna(baseline)
    decades = max(np.log10(lengths.max() / baseline), 0.01)
    low, high = baseline / 10 ** (0.1 + 0.05 * decades), lengths.max() * 10 ** (0.5 + 0.8 * decades)
    colours = [COLOURS.get(bar.kind, ACCENT) if np.isfinite(bar.perplexity) else "none" for bar in bars.itertuples()]
    axis.barh(places, lengths, color=colours, height=0.62)
    axis.set(xscale="log", xlabel="perplexity (log scale)", yticks=places, yticklabels=bars.label, xlim=(low, high))
    _null_band(axis, table, baseline, 10 ** (0.006 * np.log10(high / low)))
    for place, length, text in zip(places, lengths, bars.text, strict=True):
        axis.annotate(text, (length, place), (6, 0), textcoords="offset points", va="center", fontsize=8.5)
    axis.grid(axis="y", visible=False)


def _bars(table: pd.DataFrame) -> pd.DataFrame:
    """One bar for each kind of change of each ablation, or its median and its worst variant where it has several."""
    rows = []
    for (ablation, kind), part in table.groupby(["ablation", "kind"], sort=False):
        label = WORDS[kind] if kind == "baseline" else f"{ablation.replace('_', ' ')}: {WORDS[kind]}"
        order = part.sort_values("perplexity", kind="stable")
        chosen = {"": -1} if len(part) == 1 else {", median": (len(part) - 1) // 2, f", worst of {len(part)}": -1}
        for suffix, place in chosen.items():
            row = order.iloc[place]
            rows.append((label + suffix, kind, row.perplexity, row.ratio, row.severity))
    bars = pd.DataFrame(rows, columns=["label", "kind", "perplexity", "ratio", "severity"])
    bars["text"] = [
        readable(bar.perplexity)
        + ("" if bar.kind == "baseline" or np.isnan(bar.ratio) else f"   ({readable(bar.ratio)}×, {bar.severity})")
        for bar in bars.itertuples()
    ]
    return bars


def _null_band(axis, table: pd.DataFrame, baseline: float, margin: float) -> None:
    """Mark the span of the random draws, at least `margin` wide as a factor: they often differ in the fourth digit."""
    random = table[table.kind == "random"].perplexity
    axis.axvline(baseline, color=MUTED, lw=1, ls=":")
    if len(random):
        low, high = min(random.min(), baseline) / margin, max(random.max(), baseline) * margin
        axis.axvspan(low, high, color=NEUTRAL, alpha=0.25, lw=0)
        top = axis.get_ylim()[1]
        axis.annotate("range of the random draws", (high, top), (3, -2), textcoords="offset points", fontsize=7.5,
                      color=NEUTRAL, va="top")  # fmt: skip
