"""Figure of the verification of super weights: loss by each removal, beside random weights of its matrix."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weight_atlas.figures.style import ACCENT, NEUTRAL, PALETTE, message, subplots

BARS = (
    ("delta_nll", "this weight", ACCENT),
    ("neuron_delta_nll", "its whole neuron", PALETTE[1]),
    ("kept_delta_nll", "all but this weight", PALETTE[4]),
)
FLOOR = 1e-6
# Matrices whose rows or columns are neurons.
OF_NEURONS = ("W_down", "W_gate", "W_up")


def verification(table: pd.DataFrame, variants: pd.DataFrame, *, most: int = 12) -> Figure:
    """Rise of nll when something is set to zero, on a log axis, with the range of each candidate's null.

    table: layer, row, column, role, component, expert, verdict, delta_nll, neuron_delta_nll, kept_delta_nll; variants:
    kind, candidate, delta_nll. Falls are drawn hatched. At most `most` candidates, the costliest.
    """
    if table.empty:
        return message("No candidate was found where it was searched: nothing to verify.")
    shown = table.assign(number=range(len(table))).nlargest(most, "delta_nll", keep="first")
    joint = variants[variants.kind == "joint"]
    # With one candidate nothing is kept; other missing values are losses that are not finite.
    bars = BARS if table.kept_delta_nll.notna().any() else BARS[:2]
    height = 0.8 / len(bars)
    figure, axis = subplots(width=7.6, height=1.5 + 0.36 * len(bars) * len(shown) + (0.4 if len(joint) else 0))
    for place, row in enumerate(shown.itertuples()):
        for offset, (column, _, colour) in enumerate(bars):
            if column != "neuron_delta_nll" or row.role in OF_NEURONS:
                _bar(axis, place - 0.4 + (offset + 0.5) * height, getattr(row, column), colour, height * 0.9)
        null = variants[variants.kind.isin(("random", "shifted")) & (variants.candidate == row.number)].delta_nll.abs()
        _null(axis, place, null, "range of the null" if place == 0 else None)
    labels = [_name(row) for row in shown.itertuples()]
    if len(joint):
        _bar(axis, len(shown), joint.delta_nll.iloc[0], ACCENT, 0.5)
        together = variants[variants.kind.isin(("random_together", "shifted_together"))]
        _null(axis, len(shown), together.delta_nll.abs(), None)
        labels.append(f"all {len(table)} together")
    for _, label, colour in bars:
        axis.barh([np.nan], [np.nan], color=colour, label=label)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(
        xscale="log", xlim=_limits(table, variants), xlabel="rise of nll when set to zero, nats per token (log scale)"
    )
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.set_title("What removing super weights costs")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _bar(axis, place: float, value: float, colour: str, height: float) -> None:
    if not np.isfinite(value):
        axis.annotate(
            "not finite", (0, place), (4, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=7.5
        )
        return
    size = max(abs(value), FLOOR)
    axis.barh(
        place, size, left=0, height=height, color=colour, hatch="////" if value < 0 else None, edgecolor="white", lw=0
    )
    axis.annotate(f"{value:.3g}", (size, place), (4, 0), textcoords="offset points", va="center", fontsize=7.5)


def _null(axis, place: float, null: pd.Series, label: str | None) -> None:
    null = null[np.isfinite(null)]
    if len(null):
        low, high = max(null.min(), FLOOR), max(null.max(), FLOOR)
        axis.fill_betweenx(
            [place - 0.45, place + 0.45], low, high, color=NEUTRAL, alpha=0.22, lw=0, zorder=0, label=label
        )
        axis.plot([high, high], [place - 0.45, place + 0.45], color=NEUTRAL, lw=1.2)


def _limits(table: pd.DataFrame, variants: pd.DataFrame) -> tuple[float, float]:
    sizes = variants.delta_nll[~variants.kind.isin(("baseline",))].abs().clip(lower=FLOOR)
    sizes = sizes[np.isfinite(sizes)]
    if sizes.empty:
        return FLOOR, 1.0
    return float(sizes.min()) / 3, float(sizes.max()) * 12


def _name(row) -> str:
    expert = "" if pd.isna(row.expert) else f"expert {row.expert} "
    layer = "" if row.layer < 0 else f"layer {row.layer} "
    role = "" if row.role == "W_down" else f"{row.component if row.role == 'norm' else row.role} "
    index = row.row if row.role == "norm" or row.role.endswith("bias") else f"{row.row}, {row.column}"
    return f"{layer}{role}{expert}[{index}]\n{row.verdict}"
