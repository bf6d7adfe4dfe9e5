"""Attention kernels: heat maps over layers and heads, and a page of panels for chosen heads."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from weight_atlas.figures.style import ACCENT, DIVERGING, MUTED, NEUTRAL, PALETTE, SEQUENTIAL, message, subplots

# Measure, title, and the value of an unstructured kernel, which diverging colours show white (None: one-sided scale).
MAPS = [
    ("erank_share", "effective rank / head_dim", None),
    ("asymmetry", "asymmetry |A - A'| / |A|, generic 1.41", 2**0.5),
    ("positivity", "sum of eigenvalues / sum of moduli", 0.0),
]
NO_ATTENTION = "This model has no attention heads."


def kernel_maps(heads: pd.DataFrame) -> Figure:
    """Heat maps of effective rank, asymmetry and positivity, heads across and layers down, one row per circuit.

    heads: a table of attention_kernels or head_table.
    """
    heads = heads[heads["head"].notna() & (heads["status"] == "ok")]
    if heads.empty:
        return message(NO_ATTENTION)
    groups = list(heads.groupby(["stack", "component", "circuit"], sort=False))
    groups.sort(key=lambda group: (group[0][0], group[0][1], group[0][2] != "QK"))
    depth = max(int(group["layer"].max()) - int(group["layer"].min()) + 1 for _, group in groups)
    height = float(np.clip(0.16 * depth, 1.9, 9.0)) + 0.9
    width = float(np.clip(0.12 * (int(heads["head"].max()) + 1), 2.2, 6.0)) + 1.4
    figure, axes = subplots(len(groups), len(MAPS), width=width, height=height, squeeze=False)
    several = heads.groupby(["stack", "component"]).ngroups > 1
    for row, ((stack, component, circuit), group) in zip(axes, groups, strict=True):
        place = f"{stack} {component} ".replace("  ", " ") if several else ""
        for axis, (measure, title, middle) in zip(row, MAPS, strict=True):
            head_map(axis, group, measure, middle)
            axis.set_title(f"{place}{circuit}: {title}", fontsize=9)
    figure.suptitle("Attention kernels by layer and head")
    return figure


def head_map(axis: Axes, group: pd.DataFrame, measure: str, middle: float | None) -> None:
    """A heat map of a measure of heads, layers down and heads across; middle: the value that is white, or None."""
    grid = group.pivot_table(index="layer", columns="head", values=measure, dropna=False, observed=False)
    layers, heads = (np.arange(int(index.min()), int(index.max()) + 1) for index in (grid.index, grid.columns))
    values = grid.reindex(index=layers, columns=heads).to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    if middle is None:
        low, high = (known.min() - 0.01, known.max() + 0.01) if len(known) else (0.0, 1.0)
    else:
        reach = max(0.1, np.abs(known - middle).max()) if len(known) else 1.0
        low, high = middle - reach, middle + reach
    colours = SEQUENTIAL if middle is None else DIVERGING
    extent = (heads[0] - 0.5, heads[-1] + 0.5, layers[-1] + 0.5, layers[0] - 0.5)
    image = axis.imshow(
        values, aspect="auto", cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest"
    )
    axis.grid(False)
    axis.set_facecolor("#d9d9d9")
    axis.set_xticks(heads[:: -(-len(heads) // 9)])
    axis.set_yticks(layers[:: -(-len(layers) // 12)])
    axis.set_xlabel("head")
    axis.set_ylabel("layer")
    bar = axis.figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def head_pages(kernels: pd.DataFrame) -> Figure:
    """Three panels for each kernel: spectrum, eigenvalues in the complex plane, cumulative energy.

    kernels: the chosen rows of attention_kernels.
    """
    kernels = kernels[kernels["status"] == "ok"] if len(kernels) else kernels
    if kernels.empty:
        return message("There is no such attention head in this model.")
    figure, axes = subplots(len(kernels), 3, width=4.6, height=3.4, squeeze=False)
    for row, kernel in zip(axes, kernels.itertuples(index=False), strict=True):
        sigma = np.asarray(kernel.singular_values)
        values = np.asarray(kernel.eigenvalues_real) + 1j * np.asarray(kernel.eigenvalues_imag)
        _spectrum(row[0], sigma, np.abs(values))
        _plane(row[1], values, kernel.asymmetry)
        _energy(row[2], sigma, np.abs(values))
        row[0].set_title(f"{kernel.circuit} kernel, layer {kernel.layer}, head {kernel.head}: spectrum", fontsize=9)
    figure.suptitle("Attention kernels of chosen heads")
    return figure


def _spectrum(axis: Axes, sigma: np.ndarray, modulus: np.ndarray) -> None:
    index = np.arange(1, len(sigma) + 1)
    axis.semilogy(index, np.where(sigma > 0, sigma, np.nan), color=NEUTRAL, label="singular values")
    if len(modulus):
        shown = np.where(modulus > 0, modulus, np.nan)
        axis.semilogy(index, shown, color=PALETTE[1], linestyle="--", label="|eigenvalues|")
    axis.set_xlabel("component")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=8, frameon=False)


def _plane(axis: Axes, values: np.ndarray, asymmetry: float) -> None:
    if not len(values):
        axis.axis("off")
        axis.text(0.5, 0.5, "not square: no eigenvalues", ha="center", color=MUTED)
        return
    axis.axhline(0, color=MUTED, linewidth=0.7)
    axis.axvline(0, color=MUTED, linewidth=0.7)
    real = values.imag == 0
    axis.scatter(
        values.real[~real], values.imag[~real], s=10, color=NEUTRAL, alpha=0.7, label=f"complex {(~real).sum()}"
    )
    axis.scatter(values.real[real], values.imag[real], s=12, color=ACCENT, alpha=0.8, label=f"real {real.sum()}")
    reach = 1.08 * np.abs(values).max()
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel("real")
    axis.set_ylabel("imaginary")
    axis.set_title(f"eigenvalues, asymmetry {asymmetry:.3f}", fontsize=9)
    axis.legend(fontsize=7.5, frameon=False, loc="upper right")


def _energy(axis: Axes, sigma: np.ndarray, modulus: np.ndarray) -> None:
    for values, name, colour, style in [
        (sigma, "singular values", NEUTRAL, "-"),
        (modulus, "eigenvalues", PALETTE[1], "--"),
    ]:
        if not len(values):
            continue
        cumulative = np.cumsum(values**2) / (values**2).sum()
        reached = int((cumulative < 0.99).sum()) + 1
        index = np.arange(1, len(values) + 1)
        axis.plot(index, cumulative, color=colour, linestyle=style, label=f"{name}: 99 % at {reached}")
        axis.axvline(reached, color=colour, linestyle=":", linewidth=0.9)
    axis.axhline(0.99, color=ACCENT, linewidth=0.7)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("component")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(f"cumulative energy of {len(sigma)} components", fontsize=9)
    axis.legend(fontsize=7.5, frameon=False, loc="lower right")
