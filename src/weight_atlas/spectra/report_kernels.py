"""The part of the spectra report about attention heads, in Markdown."""

import numpy as np
import pandas as pd

from weight_atlas.markdown import inline
from weight_atlas.markdown import table as markdown_table
from weight_atlas.spectra.attention_kernels import milestones
from weight_atlas.spectra.attention_table import summary_by_head, summary_by_layer
from weight_atlas.spectra.ranks import rank_measures

PERCENTILES = (0, 5, 10, 25, 50, 75, 90, 95, 100)
TITLES = {"QK": "W_Q^T W_K (what a head compares)", "OV": "W_O W_V (what a head writes)"}


def table(rows: pd.DataFrame | dict[str, object], digits: int = 4) -> str:
    """A Markdown table; a dict becomes one of metrics and values."""
    if isinstance(rows, dict):
        rows = pd.DataFrame({"Metric": rows.keys(), "Value": [str(value) for value in rows.values()]})
    return markdown_table(rows, floatfmt=f".{digits}f", missingval="")


def head_section(row: pd.Series) -> list[str]:
    """One kernel: its measures, largest eigenvalues, percentiles, spread in the complex plane, cumulative energy."""
    width, bound = int(row["d_model"]), len(row["singular_values"])
    values = np.asarray(row["eigenvalues_real"]) + 1j * np.asarray(row["eigenvalues_imag"])
    sigma = np.asarray(row["singular_values"])
    lines = [f"### {TITLES[row['circuit']]}: layer {row['layer']}, head {row['head']}", ""]
    if row["status"] != "ok":
        return [*lines, f"This kernel is {row['status']}.", ""]
    modulus, complex_count = np.abs(values), int((values.imag != 0).sum())
    lines += [
        table(
            {
                "Kernel shape": f"{width} x {width}, rank at most {bound}",
                "Asymmetry, norm of A - A^T over norm of A": f"{row['asymmetry']:.4f} "
                f"(unstructured: {row['asymmetry_null']:.4f})",
                "Complex eigenvalues": f"{complex_count} of {bound} that can differ from zero "
                f"({complex_count / bound:.1%}; Gaussian factors: {row['complex_share_null']:.1%})",
                f"Energy of the {bound} largest eigenvalues": "100 % (the others are exactly zero)",
                "Effective rank of the singular values": f"{row['erank']:.4f} (Gaussian: {row['erank_null']:.4f})",
                "Effective rank of the eigenvalue moduli": f"{row['eigen_erank']:.4f}",
                "99 % of the eigenvalues' energy in": f"{row['eigen_n99']} of {width} components",
                "Positivity (sum of eigenvalues / sum of moduli)": f"{row['positivity']:.4f}",
                "Frobenius norm": f"{row['frobenius']:.6g}",
                "Largest singular value": f"{sigma[0]:.6g}",
            }
        ),
        "",
        *["#### Top 20 eigenvalues", ""],
        table(
            pd.DataFrame({"Rank": range(len(values)), "Real": values.real, "Imaginary": values.imag}).assign(
                Magnitude=modulus
            )[:20],
            digits=6,
        ),
        *["", "#### Magnitudes of the eigenvalues", ""],
        f"Of {width} eigenvalues {bound} can differ from zero; {width - bound} are zero because of the rank.",
        "",
        table(pd.DataFrame({"Percentile": PERCENTILES, "Magnitude": np.percentile(modulus, PERCENTILES)}), digits=6),
        *["", "#### Complex plane", ""],
        *_plane(values, width, complex_count),
        *["", "#### Cumulative energy", ""],
        _energy_table(values, sigma, width),
        "",
    ]
    return lines


def _plane(values: np.ndarray, width: int, complex_count: int) -> list[str]:
    zeros = [0.0] if width > len(values) else []
    real, imaginary = np.append(values.real, zeros), np.append(values.imag, zeros)
    positive, negative = int((values.real > 0).sum()), int((values.real < 0).sum())
    return [
        f"- Real parts from {real.min():.4f} to {real.max():.4f}",
        f"- Imaginary parts from {imaginary.min():.4f} to {imaginary.max():.4f}",
        f"- {complex_count} eigenvalues have an imaginary part, {width - complex_count} are real",
        f"- {positive} have a positive real part, {negative} a negative one",
    ]


def _energy_table(values: np.ndarray, sigma: np.ndarray, width: int) -> str:
    eigen, singular = milestones(values), milestones(sigma)
    rows = [
        {
            "Energy": f"{share:.0%}",
            "Eigenvalues needed": eigen[share],
            f"of {width}": f"{eigen[share] / width:.1%}",
            "Singular values needed": singular[share],
        }
        for share in eigen
    ]
    return table(pd.DataFrame(rows))


def heads_section(kernels: pd.DataFrame) -> list[str]:
    """Effective ranks of all kernels: overall, by head, by layer, and of each layer and head."""
    known = kernels[kernels["head"].notna() & (kernels["status"] == "ok")]
    lines: list[str] = []
    by_head, by_layer = summary_by_head(known), summary_by_layer(known)
    for (stack, component, circuit), group in known.groupby(["stack", "component", "circuit"], sort=False):
        place = ["stack", "component", "circuit"]
        here = dict(zip(place, (stack, component, circuit), strict=True))
        several = known.groupby(["stack", "component"]).ngroups > 1
        name = TITLES[circuit] + (f", {stack} {component}".rstrip() if several else "")
        ranks = group["erank"]
        overall = {"min": ranks.min(), "max": ranks.max(), "mean": ranks.mean(), "std": ranks.std(ddof=0)}
        overall["Gaussian factors"] = group["erank_null"].mean()
        grid = group.pivot(index="layer", columns="head", values="erank").rename_axis("Layer").add_prefix("H")
        lines += [
            *[f"### Effective rank of {name}", "", table({key: f"{value:.4f}" for key, value in overall.items()}), ""],
            *["#### By head, over the layers", "", table(_part(by_head, here), 2), ""],
            *["#### By layer, over the heads", "", table(_part(by_layer, here), 2), ""],
            *["#### Every layer and head", "", table(grid.rename_axis(columns=None).reset_index(), 2), ""],
        ]
    return lines


def singular_value_section(row: pd.Series) -> list[str]:
    """One matrix: its shape, the ends of its spectrum, and the components needed for shares of the energy."""
    sigma, rows, columns = np.asarray(row["sigma"]), row["rows"], row["cols"]
    lines = [f"### {inline(row['id'])}", ""]
    if not len(sigma) or sigma[0] == 0:
        return [*lines, f"No spectrum: {row['method']}.", ""]
    needed = milestones(sigma)
    with np.errstate(divide="ignore"):
        condition = sigma[0] / sigma[-1]
    return [
        *lines,
        f"- Shape {rows} x {columns}; {needed[0.99]} of {len(sigma)} components hold 99 % of the energy",
        f"- Largest singular value {sigma[0]:.6g}, smallest {sigma[-1]:.6g}, condition number {condition:.6g}",
        f"- Effective rank {rank_measures(sigma)['erank']:.4f}",
        "",
        table(pd.DataFrame({"Energy": [f"{share:.0%}" for share in needed], "Components needed": needed.values()})),
        "",
    ]


def _part(summary: pd.DataFrame, here: dict[str, str]) -> pd.DataFrame:
    chosen = (summary[list(here)] == pd.Series(here)).all(axis=1)
    return summary[chosen].drop(columns=list(here)).rename(columns=str.capitalize)
