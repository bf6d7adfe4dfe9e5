"""The unchanged model and variants of it on the same windows, as a table: a row each."""

from collections.abc import Sequence

import pandas as pd

from weight_atlas.interventions.intervention import UNCHANGED, Intervention
from weight_atlas.interventions.measure import measure
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.windows import Windows
from weight_atlas.ratios import ratio_of
from weight_atlas.statistics.paired import mean_nll, paired_difference, paired_p
from weight_atlas.statistics.severity import severity

VARIANT_COLUMNS = (
    "variant", "kind", "candidate", "weights", "nll", "delta_nll", "delta_nll_low", "delta_nll_high", "harm_p", "ratio",
    "severity",
)  # fmt: skip


def intervened(
    live: Anatomy, windows: Windows, interventions: Sequence[Intervention], *, batch_size: int
) -> pd.DataFrame:
    """The unchanged model and each intervention on the same windows: one row each, VARIANT_COLUMNS."""
    every = [UNCHANGED, *interventions]
    measured = measure(live, windows, every, batch_size=batch_size)
    rows = [_variant_row(one, measured.of(number), measured.of(0)) for number, one in enumerate(every)]
    return pd.DataFrame(rows, columns=list(VARIANT_COLUMNS)).astype({"candidate": "Int64"})


def _variant_row(intervention: Intervention, scores: pd.DataFrame, baseline: pd.DataFrame) -> dict:
    delta, low, high = paired_difference(baseline, scores)
    ratio = ratio_of(delta)
    return {
        "variant": intervention.name,
        "kind": intervention.kind,
        "candidate": intervention.target,
        "weights": intervention.change.weights,
        "nll": mean_nll(scores),
        "delta_nll": delta,
        "delta_nll_low": low,
        "delta_nll_high": high,
        "harm_p": paired_p(baseline, scores),
        "ratio": ratio,
        "severity": severity(ratio),
    }
