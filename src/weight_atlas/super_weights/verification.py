"""Verify candidates: each removed alone, together, all but one, with its neuron, and against random weights.

The measure is the change of negative log-likelihood in nats per token on held-out windows, paired window by window. The
verdict follows from the harm that was measured. Beside it stands a null: random weights of the same matrix, nearest in
size, removed one at a time, and where the candidate has no equals the same change at random places
(super_weights.verification_plan). A candidate that does not exceed the largest of them is as harmful as measured, but
not alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from weight_atlas.interventions.intervention import UNCHANGED, Intervention
from weight_atlas.interventions.measure import measure
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.windows import Windows
from weight_atlas.ratios import ratio_of
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.statistics.paired import mean_nll, paired_difference
from weight_atlas.statistics.severity import severity
from weight_atlas.super_weights.verification_plan import candidates_of, random_ratio

COLUMNS = (
    "layer", "row", "column", "component", "expert", "verdict", "delta_nll", "delta_nll_low", "delta_nll_high", "ratio",
    "severity", "null_draws", "null_max", "null_median", "p_value", "magnitude_ratio", "shift_draws", "shift_max",
    "shift_median", "neuron_delta_nll", "kept_delta_nll", "rescue", "exceeds_null",
)  # fmt: skip
VARIANT_COLUMNS = (
    "variant", "kind", "candidate", "weights", "nll", "delta_nll", "delta_nll_low", "delta_nll_high", "ratio",
    "severity",
)  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """verdict: of all candidates together. table: one row per candidate. variants: one row per variant."""

    verdict: str
    table: pd.DataFrame
    variants: pd.DataFrame


def verify(
    live: Anatomy,
    windows: Windows,
    planned: Sequence[Intervention],
    settings: SuperWeightVerification,
) -> Verification:
    """Measure the planned interventions on windows, and judge each candidate.

    critical: alone it raises perplexity by `critical_ratio` or more. contributing: alone it raises it by more than
    `contributing_ratio`; or the candidates together are critical, and keeping it undoes a tenth or more of their effect
    and more than `contributing_ratio`. A weight's own effect counts where its 95 % interval lies above zero;
    inconclusive: it is larger than that ratio, but the interval does not. inert: none of these. exceeds_null says
    whether it is larger than that of every random weight and every shift. The verdict does not depend on it: draws that
    happen to be as harmful do not make a removal harmless.
    """
    candidates = candidates_of(planned)
    if not candidates:
        return Verification(
            "none found", pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(VARIANT_COLUMNS))
        )
    variants = intervened(live, windows, planned, batch_size=settings.batch_size)
    bands = (settings.critical_ratio, settings.contributing_ratio)
    joint = joint_of(variants, bands)
    rows = [
        judged(variants, number, place, random_ratio(planned, number), joint, bands)
        for number, place in enumerate(candidates)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"expert": "Int64"})
    return Verification(overall(table, joint), table, variants)


def intervened(
    live: Anatomy, windows: Windows, interventions: Sequence[Intervention], *, batch_size: int
) -> pd.DataFrame:
    """The unchanged model and each intervention on the same windows: one row each, VARIANT_COLUMNS."""
    every = [UNCHANGED, *interventions]
    measured = measure(live, windows, every, batch_size=batch_size)
    rows = [_variant_row(one, measured.of(number), measured.of(0)) for number, one in enumerate(every)]
    return pd.DataFrame(rows, columns=list(VARIANT_COLUMNS)).astype({"candidate": "Int64"})


def every_token(windows: Windows, step: int) -> Windows:
    """The same windows with every step-th of their tokens scored, the last one among them."""
    kept = torch.zeros_like(windows.scored)
    first = (windows.ids.shape[1] - 1) % step
    kept[:, first::step] = windows.scored[:, first::step]
    return Windows(windows.ids, kept)


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
        "ratio": ratio,
        "severity": severity(ratio),
    }


@dataclass(frozen=True)
class Joint:
    """The effect of all candidates together, what it is called, and the largest of its null."""

    delta: float
    verdict: str
    null_max: float


def joint_of(variants: pd.DataFrame, bands: tuple[float, float]) -> Joint | None:
    """The effect of all candidates together; None where there is one candidate."""
    joint = variants[variants.kind == "joint"]
    if joint.empty:
        return None
    row, null = joint.iloc[0], variants[variants.kind.isin(("random_together", "shifted_together"))].delta_nll
    largest = float(null.max()) if len(null) else 0.0
    return Joint(float(row.delta_nll), band_of(row, bands), largest)


def harmful(row: pd.Series, ratio: float) -> bool:
    """Whether a variant multiplies perplexity by a ratio or more, with an interval above zero.

    A single window cannot give an interval; a loss that is no number any more is as harmful as can be.
    """
    return costly(row, ratio) and (math.isnan(row.delta_nll) or not row.delta_nll_low <= 0)


def costly(row: pd.Series, ratio: float) -> bool:
    """Whether a variant multiplies perplexity by a ratio or more, be it certain or not."""
    return not row.delta_nll < math.log(ratio)


def band_of(row: pd.Series, bands: tuple[float, float]) -> str:
    """critical, contributing, inconclusive or inert, by a variant's own effect; bands: see verdict_of."""
    critical, contributing = bands
    if harmful(row, critical):
        return "critical"
    if harmful(row, contributing):
        return "contributing"
    return "inconclusive" if costly(row, contributing) else "inert"


def judged(
    variants: pd.DataFrame,
    number: int,
    place: Coordinate,
    magnitudes: float,
    joint: Joint | None,
    bands: tuple[float, float],
) -> dict:
    """The row of one candidate (see COLUMNS), from the rows of all variants."""
    own = variants[variants.candidate == number]
    single, neuron = own[own.kind == "single"].iloc[0], own[own.kind == "neuron"].iloc[0]
    null, shifts = own[own.kind == "random"].delta_nll, own[own.kind == "shifted"].delta_nll
    kept = float(own[own.kind == "kept"].delta_nll.iloc[0]) if joint else math.nan
    rescue = joint.delta - kept if joint else math.nan
    return {
        "layer": place.layer,
        "row": place.row,
        "column": place.col,
        "component": place.component,
        "expert": place.expert,
        "verdict": verdict_of(single, rescue, joint, bands),
        "delta_nll": single.delta_nll,
        "delta_nll_low": single.delta_nll_low,
        "delta_nll_high": single.delta_nll_high,
        "ratio": single.ratio,
        "severity": single.severity,
        "null_draws": len(null),
        "null_max": float(null.max()),
        "null_median": float(null.median()),
        "p_value": (1 + int((null >= single.delta_nll).sum())) / (1 + len(null)) if len(null) else math.nan,
        "magnitude_ratio": magnitudes,
        "shift_draws": len(shifts),
        "shift_max": float(shifts.max()),
        "shift_median": float(shifts.median()),
        "neuron_delta_nll": neuron.delta_nll,
        "kept_delta_nll": kept,
        "rescue": rescue,
        "exceeds_null": not bool((pd.concat([null, shifts]) >= single.delta_nll).any()),
    }


def verdict_of(single: pd.Series, rescue: float, joint: Joint | None, bands: tuple[float, float]) -> str:
    """critical, contributing, inconclusive or inert; see verify.

    single: row of the variant without the candidate; rescue: in nats; bands: least ratios of perplexity for the first
    two.
    """
    own, helps = band_of(single, bands), False
    if joint is not None and joint.verdict == "critical":
        helps = rescue > max(0.1 * joint.delta, math.log(bands[1]))
    return "contributing" if helps and own != "critical" else own


def overall(table: pd.DataFrame, joint: Joint | None) -> str:
    """The gravest of what the candidates do alone (rows of judged) and together."""
    if (table.verdict == "critical").any():
        return "critical"
    if joint is not None and joint.verdict == "critical":
        return "critical together"
    given = {*table.verdict, *([] if joint is None else [joint.verdict])}
    return next((verdict for verdict in ("contributing", "inconclusive") if verdict in given), "not confirmed")
