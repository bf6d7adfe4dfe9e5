"""Verify candidates: each removed alone, together, all but one, with its neuron, and against random weights.

The measure is the change of negative log-likelihood in nats per token on windows drawn from all over the corpus, paired
document by document. Two questions are answered apart. Does removal harm: by how much, and is it certain. Is the weight
special: what share of random weights of the same matrix, nearest in size, do as much harm when they are removed, or,
where it has no equals, what share of the same changes made at random places (super_weights.verification_plan). The
answer is a share with its interval, never a maximum, which would grow with the number of draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.interventions.intervention import Intervention
from weight_atlas.interventions.kinds import INTO_NEURONS
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.windows import Windows
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.statistics.proportions import wilson
from weight_atlas.super_weights.variant_table import VARIANT_COLUMNS, intervened
from weight_atlas.super_weights.verification_plan import candidates_of, random_ratio

COLUMNS = (
    "layer", "row", "column", "role", "component", "expert", "verdict", "delta_nll", "delta_nll_low", "delta_nll_high",
    "ratio", "severity", "harm_p", "harm_q", "special", "exceed_share", "exceed_share_low", "exceed_share_high",
    "null_draws", "null_max", "null_median", "p_value", "magnitude_ratio", "shift_draws", "shift_max", "shift_median",
    "shift_p_value", "neuron_delta_nll", "row_delta_nll", "column_delta_nll", "kept_delta_nll", "rescue",
    "exceeds_null",
)  # fmt: skip
# False discoveries among the candidates, and the chance that a share lies beyond its bound on one side.
LEVEL = 0.05
# A weight is special if fewer than this share of random weights, or places, do as much harm.
SPECIAL = 0.1
# From the gravest on. What all candidates do together may be called so as well.
VERDICTS = (
    "critical", "critical together", "harmful but not special", "contributing", "special but mild", "mild",
    "inconclusive",
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

    Harm: the removal multiplies perplexity by `critical_ratio` (harmful) or `contributing_ratio` (mild) or more, and
    its false discovery rate among the candidates (Benjamini and Hochberg, of Student's t over documents) is at most
    LEVEL. Special: the share of its null that does as much harm is below SPECIAL, with its one-sided 95 % bound
    (Wilson); not special: that share lies above; undecided: there are too few draws to tell.

    critical: harmful, and not known to be not special. harmful but not special. special but mild: mild and special.
    mild: mild, not known to be special. contributing: neither alone, but the candidates together are critical, and
    keeping it undoes a tenth or more of their effect and more than `contributing_ratio`. inconclusive: the effect is
    large enough, but not certain. inert: none of these. More draws, or others, turn undecided into one of its
    neighbours and seldom change a verdict: a harmful weight would have to lie near the bound.
    """
    candidates = candidates_of(planned)
    if not candidates:
        return Verification(
            "none found", pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(VARIANT_COLUMNS))
        )
    variants = intervened(live, windows, planned, batch_size=settings.batch_size)
    bands = (settings.critical_ratio, settings.contributing_ratio)
    joint = joint_of(variants, bands)
    own = variants[variants.kind == "single"].sort_values("candidate", kind="stable")
    rates = discovery_rates(own.harm_p.to_numpy(float))
    rows = [
        judged(variants, number, place, random_ratio(planned, number), joint, bands, rates[number])
        for number, place in enumerate(candidates)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"expert": "Int64"})
    return Verification(overall(table, joint), table, variants)


def discovery_rates(p: np.ndarray) -> np.ndarray:
    """False discovery rates (Benjamini and Hochberg 1995) of p values; NaN stays where there is none."""
    from scipy.stats import false_discovery_control

    rates, known = np.full(len(p), np.nan), ~np.isnan(p)
    if known.any():
        rates[known] = false_discovery_control(p[known])
    return rates


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
    verdict = verdict_of(Harm(row.delta_nll, row.harm_p), "undecided", bands)
    return Joint(float(row.delta_nll), verdict, largest)


@dataclass(frozen=True)
class Harm:
    """What a removal costs, in nats per token, and how likely it is by chance, corrected for the number looked at.

    rate: NaN where a single document gives no interval, or a loss is not finite: then the size alone counts.
    """

    delta_nll: float
    rate: float

    def reaches(self, ratio: float) -> bool:
        """Whether it multiplies perplexity by a ratio or more, be it certain or not; what is no number does."""
        return not self.delta_nll < math.log(ratio)

    @property
    def certain(self) -> bool:
        return not self.rate > LEVEL


@dataclass(frozen=True)
class Null:
    """How often random changes do as much harm: share of them, and its one-sided 95 % bounds; NaN without draws."""

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, harm: float, draws: pd.Series) -> "Null":
        """Beside the rises of the loss by random changes; a harm that is no number is as large as can be."""
        if draws.empty:
            return cls(math.nan, math.nan, math.nan)
        count = 0 if math.isnan(harm) else int((draws >= harm).sum())
        return cls(count / len(draws), *wilson(count, len(draws), confidence=1 - 2 * LEVEL))

    @property
    def special(self) -> str:
        """yes, no, undecided, or unknown where nothing could be drawn."""
        if math.isnan(self.share):
            return "unknown"
        return "yes" if self.high <= SPECIAL else "no" if self.low > SPECIAL else "undecided"


def costly(row: Any, ratio: float) -> bool:
    """Whether a variant multiplies perplexity by a ratio or more, be it certain or not."""
    return Harm(row.delta_nll, math.nan).reaches(ratio)


def judged(
    variants: pd.DataFrame,
    number: int,
    place: Coordinate,
    magnitudes: float,
    joint: Joint | None,
    bands: tuple[float, float],
    rate: float,
) -> dict:
    """The row of one candidate (see COLUMNS), from the rows of all variants. rate: its false discovery rate."""
    own = variants[variants.candidate == number]

    def of(kind: str) -> pd.Series:
        return own[own.kind == kind].delta_nll

    single = own[own.kind == "single"].iloc[0]
    null, shifts = of("random"), of("shifted")
    # What removing smaller weights does is no null of a weight that has no equals.
    level = Null.of(single.delta_nll, shifts if len(shifts) else null)
    kept = float(of("kept").iloc[0]) if joint else math.nan
    rescue = joint.delta - kept if joint else math.nan
    alone = verdict_of(Harm(single.delta_nll, rate), level.special, bands)
    row, column = float(of("row").iloc[0]), float(of("column").iloc[0])
    neuron = row if place.role in INTO_NEURONS else column if place.role == "W_down" else math.nan
    return {
        "layer": place.layer,
        "row": place.row,
        "column": place.col,
        "role": place.role,
        "component": place.component,
        "expert": place.expert,
        "verdict": among_others(alone, rescue, joint, bands),
        "delta_nll": single.delta_nll,
        "delta_nll_low": single.delta_nll_low,
        "delta_nll_high": single.delta_nll_high,
        "ratio": single.ratio,
        "severity": single.severity,
        "harm_p": single.harm_p,
        "harm_q": rate,
        "special": level.special,
        "exceed_share": level.share,
        "exceed_share_low": level.low,
        "exceed_share_high": level.high,
        "null_draws": len(null),
        "null_max": float(null.max()),
        "null_median": float(null.median()),
        "p_value": _p(single.delta_nll, null),
        "magnitude_ratio": magnitudes,
        "shift_draws": len(shifts),
        "shift_max": float(shifts.max()),
        "shift_median": float(shifts.median()),
        "shift_p_value": _p(single.delta_nll, shifts),
        "neuron_delta_nll": neuron,
        "row_delta_nll": row,
        "column_delta_nll": column,
        "kept_delta_nll": kept,
        "rescue": rescue,
        "exceeds_null": not bool((pd.concat([null, shifts]) >= single.delta_nll).any()),
    }


def _p(harm: float, draws: pd.Series) -> float:
    """(1 + draws at least as harmful) / (1 + draws); NaN without draws."""
    return (1 + int((draws >= harm).sum())) / (1 + len(draws)) if len(draws) else math.nan


def verdict_of(harm: Harm, special: str, bands: tuple[float, float]) -> str:
    """What one removal is called by itself; see verify. bands: least ratios of perplexity for harmful and mild."""
    critical, mild = bands
    if not harm.reaches(mild):
        return "inert"
    if not harm.certain:
        return "inconclusive"
    if harm.reaches(critical):
        return "harmful but not special" if special == "no" else "critical"
    return "special but mild" if special == "yes" else "mild"


def among_others(alone: str, rescue: float, joint: Joint | None, bands: tuple[float, float]) -> str:
    """The verdict on a weight that is called so `alone`, and whose keeping undoes `rescue` nats per token."""
    helps = joint is not None and joint.verdict == "critical" and rescue > max(0.1 * joint.delta, math.log(bands[1]))
    grave = alone in ("critical", "harmful but not special")
    return "contributing" if helps and not grave else alone


def overall(table: pd.DataFrame, joint: Joint | None) -> str:
    """The gravest of what the candidates do alone (rows of judged) and together."""
    given = {*table.verdict}
    if joint is not None:
        given.add("critical together" if joint.verdict == "critical" else joint.verdict)
    return next((verdict for verdict in VERDICTS if verdict in given), "not confirmed")
