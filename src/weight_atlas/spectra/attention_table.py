"""The kernels of all heads of a model as tables: a row per head and circuit, labels, and summaries."""

import re
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import Load
from weight_atlas.spectra import schedule
from weight_atlas.spectra.attention_factors import CIRCUITS, Block, attention_blocks, head_factors
from weight_atlas.spectra.attention_kernels import gaussian_kernel, kernel, kernel_measures
from weight_atlas.spectra.ranks import kernel_scatter

PLACE = ["stack", "layer", "component", "circuit", "head", "kv_head"]
LISTS = ["singular_values", "eigenvalues_real", "eigenvalues_imag"]
MEASURES = list(gaussian_kernel(2, 3, 3))
# Measures that have a null column: the value of a Gaussian kernel.
WITH_NULL = ["erank", "stable_rank", "asymmetry", "complex_share", "positive_share", "positivity"]
# Standard deviations of random heads by which a head must differ from the Gaussian value to be labelled: models have
# thousands of heads, and a few of every thousand random ones lie beyond three.
BEYOND = 5.0
# Memory of the heads that are computed at the same time, in bytes.
MEMORY = 300_000_000


def attention_kernels(
    matrices: pd.DataFrame,
    load: Load,
    *,
    gains: dict[tuple[str, int], np.ndarray] | None = None,
    scaled: bool = False,
    threads: int = 1,
) -> pd.DataFrame:
    """Spectra of the QK and OV kernels of every head.

    matrices: rows of an inventory; load(row) gives the tensor (out, in) in its stored type. gains: by (stack, layer),
    the gain of the norm before the attention, to be folded into the weights that read it. scaled: divide QK kernels by
    sqrt(head_dim), as the scores are. threads: layers computed in parallel, each with one BLAS thread.

    One row per stack, layer, component, circuit and head: kv_head, d_model, head_dim (rank bound), status ("ok",
    "zero", "not finite"), folded (whether a norm's gain is in it), the measures of kernel_measures, those of Gaussian
    factors as x_null (of erank also their standard deviation, erank_null_sd), and the spectra themselves
    (singular_values, eigenvalues_real, eigenvalues_imag; largest first).
    A circuit that cannot be formed is one row without head, whose status says why. Rotary positions, norms inside
    attention and biases are not in a kernel.
    """
    blocks = attention_blocks(matrices)
    gains = gains or {}

    def measure(block: Block, circuit: str) -> list[dict[str, Any]]:
        place = {"stack": block.stack, "layer": block.layer, "component": block.component, "circuit": circuit}
        if reason := block.missing(circuit):
            return [{**place, "status": reason}]
        gain = gains.get((block.stack, block.layer)) if not block.component else None
        factors = head_factors(block, circuit, load, gain)
        place["folded"] = gain is not None
        return [
            {**place, "head": head, "kv_head": kv_head, **_head(left, right, scaled and circuit == "QK")}
            for head, kv_head, left, right in factors
        ]

    pairs = [(block, circuit) for block in blocks for circuit in CIRCUITS]
    needs = [sum(int(row.rows) * int(row.cols) * 4 for row in block.rows.values()) for block, _ in pairs]
    tasks = [partial(measure, *pair) for pair in pairs]
    if not tasks:
        return _table([])
    with schedule.one_thread_each():
        results = schedule.run_within(tasks, needs, MEMORY, threads)
    return _table([row for rows in results for row in rows])


def check_heads(kernels: pd.DataFrame) -> None:
    """NotApplicable for a model without attention heads, or without any whose kernels can be formed."""
    if kernels["head"].isna().all():
        missing = ", ".join(dict.fromkeys(kernels["status"]))
        raise NotApplicable(f"the model has no attention heads{missing and f' whose kernels can be formed: {missing}'}")


def head_table(kernels: pd.DataFrame) -> pd.DataFrame:
    """The measures of every head without the spectra, with a label.

    LOW-RANK: an effective rank in the lowest quarter of the layer and below that of Gaussian factors by more than
    BEYOND standard deviations. HIGH-RANK: one in the highest quarter and above it by as much. MID: the other heads that
    differ by as much. Heads with the rank of noise, and layers with fewer than four heads, have no label.
    """
    heads = kernels[kernels["head"].notna()].drop(columns=LISTS).reset_index(drop=True)
    layers = heads.groupby(["stack", "layer", "component", "circuit"])["erank"]
    return heads.assign(label=_labels(heads["erank"], layers, heads["erank_null"], heads["erank_null_sd"]))


def summary_by_head(kernels: pd.DataFrame) -> pd.DataFrame:
    """Effective rank of every head over the layers.

    Columns: mean, std (of the population), min, max, null (mean of Gaussian factors), and category: the label of
    head_table, of the means.
    """
    keys = ["stack", "component", "circuit", "head"]
    summary, known = _summary(kernels, keys, "erank"), _known(kernels, "erank").groupby(keys, sort=True)
    null = known["erank_null"].mean().to_numpy()
    scatter = (known["erank_null_sd"].mean() / known.size() ** 0.5).to_numpy()
    heads = summary.groupby(keys[:-1])["mean"]
    return summary.assign(null=null, category=_labels(summary["mean"], heads, null, scatter))


def summary_by_layer(kernels: pd.DataFrame, measure: str = "erank") -> pd.DataFrame:
    """mean, std, min and max over the heads of a measure for every layer; std is that of the population."""
    return _summary(kernels, ["stack", "component", "circuit", "layer"], measure)


def _summary(kernels: pd.DataFrame, keys: list[str], measure: str) -> pd.DataFrame:
    groups = _known(kernels, measure).groupby(keys, sort=True)[measure]
    summary = pd.DataFrame({"mean": groups.mean(), "std": groups.std(ddof=0), "min": groups.min(), "max": groups.max()})
    return summary.reset_index()


def _known(kernels: pd.DataFrame, measure: str) -> pd.DataFrame:
    return kernels[kernels["head"].notna() & kernels[measure].notna()]


def _labels(ranks: pd.Series, groups: Any, null: Any, scatter: Any) -> np.ndarray:
    """LOW-RANK, MID, HIGH-RANK or no label for ranks in their groups; scatter: standard deviation of the null."""
    low, high = (groups.transform(lambda group, share=share: group.quantile(share)) for share in (0.25, 0.75))
    below, above = ranks < null - BEYOND * scatter, ranks > null + BEYOND * scatter
    ends = [(ranks <= low) & below, (ranks >= high) & above]
    label = np.select([*ends, below | above], ["LOW-RANK", "HIGH-RANK", "MID"], "")
    return np.where((groups.transform("count") >= 4) & (low < high), label, "")


def _head(left: np.ndarray, right: np.ndarray, scaled: bool) -> dict[str, Any]:
    size = {"d_model": right.shape[1], "head_dim": left.shape[0]}
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return {**size, "status": "not finite"}
    spectrum = kernel(left / len(left) ** 0.5 if scaled else left, right)
    null = gaussian_kernel(left.shape[0], left.shape[1], right.shape[1])
    measures = kernel_measures(spectrum)
    return {
        **size,
        "status": "ok" if spectrum.frobenius > 0 else "zero",
        **measures,
        "erank_share": measures["erank"] / min(left.shape),
        "erank_relative": measures["erank"] / null["erank"],
        **{f"{name}_null": null[name] for name in WITH_NULL},
        "erank_null_sd": kernel_scatter(left.shape[0], left.shape[1], right.shape[1])["erank"],
        "singular_values": spectrum.singular_values,
        "eigenvalues_real": spectrum.eigenvalues.real.copy(),
        "eigenvalues_imag": spectrum.eigenvalues.imag.copy(),
    }


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    nulls = [*[f"{name}_null" for name in WITH_NULL], "erank_null_sd"]
    numbers = [*MEASURES, "erank_share", "erank_relative", *nulls]
    table = pd.DataFrame(rows, columns=[*PLACE, "d_model", "head_dim", "status", "folded", *numbers, *LISTS])
    counts = [name for name in numbers if re.fullmatch(r"(eigen_)?n\d+", name)]
    whole = dict.fromkeys(["layer", "head", "kv_head", "d_model", "head_dim", *counts], "Int64")
    texts = dict.fromkeys(["stack", "component", "circuit", "status"], "str")
    table["folded"] = table["folded"].eq(True)
    table = table.astype({**dict.fromkeys(numbers, "float64"), **whole, **texts})
    for name in LISTS:
        table[name] = [values if isinstance(values, np.ndarray) else np.empty(0) for values in table[name]]
    return table
