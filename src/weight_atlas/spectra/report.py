"""The spectra of one model as one Markdown page: configuration, attention kernels, single matrices, effective ranks."""

from dataclasses import dataclass

import pandas as pd

from weight_atlas.markdown import inline
from weight_atlas.spectra.choice import choose_heads, choose_matrices
from weight_atlas.spectra.ranks import notebook_view
from weight_atlas.spectra.report_kernels import head_section, heads_section, singular_value_section, table
from weight_atlas.spectra.trends import ROLE_ORDER


@dataclass(frozen=True)
class Spectra:
    """The tables that a report is made of, as the steps of those names write them."""

    inventory: pd.DataFrame
    singular_values: pd.DataFrame
    kernels: pd.DataFrame
    ranks: pd.DataFrame
    statistics: pd.DataFrame
    phases: pd.DataFrame
    trends: pd.DataFrame


def spectra_report(
    model: str, spectra: Spectra, *, heads: list[str], matrices: list[str], figures: dict[str, str]
) -> str:
    """The page, in Markdown.

    heads, matrices: choices that have sections of their own (see choose_heads, choose_matrices). figures: link by name
    ("ranks", "kernels", "heads", "matrices"), without those that do not apply to the model.
    """
    sections = [
        *[f"# Spectra of {inline(model)}", ""],
        *["## Model configuration", "", table(model_configuration(spectra.inventory)), ""],
        *_attention(spectra.kernels, heads, figures),
        *["## Singular values of single matrices", ""],
        *_figure("components", figures.get("matrices")),
        *_single(spectra.singular_values, matrices),
        *_effective_rank(spectra, figures["ranks"]),
        *_phases(spectra.phases),
        *_trends(spectra.trends),
    ]
    return "\n".join(sections)


def model_configuration(inventory: pd.DataFrame) -> dict[str, object]:
    """Sizes of a model from its tensors: layers, widths, heads, vocabulary; without those that it does not have."""
    inside = inventory[inventory["layer"].notna() & (inventory["stack"] != "other")]

    def first(column: str, *roles: str) -> int | None:
        for role in roles:
            rows = inventory[(inventory["role"] == role) & inventory["cols"].notna() & inventory[column].notna()]
            if len(rows):
                return int(rows[column].iloc[0])
        return None

    layers = {stack: int(rows["layer"].max()) + 1 for stack, rows in inside.groupby("stack", sort=False)}
    names = {f"Layers (L){f', {stack}' if len(layers) > 1 else ''}": depth for stack, depth in layers.items()}
    sizes = {
        "Hidden size (d)": first("cols", "W_Q", "W_Q_a", "W_E"),
        "Feed-forward width (d_ff)": first("rows", "W_up", "W_gate"),
        "Attention heads (h)": first("n_heads", "W_Q", "W_Q_b"),
        "Key-value heads (GQA)": first("n_heads", "W_K", "W_KV_b"),
        "Vocabulary (V)": first("rows", "W_E", "W_U"),
        "Head dimension (d_head)": first("head_dim", "W_Q", "W_Q_b"),
        "Key-value width (d_kv)": first("rows", "W_K", "W_KV_b"),
        "Experts": int(inside["expert"].max()) + 1 if inside["expert"].notna().any() else None,
        "Parameters": f"{int(inventory.loc[inventory['tied_to'] == '', 'parameters'].sum()):,}",
    }
    return {**names, **{name: value for name, value in sizes.items() if value is not None}}


def _attention(kernels: pd.DataFrame, heads: list[str], figures: dict[str, str]) -> list[str]:
    if not kernels["head"].notna().any():
        return ["## Attention kernels", "", "This model has no attention heads.", ""]
    folded = "The gain of the norm before the attention is folded in." if kernels["folded"].any() else ""
    lines = [
        *["## Attention kernels of chosen heads", ""],
        "Kernels are computed from their factors, so that eigenvalues which must be zero are zero, not rounding noise. "
        f"Rotary positions, norms of queries and keys, and biases are not part of them. {folded}".rstrip(),
        "",
        *_figure("chosen heads", figures.get("heads")),
    ]
    chosen = choose_heads(kernels, heads)
    for _, row in chosen.iterrows():
        lines += head_section(row)
    return [
        *lines,
        *["## Attention kernels of all layers and heads", ""],
        *_figure("heat maps", figures.get("kernels")),
        *heads_section(kernels),
    ]


def _figure(title: str, link: str | None) -> list[str]:
    return [f"![{title}]({link})", ""] if link else []


def _single(singular_values: pd.DataFrame, matrices: list[str]) -> list[str]:
    chosen = choose_matrices(singular_values, matrices)
    lines = [line for _, row in chosen.iterrows() for line in singular_value_section(row)]
    return lines or ["None of the chosen matrices is in this model.", ""]


def _effective_rank(spectra: Spectra, figure: str) -> list[str]:
    view = notebook_view(spectra.ranks)
    per_layer = view.assign(role=view["weight_type"].str.replace(r"\[\d+\]$", "", regex=True))
    per_layer = per_layer.assign(stack=spectra.ranks.loc[spectra.ranks["layer"].notna(), "stack"].to_numpy())
    lines = [
        *["## Effective rank by layer and role", ""],
        "exp of the entropy of the normalised singular values; `null` is the share of min(rows, columns) that a "
        "Gaussian matrix of the same shape has.",
        *["", f"![effective rank]({figure})", "", table(_with_null(spectra), 4), ""],
        *["### Effective rank of every layer", ""],
    ]
    if per_layer["weight_type"].str.endswith("]").any():
        lines += ["Of experts the mean is shown.", ""]
    for stack, rows in per_layer.groupby("stack", sort=False):
        grid = rows.pivot_table(index="layer_idx", columns="role", values="eff_rank", aggfunc="mean", sort=False)
        order = [role for role in ROLE_ORDER if role in grid] + [role for role in grid if role not in ROLE_ORDER]
        lines += [f"{stack}:", ""] if per_layer["stack"].nunique() > 1 else []
        lines += [table(grid.sort_index()[order].rename_axis(columns=None).reset_index(), 4), ""]
    return lines


def _with_null(spectra: Spectra) -> pd.DataFrame:
    nulls = spectra.ranks.groupby(["stack", "role"])[["erank_share", "erank_null"]].mean().reset_index()
    nulls = nulls.rename(
        columns={"stack": "Stack", "role": "Weight Type", "erank_share": "Share", "erank_null": "Null"}
    )
    return spectra.statistics.merge(nulls, on=["Stack", "Weight Type"], how="left")


def _phases(phases: pd.DataFrame) -> list[str]:
    if phases.empty:
        return []
    names = phases[["stack", "phase", "layers"]].drop_duplicates()
    cuts = ", ".join(f"{row.phase} ({row.layers})" for row in names.itertuples())
    everything = phases[phases["role"] == "all"].drop(columns="role")
    lines = ["## Phases", "", f"Layers are cut into phases: {cuts}.", "", "### All matrices", ""]
    lines += [table(everything, 4), ""]
    for (stack, phase), rows in phases[phases["role"] != "all"].groupby(["stack", "phase"], sort=False):
        place = f"{stack}, {phase}" if phases["stack"].nunique() > 1 else phase
        lines += [f"### By role: {place}", "", table(rows.drop(columns=["stack", "phase", "layers"]), 4), ""]
    return lines


def _trends(trends: pd.DataFrame) -> list[str]:
    if trends.empty:
        return []
    jumps = ["max_drop_layers", "max_drop", "max_jump_layers", "max_jump"]
    place = ["stack", "role"] if trends["stack"].nunique() > 1 else ["role"]
    course = trends.drop(columns=["pattern", *jumps, *({"stack", "role"} - set(place))])
    return [
        *["## Trends through the layers", ""],
        "`trend` names the course of the phase means where it stands out from the scatter within phases (effect above "
        "2, Kruskal-Wallis p corrected for the number of roles, phases_q, below 0.05) and from that of Gaussian "
        "matrices (null_sd, four times), and is OTHER where not.",
        *["", table(course, 4), ""],
        *["### Sharpest changes from one layer to the next", "", table(trends[[*place, *jumps]], 4), ""],
    ]
