"""What is wrong with token weights, told by their distribution: each diagnosis with its trigger and its remedy."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from weight_atlas.numbers_of import number_of
from weight_atlas.token_weights.shapes import HEAVY, SPIKE, SPIKE_SHARE, TAIL_INDEX, Shape, robust_sigma, shape_of
from weight_atlas.token_weights.statistics import NEAR_ZERO
from weight_atlas.weights.distribution import power_of_two

YES, NO, NOT_JUDGED = "yes", "no", "not judged"
# Triggers.
UNMOVED, UNMOVED_SHARE = 1e-3, 0.95  # distance to the initial value, of a share of the weights
NARROW = 0.01  # p95 - p5 over |initial value|
BLOW_UP = 5.0  # 99.9th over 99th percentile of |w - median|; 1.28 of a normal distribution
FAR = 20.0  # robust standard deviations
SHRUNK = 0.01  # median |w| over |initial value|
DENSE, SPARSE = 0.1, 0.5  # shares of weights near zero


@dataclass(frozen=True)
class Diagnosis:
    """One question to a vector and its answer.

    verdict: yes, no, or not judged. value, limit: of what decides; healthy: what a normal distribution has there.
    grade: of a finding, where the verdict is yes. evidence: the numbers in words. remedy: what to do about it.
    """

    diagnosis: str
    verdict: str
    value: float
    limit: float
    healthy: float
    grade: str
    evidence: str
    remedy: str = ""


def diagnoses(weights: np.ndarray, kept: np.ndarray | None, initial: float | None) -> tuple[list[Diagnosis], Shape]:
    """All diagnoses of weights (V,), and the shape of their distribution.

    kept: (V,) bool; masked tokens are zero by design and left out, but for the sparsity of all. initial: the value
    before training; None where it is not known.
    """
    used = weights if kept is None else weights[kept]
    finite = used[np.isfinite(used)]
    shape = shape_of(finite, initial)
    found = [_not_finite(weights)]
    if not len(finite):
        return found, shape
    moved = finite if math.isnan(shape.resting) else finite[finite != shape.resting]
    return [
        *found,
        _no_learning(finite, initial, shape),
        _explosion(moved),
        _far_outliers(moved),
        _over_regularised(finite, initial),
        _sparse(weights, kept, finite),
        _shape(shape),
    ], shape


def table_of(found: list[Diagnosis]) -> pd.DataFrame:
    """One row for each diagnosis."""
    return pd.DataFrame([asdict(each) for each in found])


def findings_of(found: list[Diagnosis]) -> list[dict[str, str]]:
    """The diagnoses that hold, as graded findings."""
    return [
        {"grade": each.grade, "text": f"{each.diagnosis}: {each.evidence}; {each.remedy}"}
        for each in found
        if each.verdict == YES
    ]


def _verdict(holds: bool) -> str:
    return YES if holds else NO


def _not_finite(weights: np.ndarray) -> Diagnosis:
    bad = int((~np.isfinite(weights)).sum())
    return Diagnosis(
        "not finite",
        _verdict(bad > 0),
        bad,
        0,
        0,
        "critical",
        f"{bad:,} of {number_of(len(weights), 'weight')} {'is' if bad == 1 else 'are'} NaN or infinite",
        "lower the learning rate, clip gradients, and go back to a checkpoint before they appear",
    )


def _no_learning(finite: np.ndarray, initial: float | None, shape: Shape) -> Diagnosis:
    remedy = "check that the optimizer is given the weights and that their learning rate is not too low"
    low, high = (float(value) for value in np.quantile(finite, (0.05, 0.95)))
    if initial is None:
        share = shape.resting_share
        reference = abs(float(np.median(finite)))
        said = f"{share:.1%} of the weights are exactly equal"
    else:
        share = float((np.abs(finite - initial) < UNMOVED * (abs(initial) or 1.0)).mean())
        reference = abs(initial)
        said = f"{share:.1%} of the weights lie within {UNMOVED:g} of the initial value {initial:g}"
    narrow = high - low < NARROW * reference
    evidence = f"{said}; p5 to p95 is {low:.6g} to {high:.6g}"
    return Diagnosis(
        "no learning", _verdict(share > UNMOVED_SHARE or narrow), share, UNMOVED_SHARE, 0, "critical", evidence, remedy
    )


def _explosion(moved: np.ndarray) -> Diagnosis:
    distance = np.abs(moved - np.median(moved)) if len(moved) else np.zeros(1)
    outer, edge = (float(value) for value in np.quantile(distance, (0.999, 0.99)))
    ratio = outer / edge if edge > 0 else math.nan
    healthy = float(norm.isf(0.0005) / norm.isf(0.005))
    verdict = NOT_JUDGED if math.isnan(ratio) else _verdict(ratio > BLOW_UP)
    return Diagnosis(
        "explosion",
        verdict,
        ratio,
        BLOW_UP,
        healthy,
        "critical",
        f"the 99.9th percentile of the distance to the median is {ratio:.3g} times the 99th",
        "lower the learning rate or clip gradients; look at the tokens of highest weight for overfitting",
    )


def _far_outliers(moved: np.ndarray) -> Diagnosis:
    sigma = robust_sigma(moved)
    distance = np.abs(moved - np.median(moved)) if len(moved) else np.zeros(1)
    furthest = float(distance.max()) / sigma if sigma > 0 else math.nan
    count = int((distance > FAR * sigma).sum()) if sigma > 0 else 0
    healthy = float(norm.isf(0.5 / max(2, len(moved))))
    return Diagnosis(
        "far outliers",
        NOT_JUDGED if math.isnan(furthest) else _verdict(furthest > FAR),
        furthest,
        FAR,
        healthy,
        "notable",
        f"{number_of(count, 'weight lies', 'weights lie')} over {FAR:g} robust standard deviations from the median, "
        f"the furthest {furthest:.3g}",
        "look at these tokens, and at how often they occur",
    )


def _over_regularised(finite: np.ndarray, initial: float | None) -> Diagnosis:
    middle = float(np.median(np.abs(finite)))
    remedy = "weaken weight decay or the penalty on the weights, or raise the learning rate"
    if not initial:
        evidence = f"the median of |w| is {middle:.3g}, and no initial value is known to compare it with"
        return Diagnosis("over-regularised", NOT_JUDGED, math.nan, SHRUNK, 1, "critical", evidence, remedy)
    ratio = middle / abs(initial)
    evidence = f"the median of |w| is {middle:.3g}, {ratio:.2g} of the initial value"
    return Diagnosis("over-regularised", _verdict(ratio < SHRUNK), ratio, SHRUNK, 1, "critical", evidence, remedy)


def sparsity_reading(share: float) -> str:
    """dense, moderate or sparse, by the share of weights near zero."""
    return "dense" if share < DENSE else "moderate" if share <= SPARSE else "sparse"


def _sparse(weights: np.ndarray, kept: np.ndarray | None, finite: np.ndarray) -> Diagnosis:
    share = float((np.abs(finite) < NEAR_ZERO).mean())
    scale = power_of_two(float(np.abs(finite).max()))  # squares of very large weights overflow
    std = float((finite * scale).std())
    healthy = float(2 * norm.cdf(NEAR_ZERO * scale / std) - 1) if std > 0 else 0.0
    evidence = f"{sparsity_reading(share)}: {share:.1%} of the weights are below {NEAR_ZERO:g} in size"
    if kept is not None:
        with_masked = float(((np.abs(weights) < NEAR_ZERO) | ~kept).mean())
        masked = number_of(int((~kept).sum()), "token that is", "tokens that are")
        evidence += f"; {with_masked:.1%} with the {masked} masked by design"
    remedy = "tokens of weight zero are ignored: mask them, or train longer if they should not be"
    return Diagnosis("sparse", _verdict(share > SPARSE), share, SPARSE, healthy, "notable", evidence, remedy)


def _shape(shape: Shape) -> Diagnosis:
    remedies = {
        SPIKE: "weights that stay together have not learned: look at the diagnosis of learning and at unseen tokens",
        HEAVY: "many extreme weights mean unstable training: lower the learning rate or clip gradients",
    }
    rest = f"; {shape.resting_share:.1%} rest at {shape.resting:.6g}" if shape.resting_share else ""
    evidence = f"{shape.shape}{rest}"
    if shape.shape == SPIKE:
        evidence += f"; {shape.spike_share:.1%} lie within one narrow window"
    if not math.isnan(shape.tail_index):
        evidence += f"; tail index {shape.tail_index:.2g}"
    if not math.isnan(shape.dip):
        evidence += f"; dip {shape.dip:.2g} (chance reaches {shape.dip_of_chance:.2g})"
    if not math.isnan(shape.low_mode):
        evidence += f"; modes at {shape.low_mode:.4g} ({shape.low_share:.0%}) and {shape.high_mode:.4g}"
    value = shape.spike_share if shape.shape == SPIKE else shape.tail_index
    limit = SPIKE_SHARE if shape.shape == SPIKE else TAIL_INDEX
    holds = shape.shape in remedies
    return Diagnosis(
        "unhealthy shape",
        _verdict(holds),
        value,
        limit,
        math.nan,
        "notable",
        evidence,
        remedies.get(shape.shape, ""),
    )
