"""Error of the weights of quantized variants, put beside what it costs on tasks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.ablations.quantization_variants import KEEPING, SPARING
from weight_atlas.interventions.changes import Quantized, QuantizedInputs
from weight_atlas.interventions.quantized_layers import weight_errors
from weight_atlas.live.anatomy import Anatomy

ERRORS = ["bits", "relative_error", "sqnr_db", "worst_matrix"]


def scheme_errors(live: Anatomy, quantizations: Mapping[str, Quantized | QuantizedInputs]) -> pd.DataFrame:
    """One row per quantization of weights and matrix: variant, layer, name, bits and errors (see quantizers.error_of).

    Quantized inputs beside them change no weight: such variants have the rows of theirs, or none.
    """
    known: dict[Quantized, pd.DataFrame] = {}
    tables = []
    for name, each in quantizations.items():
        change = each.quantized if isinstance(each, QuantizedInputs) else each
        if change is not None:
            if change not in known:
                known[change] = weight_errors(live, change.scheme, change.spared, change.matrices)
            tables.append(known[change].assign(variant=name))
    if not tables:
        return pd.DataFrame({"variant": []})
    table = pd.concat(tables, ignore_index=True)
    return table[["variant", *(name for name in table if name != "variant")]]


def scheme_table(
    errors: pd.DataFrame, impact: pd.DataFrame, quantizations: Mapping[str, Quantized | QuantizedInputs]
) -> pd.DataFrame:
    """One row per quantization and task: scheme, error over all matrices, and impact (see ablations.impact).

    relative_error: |W - Q|_F / |W|_F over all matrices together, 0 where weights are as they are; sqnr_db: the same in
    decibels; worst_matrix: the largest relative error of one; sparing: whether super weights kept their value; inputs:
    how the inputs of matrices are quantized; keeping: whether super activations kept their value there; plain: the same
    without either; block: how many weights of a block or group share a scale.
    """
    schemes = pd.DataFrame([_scheme(name, each) for name, each in quantizations.items()])
    table = schemes.merge(_sums(errors), on="variant", how="left")
    table["relative_error"] = table.relative_error.fillna(0.0)
    costs = impact[impact.task.notna()].drop(columns=["ablation", "kind", "factor"])
    return table.merge(costs, on="variant").astype({"block": float, "clip": float})


def _sums(errors: pd.DataFrame) -> pd.DataFrame:
    """Errors of each variant over all of its matrices."""
    if errors.empty:
        return pd.DataFrame(columns=["variant", *ERRORS]).astype(dict.fromkeys(ERRORS, float))
    sums = errors.groupby("variant", sort=False).agg(
        squared_error=("squared_error", "sum"), energy=("energy", "sum"), worst_matrix=("relative_error", "max"),
        bits=("bits", "mean"),
    )  # fmt: skip
    ratio = sums.squared_error / sums.energy
    with np.errstate(divide="ignore"):
        sums["sqnr_db"] = -10 * np.log10(ratio)
    sums["relative_error"] = np.sqrt(ratio)
    return sums[ERRORS].reset_index()


def _scheme(name: str, change: Quantized | QuantizedInputs) -> dict[str, Any]:
    of_inputs, weights = (change, change.quantized) if isinstance(change, QuantizedInputs) else (None, change)
    scheme = weights.scheme if weights else None
    return {
        "variant": name,
        "plain": name.partition(": ")[2].removesuffix(KEEPING).removesuffix(SPARING),
        "sparing": bool(weights and weights.spared),
        "inputs": str(of_inputs.inputs) if of_inputs else "",
        "keeping": bool(of_inputs and of_inputs.kept),
        "format": scheme.format if scheme else "",
        "granularity": scheme.granularity if scheme else "",
        "block": scheme.block if scheme else None,
        "symmetric": scheme.symmetric if scheme else None,
        "clip": scheme.clip if scheme else None,
        "matrices": change.matrices,
    }
