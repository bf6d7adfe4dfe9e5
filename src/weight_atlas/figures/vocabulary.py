"""Figures of neurons' effects on the vocabulary: single neurons, and the map of all neurons of a model."""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import font_manager, ticker
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots

LABEL_COLOURS = {
    "prediction": PALETTE[2],
    "suppression": PALETTE[3],
    "partition": PALETTE[4],
    "entropy": PALETTE[1],
    "unclear": "#9aa1ac",
}


def printable(text: str, limit: int = 18) -> str:
    """A token as a label, with visible spaces and line ends, and codes of characters that the font lacks."""
    shown = "".join(_visible(character) for character in text)
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    return shown.replace("$", r"\$")


def _visible(character: str) -> str:
    named = {" ": "␣", "\n": "⏎", "\t": "⇥"}
    if character in named and ord(named[character]) in _glyphs():
        return named[character]
    return character if ord(character) in _glyphs() and character.isprintable() else f"\\u{ord(character):04x}"


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def neuron_card(up: pd.DataFrame, down: pd.DataFrame, effects: np.ndarray, title: str, note: str = "") -> Figure:
    """One neuron: its strongest tokens up and down, and the distribution of its effects against a Gaussian.

    up, down: str, effect, strongest first. effects: on all tokens. note: a line below the title.
    """
    if not len(effects) or (up.empty and down.empty):
        return message("This neuron reaches no token.")
    tokens = max(len(up), len(down))
    figure, axes = subplots(1, 3, width=3.9, height=1.3 + 0.17 * tokens)
    for axis, table, colour, name in ((axes[0], up, NEUTRAL, "up"), (axes[1], down, ACCENT, "down")):
        axis.barh(np.arange(len(table)), table.effect, color=colour, height=0.75)
        axis.set_yticks(np.arange(len(table)), [printable(text) for text in table["str"]], fontsize=7.5)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set(title=f"strongest tokens {name}", xlabel="effect on the logit")
    _against_gaussian(axes[2], np.asarray(effects, float))
    figure.suptitle(title + (f"\n{note}" if note else ""))
    return figure


def _against_gaussian(axis, effects: np.ndarray) -> None:
    mean, spread = effects.mean(), effects.std()
    axis.set(title="all tokens", xlabel="effect on the logit", ylabel="density")
    if spread == 0:
        axis.axvline(mean, color=NEUTRAL)
        return
    counts, edges = np.histogram(effects, bins=80, density=True)
    axis.stairs(counts, edges, fill=True, color=NEUTRAL, alpha=0.75, label="tokens")
    x = np.linspace(edges[0], edges[-1], 400)
    density = np.exp(-0.5 * ((x - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    floor = 0.5 / (len(effects) * (edges[1] - edges[0]))
    axis.plot(x[density > floor], density[density > floor], color=ACCENT, lw=1.4, label="Gaussian")
    axis.set_yscale("log")
    axis.set_ylim(bottom=floor)
    axis.legend(loc="upper right")


def neurons_overview(cards: pd.DataFrame, title: str = "", most: int = 30) -> Figure:
    """Selected neurons, one line each: label, kurtosis, skew and the tokens whose logits they raise most.

    cards: layer, expert, neuron, label, kurt, skew, selected_by, top_tokens_up (lists of strings). most: lines.
    """
    if cards.empty:
        return message("No neuron was selected.")
    first = cards.selected_by.str.contains("super weight")
    shown = pd.concat([cards[first], cards[~first]]).head(most)
    figure, axis = subplots(width=9, height=1.3 + 0.26 * len(shown))
    at = np.arange(len(shown))
    axis.hlines(at, 3, shown["kurt"], color="#d5d8dd", lw=1.2)
    for label, colour in LABEL_COLOURS.items():
        own = (shown.label == label).to_numpy()
        axis.scatter(shown["kurt"][own], at[own], color=colour, s=34, label=label, zorder=3) if own.any() else None
    axis.axvline(3, color=MUTED, ls=":", lw=1)
    names = [
        f"L{row.layer}{'' if pd.isna(row.expert) else f' E{int(row.expert)}'} N{row.neuron}"
        + (" ★" if "super weight" in row.selected_by else "")
        for row in shown.itertuples()
    ]
    axis.set_yticks(at, names)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="kurtosis E z⁴ of the effects (Gaussian: 3)")
    more = f", {len(shown)} of {len(cards)}" if len(cards) > len(shown) else ""
    figure.suptitle(
        f"{title}\nselected neurons and the tokens that they raise most (★ of a super weight{more})".strip()
    )
    for place, row in zip(at, shown.itertuples(), strict=True):
        tokens = "  ".join(printable(token, 12) for token in row.top_tokens_up[:5])
        axis.text(1.01, place, tokens, transform=axis.get_yaxis_transform(), va="center", fontsize=7.5, clip_on=False)
    axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    _plain_ticks(axis.xaxis)
    return figure


def neuron_map(neurons: pd.DataFrame, kurtosis: float, title: str = "") -> Figure:
    """All neurons of a model: kurtosis of their vocabulary effects by layer, and shares of labels in each layer.

    neurons: layer, kurt, label. kurtosis: the threshold to draw.
    """
    known = neurons[np.isfinite(neurons["kurt"].astype(float))]
    if known.empty:
        return message("No neuron has an effect that differs between tokens.")
    layers = np.arange(int(neurons.layer.min()), int(neurons.layer.max()) + 1)
    figure, axes = subplots(1, 2, width=5.6, height=3.8)
    values, layer = known["kurt"].to_numpy(float), known.layer.to_numpy(int)
    bins = np.geomspace(min(values.min(), 1.5), max(values.max(), kurtosis * 1.5) * 1.05, 60)
    counts, _, _ = np.histogram2d(layer, values, bins=[np.append(layers, layers[-1] + 1) - 0.5, bins])
    filled = np.ma.masked_equal(counts.T, 0)
    shown = axes[0].pcolormesh(
        np.append(layers, layers[-1] + 1) - 0.5, bins, filled, norm=LogNorm(1, max(2, counts.max())), cmap=SEQUENTIAL
    )
    figure.colorbar(shown, ax=axes[0], label="neurons")
    axes[0].set(yscale="log", xlabel="layer", ylabel="kurtosis E z⁴", title="how far effects are from Gaussian")
    axes[0].axhline(3, color=MUTED, lw=1, ls=":")
    axes[0].axhline(kurtosis, color=ACCENT, lw=1, ls="--")
    edge = axes[0].get_yaxis_transform()
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
    _plain_ticks(axes[0].yaxis)
    style = {"transform": edge, "ha": "right", "va": "center", "fontsize": 7, "bbox": box}
    axes[0].text(0.99, 3, "Gaussian", **style)
    axes[0].text(0.99, kurtosis, f"threshold {kurtosis:g}", color=ACCENT, **style)
    _shares(axes[1], neurons, layers)
    for axis in axes:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if title:
        figure.suptitle(title)
    return figure


def _shares(axis: plt.Axes, neurons: pd.DataFrame, layers: np.ndarray) -> None:
    table = pd.crosstab(neurons.layer.astype(int), neurons.label, normalize="index").reindex(layers, fill_value=0)
    below = np.zeros(len(layers))
    for label, colour in list(LABEL_COLOURS.items())[:-1]:
        if label in table and table[label].any():
            count = int((neurons.label == label).sum())
            axis.bar(layers, table[label], bottom=below, color=colour, width=0.85, label=f"{label} ({count})")
            below += table[label].to_numpy()
    unclear = int((neurons.label == "unclear").sum())
    axis.set(
        xlabel="layer", ylabel="share of neurons", title=f"labels; the other {unclear} of {len(neurons)} are unclear"
    )
    axis.set_ylim(0, min(1.0, max(0.01, 1.15 * below.max())))
    axis.grid(axis="x", visible=False)
    if below.any():
        axis.legend(loc="best")


def _plain_ticks(axis) -> None:
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())
