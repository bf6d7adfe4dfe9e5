"""Perplexity on fixed windows, and what an ablation does to it, window by window."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from weight_atlas.lm.anatomy import Anatomy, Coordinate
from weight_atlas.lm.edits import edited, zero
from weight_atlas.lm.metrics import score_windows
from weight_atlas.lm.paired import mean_nll, paired_difference, severity
from weight_atlas.lm.windows import Windows
from weight_atlas.super_weights.controls import magnitude_ratio, matched_draws


def ablation_perplexity(
    live: Anatomy, windows: Windows, super_weights: Sequence[Coordinate], *, draws: int, seed: int, batch_size: int
) -> pd.DataFrame:
    """Perplexity as it is, with super weights set to zero, and with as many random weights of their size set to zero.

    Returns one row per variant: variant, kind (baseline, super_weights, single, random), weights (how many are
    zeroed), magnitude_ratio (their size over the super weights'), windows, tokens, nll (nats per token), perplexity,
    ratio (to the baseline), delta_nll with delta_nll_low and delta_nll_high (paired 95 % interval), severity.
    With no super weights there is the baseline alone.
    """
    baseline = score_windows(live.model, windows, batch_size=batch_size)
    rows = [_row("baseline", "baseline", 0, None, baseline, baseline)]
    for name, kind, coordinates, ratio in _variants(live, super_weights, draws, seed):
        with edited(live, map(zero, coordinates)):
            scores = score_windows(live.model, windows, batch_size=batch_size)
        rows.append(_row(name, kind, len(coordinates), ratio, scores, baseline))
        print(f"{name}: perplexity {rows[-1]['perplexity']:.6g} ({rows[-1]['ratio']:.4g} x baseline)", flush=True)
    return pd.DataFrame(rows)


def _variants(
    live: Anatomy, super_weights: Sequence[Coordinate], draws: int, seed: int
) -> Iterable[tuple[str, str, list[Coordinate], float]]:
    if not super_weights:
        return
    yield "super_weights_zeroed", "super_weights", list(super_weights), 1.0
    if len(super_weights) > 1:
        for one in super_weights:
            yield f"only {one}", "single", [one], magnitude_ratio(live, super_weights, [one])
    for number, controls in enumerate(matched_draws(live, super_weights, draws=draws, seed=seed), start=1):
        yield f"random_{number}", "random", controls, magnitude_ratio(live, super_weights, controls)


def _row(
    name: str, kind: str, weights: int, magnitudes: float | None, scores: pd.DataFrame, baseline: pd.DataFrame
) -> dict:
    nll, reference = mean_nll(scores), mean_nll(baseline)
    delta, low, high = paired_difference(baseline, scores)
    with np.errstate(over="ignore"):
        perplexity, ratio = float(np.exp(nll)), float(np.exp(nll - reference))
    return {
        "variant": name,
        "kind": kind,
        "weights": weights,
        "magnitude_ratio": magnitudes,
        "windows": len(scores),
        "tokens": int(scores.tokens.sum()),
        "nll": nll,
        "perplexity": perplexity,
        "ratio": ratio,
        "delta_nll": delta,
        "delta_nll_low": low,
        "delta_nll_high": high,
        "severity": severity(ratio),
    }
