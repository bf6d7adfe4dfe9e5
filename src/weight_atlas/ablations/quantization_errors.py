"""Error of the weights of quantized variants, put beside what it costs on tasks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from weight_atlas.ablations.variants import SPARING
from weight_atlas.interventions.changes import Quantized
from weight_atlas.interventions.quantized_layers import weight_errors
from weight_atlas.live.anatomy import Anatomy


def scheme_errors(live: Anatomy, quantizations: Mapping[str, Quantized]) -> pd.DataFrame:
    """One row per quantization and matrix: variant, layer, name, bits and errors (see quantizers.error_of)."""
    tables = [
        weight_errors(live, each.scheme, each.spared, each.matrices).assign(variant=name)
        for name, each in quantizations.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["variant", *(name for name in table if name != "variant")]]


def scheme_table(errors: pd.DataFrame, impact: pd.DataFrame, quantizations: Mapping[str, Quantized]) -> pd.DataFrame:
    """One row per quantization and task: scheme, error over all matrices, and impact (see ablations.impact).

    relative_error: |W - Q|_F / |W|_F over all matrices together; sqnr_db: the same in decibels; worst_matrix: the
    largest relative error of one; sparing: whether super weights kept their value; plain: the same scheme without
    that; block: how many weights of a block or group share a scale.
    """
    sums = errors.groupby("variant", sort=False).agg(
        squared_error=("squared_error", "sum"), energy=("energy", "sum"), worst_matrix=("relative_error", "max"),
        bits=("bits", "mean"),
    )  # fmt: skip
    ratio = sums.squared_error / sums.energy
    with np.errstate(divide="ignore"):
        sums["sqnr_db"] = -10 * np.log10(ratio)
    sums["relative_error"] = np.sqrt(ratio)
    schemes = pd.DataFrame(
        [
            {
                "variant": name,
                "plain": name.partition(": ")[2].removesuffix(SPARING),
                "sparing": bool(each.spared),
                "format": each.scheme.format,
                "granularity": each.scheme.granularity,
                "block": each.scheme.block,
                "symmetric": each.scheme.symmetric,
                "clip": each.scheme.clip,
                "matrices": each.matrices,
            }
            for name, each in quantizations.items()
        ]
    )
    columns = ["bits", "relative_error", "sqnr_db", "worst_matrix"]
    table = schemes.merge(sums[columns].reset_index(), on="variant")
    costs = impact[impact.task.notna()].drop(columns=["ablation", "kind", "factor"])
    return table.merge(costs, on="variant").astype({"block": float})
