"""Do the candidates matter? Each removed alone, together, all but one, with its neuron, and against random weights.

The measure is the change of negative log-likelihood in nats per token on held-out windows, paired window by window. The
null of a candidate are random weights of its matrix of nearly its magnitude (super_weights.controls), one at a time;
the candidate has to exceed the largest of them.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch

from weight_atlas.lm.anatomy import Anatomy, Coordinate
from weight_atlas.lm.edits import zero
from weight_atlas.lm.paired import mean_nll, paired_difference, severity
from weight_atlas.lm.restart import logits_at
from weight_atlas.lm.routes import Variant, route_of
from weight_atlas.lm.variants import score_variants
from weight_atlas.lm.windows import Windows
from weight_atlas.super_weights.controls import magnitude_ratio, matched_draws

COLUMNS = (
    "layer", "row", "column", "component", "expert", "verdict", "delta_nll", "delta_nll_low", "delta_nll_high", "ratio",
    "severity", "null_draws", "null_max", "null_median", "p_value", "magnitude_ratio", "neuron_delta_nll",
    "kept_delta_nll", "rescue",
)  # fmt: skip
VARIANT_COLUMNS = (
    "variant", "kind", "candidate", "weights", "nll", "delta_nll", "delta_nll_low", "delta_nll_high", "ratio",
    "severity",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Variants to compute: (kind, number of the candidate or None, edits) each.

    Kinds: single, joint, kept (all candidates but this one removed), neuron, random, random_together.
    """

    candidates: tuple[Coordinate, ...]
    variants: tuple[tuple[str, int | None, Variant], ...]
    magnitude_ratios: tuple[float, ...]


@dataclass(frozen=True)
class Verification:
    """verdict: of all candidates together. table: one row per candidate. variants: one row per variant."""

    verdict: str
    table: pd.DataFrame
    variants: pd.DataFrame


def plan(live: Anatomy, candidates: Sequence[Coordinate], *, draws: int, seed: int) -> Plan:
    """All interventions that verify some candidates. draws: random weights per candidate, and sets of them jointly."""
    candidates = tuple(candidates)
    variants: list[tuple[str, int | None, Variant]] = []
    ratios = []
    for number, place in enumerate(candidates):
        variants.append(("single", number, (zero(place),)))
        variants.append(("neuron", number, (zero(replace(place, row=None)),)))
        if len(candidates) > 1:
            others = [other for other in candidates if other != place]
            variants.append(("kept", number, tuple(map(zero, others))))
    if len(candidates) > 1:
        variants.append(("joint", None, tuple(map(zero, candidates))))
        for controls in matched_draws(live, candidates, draws=draws, seed=seed):
            variants.append(("random_together", None, tuple(map(zero, controls))))
    for number, place in enumerate(candidates):
        own = [(zero(control),) for control in _controls(live, candidates, number, draws, seed)]
        variants += [("random", number, edits) for edits in own]
        ratios.append(
            magnitude_ratio(live, [place] * len(own), [edits[0].coordinate for edits in own]) if own else math.nan
        )
    return Plan(candidates, tuple(variants), tuple(ratios))


def verify(
    live: Anatomy, windows: Windows, planned: Plan, *, batch_size: int = 16, critical_ratio: float = 1.5
) -> Verification:
    """Compute the interventions of a plan on some windows, and judge each candidate.

    critical: alone it raises perplexity by `critical_ratio` or more. contributing: alone it exceeds its null, or the
    candidates together are critical and keeping it undoes a tenth or more of their effect. inert: neither. In every
    case the effect must exceed the largest of the null and its 95 % interval zero.
    """
    if not planned.candidates:
        return Verification(
            "none found", pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(VARIANT_COLUMNS))
        )
    edits = [edits for _, _, edits in planned.variants]
    route = route_of(live, windows.ids[:1], edits)
    scores = score_variants(live, windows, edits, route, batch_size=batch_size)
    variants = pd.DataFrame(
        [_variant_row("baseline", None, (), scores[0], scores[0])]
        + [
            _variant_row(kind, number, each, sums, scores[0])
            for (kind, number, each), sums in zip(planned.variants, scores[1:], strict=True)
        ],
        columns=list(VARIANT_COLUMNS),
    ).astype({"candidate": "Int64"})
    joint = _joint(variants, critical_ratio)
    rows = [
        _judged(variants, number, place, planned.magnitude_ratios[number], joint, critical_ratio)
        for number, place in enumerate(planned.candidates)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"expert": "Int64"})
    return Verification(_overall(table, joint), table, variants)


def cost(live: Anatomy, windows: Windows, planned: Plan) -> str:
    """What a plan will take, measured on one window: an upper bound, since variants share what they can."""
    logits_at(live, windows.ids[:1], torch.tensor([0]))
    start = time.perf_counter()
    logits_at(live, windows.ids[:1], torch.tensor([0]))
    each = time.perf_counter() - start
    tokens, n = windows.ids.numel(), len(planned.variants) + 1
    return f"{n} variants of {tokens} tokens: at most {n * len(windows) * each:.3g} s of forward passes"


def every_token(windows: Windows, step: int) -> Windows:
    """The same windows with every step-th of their tokens scored, the last one among them."""
    kept = torch.zeros_like(windows.scored)
    first = (windows.ids.shape[1] - 1) % step
    kept[:, first::step] = windows.scored[:, first::step]
    return Windows(windows.ids, kept)


def _controls(live: Anatomy, candidates: Sequence[Coordinate], number: int, draws: int, seed: int) -> list[Coordinate]:
    """Single controls for one candidate; never a candidate, not even another of the same matrix."""
    drawn = matched_draws(live, [candidates[number]], draws=draws, seed=seed + number + 1, never=candidates)
    return [controls[0] for controls in drawn]


def _variant_row(kind: str, number: int | None, edits: Variant, scores: pd.DataFrame, baseline: pd.DataFrame) -> dict:
    delta, low, high = paired_difference(baseline, scores)
    ratio = math.exp(min(delta, 700.0))
    return {
        "variant": " + ".join(str(edit.coordinate) for edit in edits) or "unchanged",
        "kind": kind,
        "candidate": number,
        "weights": len(edits),
        "nll": mean_nll(scores),
        "delta_nll": delta,
        "delta_nll_low": low,
        "delta_nll_high": high,
        "ratio": ratio,
        "severity": severity(ratio),
    }


@dataclass(frozen=True)
class _Joint:
    """The effect of all candidates together, whether it is critical, and the largest of its null."""

    delta: float
    critical: bool
    null_max: float


def _joint(variants: pd.DataFrame, critical_ratio: float) -> _Joint | None:
    joint = variants[variants.kind == "joint"]
    if joint.empty:
        return None
    row, null = joint.iloc[0], variants[variants.kind == "random_together"].delta_nll
    largest = float(null.max()) if len(null) else 0.0
    return _Joint(float(row.delta_nll), _stands_out(row, largest) and row.ratio >= critical_ratio, largest)


def _stands_out(row: pd.Series, largest: float) -> bool:
    """Above the largest of the null, and with an interval above zero (which a single window cannot give)."""
    return bool(row.delta_nll > largest and not row.delta_nll_low <= 0)


def _judged(
    variants: pd.DataFrame,
    number: int,
    place: Coordinate,
    magnitudes: float,
    joint: _Joint | None,
    critical_ratio: float,
) -> dict:
    own = variants[variants.candidate == number]
    single, neuron = own[own.kind == "single"].iloc[0], own[own.kind == "neuron"].iloc[0]
    null = own[own.kind == "random"].delta_nll
    largest = float(null.max()) if len(null) else 0.0
    kept = float(own[own.kind == "kept"].delta_nll.iloc[0]) if joint else math.nan
    rescue = joint.delta - kept if joint else math.nan
    alone = _stands_out(single, largest)
    helps = joint is not None and joint.critical and rescue > max(joint.null_max, 0.1 * joint.delta)
    return {
        "layer": place.layer,
        "row": place.row,
        "column": place.col,
        "component": place.component,
        "expert": place.expert,
        "verdict": "critical"
        if alone and single.ratio >= critical_ratio
        else "contributing"
        if alone or helps
        else "inert",
        "delta_nll": single.delta_nll,
        "delta_nll_low": single.delta_nll_low,
        "delta_nll_high": single.delta_nll_high,
        "ratio": single.ratio,
        "severity": single.severity,
        "null_draws": len(null),
        "null_max": largest if len(null) else math.nan,
        "null_median": float(null.median()) if len(null) else math.nan,
        "p_value": (1 + int((null >= single.delta_nll).sum())) / (1 + len(null)),
        "magnitude_ratio": magnitudes,
        "neuron_delta_nll": neuron.delta_nll,
        "kept_delta_nll": kept,
        "rescue": rescue,
    }


def _overall(table: pd.DataFrame, joint: _Joint | None) -> str:
    if (table.verdict == "critical").any():
        return "critical"
    if joint is not None and joint.critical:
        return "critical together"
    return "contributing" if (table.verdict == "contributing").any() else "not confirmed"
