"""Figures of super-weight detection: spikes by layer and round, the residual stream, shares of contributions."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, SEQUENTIAL, message, name_point, subplots


def detection_iterations(spikes: pd.DataFrame, threshold: float) -> Figure:
    """Largest |input| and |output| of every MLP output projection, by layer, one line a round of the published
    procedure; its candidates, which need not be the super weights of the artifact, have stars.

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
        axis.set(yscale="log", xlabel="layer", title=f"largest |{title}| of MLP output projections")
        axis.xaxis.get_major_locator().set_params(integer=True)
        _stars(axis, spikes[spikes.accepted], "input_value" if column == "max_input" else column)
    if spikes.accepted.any():
        # Room for the labels of the highest stars.
        axes[0].set_ylim(top=8 * axes[0].get_ylim()[1])
    axes[0].set_ylabel("magnitude")
    axes[0].legend(loc="best")
    found = int(spikes.accepted.sum())
    count = f"{found} candidate{'s' * (found != 1)}" if found else "no candidate"
    figure.suptitle(f"Published procedure: {count} in {len(rounds)} round{'s' * (len(rounds) != 1)}")
    return figure


def _stars(axis, accepted: pd.DataFrame, column: str) -> None:
    labels: dict[tuple, list[str]] = {}
    for weight in accepted.itertuples():
        value = abs(getattr(weight, column))
        axis.plot(weight.layer, value, marker="*", markersize=15, color=ACCENT, mec="white", mew=0.6, zorder=5)
        expert = "" if pd.isna(weight.expert) else f"expert {weight.expert} "
        labels.setdefault((weight.layer, round(np.log10(value), 1)), []).append(f"{expert}[{weight.row}, {weight.col}]")
    right = axis.get_xlim()[1]
    for number, ((layer, exponent), names) in enumerate(sorted(labels.items())):
        beyond = layer > 0.6 * right
        # Labels of neighbours have different heights, so that they do not overlap.
        offset = (-9 if beyond else 9, 2 + 20 * (number % 2))
        place = {"xytext": offset, "ha": "right" if beyond else "left", "va": "bottom"}
        text, point = "\n".join(names), (layer, 10**exponent)
        axis.annotate(text, point, textcoords="offset points", fontsize=8, color=ACCENT, **place)


def spike_places(spikes: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Input against output of every MLP output projection at its largest output, labelled by layer; finds starred.

    spikes: rounds of the published procedure, of which the first is drawn. found: layer, row, column, input_value,
    output_value.
    """
    first = spikes[spikes.iteration == 1].dropna(subset=["output_value"])
    if first.empty:
        return message("No MLP output projection was seen.")
    x, y = first.input_value.abs(), first.output_value.abs()
    figure, axis = subplots(width=5.8, height=4.2)
    points = axis.scatter(x, y, c=first.layer, cmap=SEQUENTIAL, s=26, edgecolor="white", lw=0.4, zorder=3)
    # With many layers only outliers are labelled, unless they have stars.
    size = x * y
    starred = set(zip(found.layer, found.row, found.column, strict=True))
    for row in first[size >= 0.05 * size.max()].assign(size=size).nlargest(12, "size").itertuples():
        if (row.layer, row.row, row.col) in starred:
            continue
        label = {"textcoords": "offset points", "fontsize": 7.5, "color": MUTED}
        axis.annotate(f"L{row.layer}", (abs(row.input_value), abs(row.output_value)), (5, -8), **label)
    axis.set(xscale="log", yscale="log", xlabel="|input| of the neuron", ylabel="|output| of the channel")
    labels: dict[tuple, list] = {}
    for weight in found.itertuples():
        place = abs(weight.input_value), abs(weight.output_value)
        axis.plot(*place, marker="*", markersize=15, color=ACCENT, mec="white", mew=0.6, zorder=5)
        near = tuple(np.round(np.log10(place), 1))
        expert = "" if pd.isna(weight.expert_id) else f" expert {weight.expert_id}"
        labels.setdefault(near, []).append((place, f"L{weight.layer}{expert} [{weight.row}, {weight.column}]"))
    for named in labels.values():
        more = [f"and {len(named) - 4} more"] if len(named) > 4 else []
        name_point(axis, named[0][0], "\n".join([*(name for _, name in named[:4]), *more]), zorder=6)
    axis.set_title("Largest spike of each MLP output projection")
    if first.layer.nunique() > 1:
        figure.colorbar(points, ax=axis, label="layer").locator = MaxNLocator(integer=True)
    return figure


def residual_by_layer(residual: pd.DataFrame) -> Figure:
    """Largest |h| of the residual stream by token and layer, for the first prompt as the tokenizer begins it.

    residual: prompt, prefixed, position, token, layer, peak, median.
    """
    prefixed = residual.prefixed == residual.prefixed.max()
    first = residual[prefixed & (residual.prompt == residual.prompt.min())]
    if first.empty:
        return message("No token was seen.")
    grid = first.pivot(index="position", columns="layer", values="peak")
    figure, (left, right) = subplots(1, 2, width=5.2, height=3.9)
    image = left.imshow(np.log10(grid.to_numpy().clip(1e-12)), aspect="auto", cmap=SEQUENTIAL, interpolation="nearest")
    tokens = first.drop_duplicates("position").sort_values("position").token
    shown = np.unique(np.linspace(0, len(tokens) - 1, min(len(tokens), 24)).astype(int))
    left.set_yticks(shown, [repr(tokens.iloc[place])[1:-1] for place in shown], fontsize=7)
    layers = np.unique(np.linspace(0, grid.shape[1] - 1, min(grid.shape[1], 12)).astype(int))
    left.set_xticks(layers, [_layer_name(grid.columns[place]) for place in layers], fontsize=7)
    left.set(xlabel="after layer", title="largest |h| of each token")
    left.grid(visible=False)
    bar = figure.colorbar(image, ax=left)
    bar.set_label("log10 |h|")
    by_layer = residual[prefixed].groupby("layer").agg(peak=("peak", "max"), median=("median", "median"))
    right.plot(by_layer.index, by_layer.peak, marker="o", markersize=3, color=ACCENT, label="largest |h|")
    right.plot(by_layer.index, by_layer["median"], marker="o", markersize=3, color=NEUTRAL, label="median |h|")
    right.set(yscale="log", xlabel="after layer (-1: embedding)", title="all prompts")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="best")
    return figure


def contribution_shares(contributions: pd.DataFrame) -> Figure:
    """Shares of the largest contributions to each step of a massive activation; accepted weights in colour.

    contributions: layer, row, col, expert, share, accepted. At most twelve steps, those with accepted weights first.
    """
    if contributions.empty:
        return message("No massive activation was written by an MLP.")
    steps = contributions.groupby(["layer", "row"]).agg(accepted=("accepted", "any"), share=("share", "max"))
    steps = steps.sort_values(["accepted", "share"], ascending=False, kind="stable").head(12)
    figure, axis = subplots(width=6.4, height=1.2 + 0.34 * len(steps))
    for place, (layer, row) in enumerate(steps.index):
        of_step = contributions[(contributions.layer == layer) & (contributions.row == row)]
        left = 0.0
        for weight in of_step.sort_values("share", ascending=False, kind="stable").itertuples():
            colour = ACCENT if weight.accepted else NEUTRAL
            axis.barh(place, weight.share, left=left, height=0.62, color=colour, edgecolor="white", lw=0.8)
            if weight.accepted:
                expert = "" if pd.isna(weight.expert) else f"expert {weight.expert} "
                text = f"{expert}neuron {weight.col}: {weight.share:.2f}"
                axis.text(left + weight.share / 2, place, text, ha="center", va="center", fontsize=7.5, color="white")
            left += max(weight.share, 0)
    names = [f"layer {layer}, channel {row}" for layer, row in steps.index]
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.axvline(1, color=MUTED, lw=1, ls=":")
    axis.set(xlabel="share of what the MLP writes into the channel", title="Which neurons write massive activations")
    axis.grid(axis="y", visible=False)
    return figure


def _layer_name(layer: int) -> str:
    return "emb" if layer < 0 else str(layer)
