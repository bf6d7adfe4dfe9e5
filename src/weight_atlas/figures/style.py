"""Style of all figures, and the function that saves them."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.artifacts import atomic

PALETTE = sns.color_palette("colorblind").as_hex()
ACCENT, NEUTRAL, MUTED = PALETTE[3], PALETTE[0], "#8a8f98"
SEQUENTIAL, DIVERGING = "mako_r", "vlag"

# One colour per role, the same in every figure.
ROLE_COLOURS = dict(
    zip(
        ["W_Q", "W_K", "W_V", "W_O", "W_gate", "W_up", "W_down", "W_E", "W_U", "W_router"],
        sns.color_palette("colorblind", 10).as_hex(),
        strict=True,
    )
)


plt.rcParams.update(
    {
        **sns.axes_style("whitegrid"),
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        # Where matplotlib would put them as well, after it has laid out all ticks for each title.
        "axes.titley": 1.0,
        "axes.labelsize": 9,
        "axes.edgecolor": "#c4c8cf",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#e8eaee",
        "legend.fontsize": 8,
        "legend.frameon": False,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "figure.titlesize": 12,
        "figure.titleweight": "bold",
    }
)


class WholeTitle(Figure):
    """A figure whose title is broken into lines where it is wider than the picture."""

    def suptitle(self, t: str, **kwargs):
        return super().suptitle(t, **{"wrap": True, **kwargs})


def subplots(rows: int = 1, columns: int = 1, *, width: float = 5.5, height: float = 3.6, **kwargs) -> tuple:
    """Return (figure, axes) of rows x columns panels, each width x height inches."""
    size = (width * columns, height * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", FigureClass=WholeTitle, **kwargs)


def name_point(axis: Axes, point: tuple[float, float], text: str, *, clear: float = 11, **style) -> None:
    """Write a label beside a marker, towards the middle of the panel, whose limits must be final.

    clear: points between the marker's centre and the text.
    """
    axis.get_xlim(), axis.get_ylim()  # matplotlib sets the limits when they are read
    right, upper = axis.transAxes.inverted().transform(axis.transData.transform(point)) > 0.5
    style = {"color": ACCENT, "fontsize": 8, **style}
    style |= {"ha": "right" if right else "left", "va": "top" if upper else "bottom"}
    offset = (-clear if right else clear, 5 if upper else -5)
    axis.annotate(text, point, offset, textcoords="offset points", **style)


def message(text: str) -> Figure:
    """A figure with the reason why there is nothing to draw, in place of an empty panel."""
    figure, axes = subplots(width=6, height=1.6)
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, color=MUTED, fontsize=11)
    return figure


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure without time stamp or version, so that the same data gives the same bytes; close it."""
    figure.set_dpi(150)
    if layout := figure.get_layout_engine():
        # Left to savefig, this would draw the figure twice.
        layout.execute(figure)
        figure.set_layout_engine(None)
    with atomic(path) as temporary:
        metadata = {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
        figure.savefig(temporary, dpi=150, metadata=metadata)
    plt.close(figure)
