"""Heavy tails: the exponent by depth and role, and single spectra with their fits."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, PALETTE, ROLE_COLOURS, message, subplots

# Exponents above this, as of random matrices, are drawn at the upper edge.
HIGHEST = 12.0


def alpha_by_layer(tails: pd.DataFrame) -> Figure:
    """alpha by layer, a panel per role; the band is that of well-trained layers. Hollow: the fit is spurious.

    tails: a table of heavy_tails. Several matrices of a role in one layer (experts) give their median. Dashed: Gaussian
    matrices of the same shape.
    """
    known = tails[tails["alpha"].notna() & tails["layer"].notna()]
    if known.empty:
        return message("no matrix in a layer has a tail to fit")
    order, stacks = [*ROLE_COLOURS, *known["role"].unique()], list(known["stack"].unique())
    groups = list(known.groupby(["stack", "role"], sort=False))
    groups.sort(key=lambda group: (stacks.index(group[0][0]), order.index(group[0][1])))
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    width = 3.2 if len(groups) > 1 else 5.5
    figure, axes = subplots(rows, columns, width=width, height=2.4, squeeze=False, sharey=True)
    for axis, ((stack, role), group) in zip(axes.flat, groups, strict=False):
        _alphas(axis, group, role)
        axis.set_title(role if len(stacks) == 1 else f"{stack} {role}")
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("alpha")
    low, high = known["alpha"].min(), known["alpha"].max()
    axes[0, 0].set_ylim(min(1.5, low - 0.2), min(HIGHEST, max(6.5, high)) + 0.4)
    note = f"; above {HIGHEST:g} drawn at {HIGHEST:g}" if high > HIGHEST else ""
    figure.suptitle(f"Power-law exponent by layer (hollow: spurious fit; dashed: Gaussian{note})")
    return figure


def _alphas(axis: Axes, known: pd.DataFrame, role: str) -> None:
    axis.axhspan(2, 6, color=PALETTE[2], alpha=0.08, linewidth=0)
    null = float(known["alpha_null"].median())
    if null < HIGHEST:
        axis.axhline(null, color=MUTED, linestyle="--", linewidth=1)
    group = known.groupby("layer")
    alpha, sound = group["alpha"].median(), group["status"].agg(lambda status: (status == "ok").mean() >= 0.5)
    layers, shown = alpha.index.to_numpy(dtype=int), np.minimum(alpha.to_numpy(), HIGHEST)
    good, colour = sound.to_numpy(dtype=bool), ROLE_COLOURS.get(role, NEUTRAL)
    size = 20 if len(layers) <= 48 else 8
    axis.plot(layers, shown, color=colour, linewidth=1)
    axis.scatter(layers[good], shown[good], s=size, color=colour, zorder=3)
    axis.scatter(layers[~good], shown[~good], s=size, facecolor="white", edgecolor=colour, zorder=3)
    axis.set_xlabel("layer")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def spectral_densities(chosen: list[tuple[pd.Series, np.ndarray, pd.DataFrame]]) -> Figure:
    """For each chosen matrix its eigenvalues as a density with the Marchenko-Pastur law of its bulk, and as a tail
    distribution with the power law.

    chosen: (row of heavy_tails, eigenvalues ascending, law: columns eigenvalue and density).
    """
    if not chosen:
        return message("none of the chosen matrices is in this model")
    figure, axes = subplots(len(chosen), 2, width=5.2, height=3.1, squeeze=False)
    for (left, right), (row, values, law) in zip(axes, chosen, strict=True):
        _density(left, row, values, law)
        _tail(right, row, values)
    figure.suptitle("Eigenvalues of W'W")
    return figure


def _density(axis: Axes, row: pd.Series, values: np.ndarray, law: pd.DataFrame) -> None:
    bins = np.geomspace(values[0], values[-1] * 1.0001, 60)
    axis.hist(values, bins=bins.tolist(), density=True, color=NEUTRAL, alpha=0.45)
    inside = law[(law["eigenvalue"] >= values[0] / 2) & (law["density"] > 0)]
    axis.plot(inside["eigenvalue"], inside["density"], color=MUTED, linewidth=1.4, label="random bulk")
    axis.axvline(row["mp_high"], color=MUTED, linestyle=":", label=f"its edges; {row['mp_spikes']} spikes")
    if row["shuffled_lambda_max"] > 0:
        axis.axvline(
            row["shuffled_lambda_max"], color=PALETTE[1], linestyle="--", linewidth=1, label="elements shuffled"
        )
    if row["mp_low"] > values[0]:
        axis.axvline(row["mp_low"], color=MUTED, linestyle=":")
    axis.set_xscale("log")
    axis.set_yscale("log")
    counts = np.histogram(values, bins)[0]
    densities = (counts / np.diff(bins) / len(values))[counts > 0]
    axis.set_ylim(densities.min() / 3, densities.max() * 8)
    axis.set_xlabel("eigenvalue")
    axis.set_ylabel("density")
    axis.set_title(f"{row['id']}  {row['rows']}x{row['cols']}", fontsize=8)
    axis.legend(loc="upper right")


def _tail(axis: Axes, row: pd.Series, values: np.ndarray) -> None:
    above = 1 - np.arange(len(values)) / len(values)
    axis.loglog(values, above, color=NEUTRAL, linewidth=1.6)
    if pd.isna(row["alpha"]):
        axis.set_title(f"no power law: {row['status']}", fontsize=9)
    else:
        share = row["tail"] / len(values)
        tail = values[values >= row["xmin"]]
        fitted = share * (tail / row["xmin"]) ** (1 - row["alpha"])
        axis.loglog(tail, fitted, color=ACCENT, linestyle="--", label=f"power law, {row['tail']} values")
        axis.axvline(row["xmin"], color=ACCENT, linestyle=":", linewidth=1)
        axis.set_title(
            f"alpha {row['alpha']:.2f} ± {row['alpha_error']:.2f}, D {row['D']:.3f}, {row['status']}", fontsize=9
        )
        axis.legend(loc="lower left")
    axis.set_ylim(0.5 / len(values), 1.5)
    axis.set_xlabel("eigenvalue")
    axis.set_ylabel("share above")
