"""Figures of super-weight detection: spikes by layer and round."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, message, subplots


def detection_iterations(spikes: pd.DataFrame, threshold: float) -> Figure:
    """Largest |input| and |output| of every MLP output projection, by layer, one line a round; candidates starred.

    spikes: iteration, layer, expert, max_input, input_value, output_value, row, col, accepted.
    """
    if spikes.empty:
        return message("No MLP output projection was seen.")
    figure, axes = subplots(1, 2, width=5.2, height=3.7, sharey=True)
    rounds = sorted(spikes.iteration.unique())
    colours = sns.color_palette("mako", len(rounds) + 1).as_hex()[: len(rounds)]
    for axis, column, title in zip(axes, ("max_input", "output_value"), ("input", "output"), strict=True):
        for colour, iteration in zip(colours, rounds, strict=True):
            of_round = spikes[spikes.iteration == iteration]
            by_layer = of_round[column].abs().groupby(of_round.layer).max()
            axis.plot(
                by_layer.index, by_layer, color=colour, marker="o", markersize=3, lw=1.4, label=f"round {iteration}"
            )
        axis.axhline(threshold, color=MUTED, ls="--", lw=1)
        axis.text(0.995, threshold, f"threshold {threshold:g}", transform=axis.get_yaxis_transform(), ha="right",
                  va="bottom", fontsize=7, color=MUTED)  # fmt: skip
        axis.set(yscale="log", xlabel="layer", title=f"largest |{title}| of the MLP output projection")
        axis.xaxis.get_major_locator().set_params(integer=True)
        _stars(axis, spikes[spikes.accepted], "input_value" if column == "max_input" else column)
    axes[0].set_ylabel("magnitude")
    axes[0].legend(loc="best")
    found = int(spikes.accepted.sum())
    figure.suptitle(f"{found} super weight{'s' * (found != 1)} found" if found else "No super weight found")
    return figure


def _stars(axis, accepted: pd.DataFrame, column: str) -> None:
    labels: dict[tuple, list[str]] = {}
    for weight in accepted.itertuples():
        value = abs(getattr(weight, column))
        axis.plot(weight.layer, value, marker="*", markersize=15, color=ACCENT, mec="white", mew=0.6, zorder=5)
        expert = "" if pd.isna(weight.expert) else f"expert {weight.expert} "
        labels.setdefault((weight.layer, round(np.log10(value), 1)), []).append(f"{expert}[{weight.row}, {weight.col}]")
    right = axis.get_xlim()[1]
    for (layer, exponent), names in labels.items():
        beyond = layer > 0.6 * right
        place = {"xytext": (-9 if beyond else 9, 2), "ha": "right" if beyond else "left", "va": "bottom"}
        text, point = "\n".join(names), (layer, 10**exponent)
        axis.annotate(text, point, textcoords="offset points", fontsize=8, color=ACCENT, **place)
