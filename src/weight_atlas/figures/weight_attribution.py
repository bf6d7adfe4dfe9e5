"""Figure of the first-order effects of weights on the loss."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weight_atlas.figures.style import MUTED, ROLE_COLOURS, message, subplots

PANELS = {"element": "single weights", "row": "rows (outputs)", "column": "columns (inputs)"}
# Drawn left of the first layer and right of the last.
OUTSIDE = {"W_E": -1, "W_pos": -1, "W_type": -1}


def attribution(table: pd.DataFrame, *, named: int = 5) -> Figure:
    """The largest |effect| of each matrix by layer, for single weights, rows and columns.

    table: kind, role, component, layer, expert, row, column, effect, rank, rank_in_model, random_p99. The `named`
    largest of the model are labelled. Embeddings stand before the first layer, what else belongs to none after the
    last.
    """
    largest = table[(table["rank"] == 1) & (table.effect != 0)]
    if largest.empty:
        return message("No weight has an effect on the loss.")
    last = int(largest.layer.max()) if largest.layer.notna().any() else 0
    before = largest.role.map(OUTSIDE).fillna(last + 1)
    at = largest.layer.astype("Float64").fillna(before).astype(float)
    largest = largest.assign(at=at, size=largest.effect.abs())
    figure, axes = subplots(1, len(PANELS), width=4.4, height=4, squeeze=False, sharey=True)
    for axis, (kind, title) in zip(axes[0], PANELS.items(), strict=True):
        _panel(axis, largest[largest.kind == kind], last, named)
        axis.set_title(title)
    axes[0, 0].set_ylabel("|first-order effect|, nats per token")
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(len(handles), 11))
    figure.suptitle("What the loss depends on, to first order: the largest of each matrix")
    return figure


def _vectors(role: pd.Series) -> pd.Series:
    return (role == "norm") | role.str.endswith("bias")


def _panel(axis: Axes, table: pd.DataFrame, last: int, named: int) -> None:
    for role, rows in table.groupby("role", sort=False):
        name, colour, marker = role, ROLE_COLOURS.get(role, "black"), "o"
        if role not in ROLE_COLOURS:
            name, marker = "biases, norms, others", "x"
        axis.plot(rows["at"], rows["size"], ls="", alpha=0.7, label=name, color=colour, marker=marker, ms=4)
    matrices = table[(table.random_p99 > 0) & ~_vectors(table.role)]
    null = matrices.groupby("at").random_p99.max()
    axis.plot(null.index, null, color=MUTED, ls="--", lw=1, label="99 % of random ones of the layer's matrices")
    axis.set(yscale="log", xlabel="layer", xlim=(-1.6, last + 1.6))
    ticks = sorted({-1, *range(0, last + 1, max(1, last // 6)), last + 1})
    axis.set_xticks(ticks, ["emb" if tick < 0 else "end" if tick > last else str(tick) for tick in ticks])
    free: dict[float, float] = {}
    for row in table.nlargest(named, "size").itertuples():
        # Smaller ones of the same layer stand below; those of nearly the same size would be written over each other.
        if row.size > 0.75 * free.get(row.at, float("inf")):
            continue
        free[row.at] = row.size
        expert = "" if pd.isna(row.expert) else f" e{row.expert}"
        vector = row.role == "norm" or row.role.endswith("bias")
        index = row.row if vector else ", ".join(":" if pd.isna(each) else str(each) for each in (row.row, row.column))
        right = row.at > last / 2
        label = f"{row.component if row.role == 'norm' else row.role}{expert} [{index}]"
        offset, side = (-6 if right else 6, 0), "right" if right else "left"
        axis.annotate(label, (row.at, row.size), offset, textcoords="offset points", ha=side, va="center", fontsize=7)
