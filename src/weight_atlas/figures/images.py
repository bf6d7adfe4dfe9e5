"""Matrices as pictures: reduced honestly to what a figure can show, colours centred on zero."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from weight_atlas.figures.style import DIVERGING

# Pixels on a side that a panel of a figure can show.
MOST = 512


def reduced(values: np.ndarray, most: int = MOST) -> tuple[np.ndarray, tuple[int, int]]:
    """Means of blocks, as few as make each side at most `most` long, and the rows and columns of a block.

    Of each block the finite values count; one without any is NaN. The last blocks may be smaller.
    """
    block = tuple(-(-size // most) if size else 1 for size in values.shape)
    if block == (1, 1):
        return values, (1, 1)
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0), known.astype(np.float64)
    for axis, size in enumerate(block):
        starts = np.arange(0, values.shape[axis], size)
        sums, counts = np.add.reduceat(sums, starts, axis=axis), np.add.reduceat(counts, starts, axis=axis)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), (block[0], block[1])


def picture(axis: Axes, values: np.ndarray, reach: float | None = None, *, colours: str = DIVERGING) -> AxesImage:
    """Draw a matrix, row 0 at the top, in colours from -reach to reach, and its colour bar.

    reach: by default the 99.5 % quantile of the magnitudes, so that single values do not take all colours.
    """
    shown, block = reduced(np.asarray(values, dtype=np.float64))
    known = np.abs(shown[np.isfinite(shown)])
    reach = reach or (float(np.quantile(known, 0.995)) if len(known) else 1.0) or 1.0
    extent = (-0.5, values.shape[1] - 0.5, values.shape[0] - 0.5, -0.5)
    image = axis.imshow(
        shown, aspect="auto", cmap=colours, vmin=-reach, vmax=reach, extent=extent, interpolation="nearest"
    )
    axis.grid(False)
    bar = axis.figure.colorbar(
        image, ax=axis, fraction=0.05, pad=0.02, extend="both" if len(known) and known.max() > reach else "neither"
    )
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    if block != (1, 1):
        axis.text(
            1,
            1.01,
            f"means of {block[0]} x {block[1]}",
            transform=axis.transAxes,
            ha="right",
            fontsize=7,
            color="#8a8f98",
        )
    return image
