"""Figure of the screening for super weights from the weights alone."""

import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, MUTED, NEUTRAL, message, subplots


def screening(table: pd.DataFrame, *, named: int = 6) -> Figure:
    """The largest weights of each MLP output projection by layer: size, path gain, score of their rows.

    table: layer, expert, rank, row, column, size, gaussian_size, path_gain, row_score_ratio. The largest of each of
    `named` layers is labelled; a projection's largest weight is in colour.
    """
    table = table.dropna(subset=["size"])
    if table.empty:
        return message("No MLP output projection was found.")
    scored = table.dropna(subset=["path_gain", "row_score_ratio"])
    figure, axes = subplots(1, 3 if len(scored) else 1, width=4.3, height=3.8, squeeze=False)
    _points(axes[0, 0], table, "size", "|W| / rms of its matrix", named)
    expected = table.groupby("layer").gaussian_size.max()
    axes[0, 0].plot(expected.index, expected, color=MUTED, ls="--", lw=1, label="largest of as many Gaussians")
    # Below the panel, since candidates are labelled beside their points, near the top.
    axes[0, 0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes[0, 0].set_title("size")
    if len(scored):
        _points(axes[0, 1], scored, "path_gain", "|W| · norms of the neuron's rows", named)
        axes[0, 1].set_title("how far its neuron can drive it")
        _points(axes[0, 2], scored, "row_score_ratio", "row score / median row", named)
        axes[0, 2].set_title("score of its row")
    figure.suptitle("Largest weights of the MLP output projections")
    return figure


def _points(axis, table: pd.DataFrame, column: str, label: str, named: int) -> None:
    first = table["rank"] == 1
    axis.plot(table.layer[~first], table[column][~first], ls="", marker="o", ms=3, color=NEUTRAL, alpha=0.5)
    axis.plot(table.layer[first], table[column][first], ls="", marker="o", ms=5, color=ACCENT)
    # One of each layer, since the labels of neighbours would overlap.
    top = table.sort_values(column, ascending=False, kind="stable").drop_duplicates("layer")
    for row in top.head(named).itertuples():
        value = getattr(row, column)
        expert = "" if pd.isna(row.expert) else f"e{row.expert} "
        style = {"textcoords": "offset points", "fontsize": 7.5, "va": "center"}
        right = row.layer < 0.6 * table.layer.max()
        offset = (7 if right else -7, 0)
        axis.annotate(
            f"{expert}[{row.row}, {row.column}]", (row.layer, value), offset, ha="left" if right else "right", **style
        )
    axis.set(yscale="log", xlabel="layer", ylabel=label)
    axis.xaxis.get_major_locator().set_params(integer=True)
