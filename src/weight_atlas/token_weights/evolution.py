"""Token weights over the checkpoints of a training run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from weight_atlas.token_weights.diagnoses import UNMOVED
from weight_atlas.token_weights.statistics import statistics

# Of the statistics of a vector, those whose course is followed.
FOLLOWED = (
    "mean", "median", "std", "min", "max", "p1", "p5", "p25", "p75", "p95", "p99", "mean_magnitude", "sparsity",
)  # fmt: skip
# The mean is stable while it moves by less than this share of what it is compared with; the spread grows or shrinks
# from this factor on.
STABLE, GROWN = 0.1, 1.1
UNKNOWN = "unknown"


def labels_of(paths: Sequence[Path]) -> list[str]:
    """The names of files without what they all have in common with each other, as far as they stay different."""
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        return [path.as_posix() for path in paths]
    shared = 0
    while len(stems) > 1 and all(stem[: shared + 1] == stems[0][: shared + 1] for stem in stems):
        shared += 1
    cut = stems[0].rfind("_", 0, shared) + 1
    return [stem[cut:] or stem for stem in stems]


def evolution(vectors: Sequence[np.ndarray], labels: Sequence[str], initial: float | None) -> pd.DataFrame:
    """One row a checkpoint: number (from 0), checkpoint, n, not_finite, statistics, and the distances to others.

    vectors: (V,) each, of kept tokens. unmoved: share within UNMOVED of the initial value. Against the checkpoint
    before (previous) and against the first: spearman, the rank correlation; ks, the Kolmogorov-Smirnov distance of the
    two distributions; moved, the mean of |change|. ks_null: what two samples of one distribution of this length exceed
    in 5 % of cases. Correlations with a constant vector are missing.
    """
    rows = []
    for number, (weights, label) in enumerate(zip(vectors, labels, strict=True)):
        found = statistics(weights)
        row: dict[str, Any] = {"number": number, "checkpoint": label}
        row |= {name: found[name] for name in ("n", "not_finite", *FOLLOWED)}
        row["unmoved"] = _unmoved(weights, initial)
        row |= {f"{key}_previous": value for key, value in _against(vectors[max(0, number - 1)], weights).items()}
        row |= {f"{key}_first": value for key, value in _against(vectors[0], weights).items()}
        row["ks_null"] = 1.358 * math.sqrt(2 / max(1, len(weights)))
        rows.append(row)
    return pd.DataFrame(rows)


def _unmoved(weights: np.ndarray, initial: float | None) -> float:
    if initial is None or not len(weights):
        return math.nan
    return float((np.abs(weights - initial) < UNMOVED * (abs(initial) or 1.0)).mean())


def _against(before: np.ndarray, now: np.ndarray) -> dict[str, float]:
    both = np.isfinite(before) & np.isfinite(now)
    one, other = before[both], now[both]
    if not len(one):
        return {"spearman": math.nan, "ks": math.nan, "moved": math.nan}
    constant = one.min() == one.max() or other.min() == other.max() or len(one) < 3
    return {
        "spearman": math.nan if constant else float(stats.spearmanr(one, other).statistic),
        "ks": float(ks_distance(one, other)),
        "moved": float(np.abs(other - one).mean()),
    }


def ks_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the empirical distribution functions of two samples."""
    first, second = np.sort(one), np.sort(other)
    places = np.concatenate([first, second])
    below = [np.searchsorted(each, places, side="right") / len(each) for each in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def most_moved(
    vectors: Sequence[np.ndarray], ids: np.ndarray, tokens: Sequence[str], labels: Sequence[str], most: int
) -> pd.DataFrame:
    """The course of the tokens that moved most from the first checkpoint to the last: a row a token and checkpoint.

    Columns: rank (from 1), id, token, number, checkpoint, weight, change (from the first checkpoint). ids: of the
    entries of each vector; tokens: by id.
    """
    change = np.abs(vectors[-1] - vectors[0])
    order = np.argsort(-np.where(np.isnan(change), -1.0, change), kind="stable")[:most]
    rows = [
        {
            "rank": rank,
            "id": int(ids[place]),
            "token": tokens[ids[place]],
            "number": number,
            "checkpoint": label,
            "weight": float(weights[place]),
            "change": float(weights[place] - vectors[0][place]),
        }
        for rank, place in enumerate(order, 1)
        for number, (weights, label) in enumerate(zip(vectors, labels, strict=True))
    ]
    columns = ["rank", "id", "token", "number", "checkpoint", "weight", "change"]
    return pd.DataFrame(rows, columns=columns)


def trend(course: pd.DataFrame, initial: float | None) -> dict[str, Any]:
    """The reading of an evolution: what the mean and the spread did from the first checkpoint to the last.

    mean: "stable", "rises" or "falls", by its change over the scale of the weights: |initial|, else the larger of the
    first mean and the last standard deviation. spread: "grows", "shrinks" or "stays". Both are "unknown" where the
    first or the last checkpoint has no weight that is a number. tau_std, p_std: Kendall's, of the
    spread with the order of checkpoints. findings: where it is not as expected, a stable mean and a growing spread.
    """
    first, last = course.iloc[0], course.iloc[-1]
    scale = abs(initial) if initial else max(abs(first["mean"]), last["std"])
    drift = (last["mean"] - first["mean"]) / scale if scale != 0 else 0.0
    growth = last["std"] / first["std"] if first["std"] != 0 else (math.inf if last["std"] > 0 else 1.0)
    mean = UNKNOWN if math.isnan(drift) else "stable" if abs(drift) < STABLE else "rises" if drift > 0 else "falls"
    spread = (
        UNKNOWN if math.isnan(growth) else "grows" if growth > GROWN else "shrinks" if growth < 1 / GROWN else "stays"
    )
    ordered = len(course) > 2 and course["std"].nunique() > 1
    tau = stats.kendalltau(course["number"], course["std"]) if ordered else None
    does = f"is {mean}" if mean in ("stable", UNKNOWN) else mean
    how = f"is {spread}" if spread == UNKNOWN else spread
    reading = f"the mean {does} ({first['mean']:.4g} to {last['mean']:.4g})"
    reading += f", the spread {how} ({first['std']:.4g} to {last['std']:.4g})"
    return {
        "checkpoints": len(course),
        "mean": mean,
        "mean_drift": float(drift),
        "spread": spread,
        "spread_growth": float(growth),
        "tau_std": math.nan if tau is None else float(tau.statistic),
        "p_std": math.nan if tau is None else float(tau.pvalue),
        "reading": f"{reading}: {_expected(mean, spread)}",
        "findings": _findings(course, mean, spread, reading),
    }


def _expected(mean: str, spread: str) -> str:
    if (mean, spread) == ("stable", "grows"):
        return "as expected of weights that learn"
    if UNKNOWN in (mean, spread):
        return "no weight is a number at one end of the run"
    if spread == "stays":
        return "weights do not move apart"
    return "expected is a stable mean and a spread that grows"


def _findings(course: pd.DataFrame, mean: str, spread: str, reading: str) -> list[dict[str, str]]:
    found = []
    if len(bad := course.loc[course["not_finite"] > 0, "checkpoint"]):
        found.append({"grade": "critical", "text": f"weights that are NaN or infinite in checkpoint {bad.iloc[0]}"})
    if UNKNOWN in (mean, spread):
        return found
    if len(course) > 1 and spread != "grows":
        found.append({"grade": "notable", "text": f"{reading}: check that the weights learn, and their learning rate"})
    elif len(course) > 1 and mean != "stable":
        found.append({"grade": "info", "text": f"{reading}: all weights move together, which a bias could do"})
    return found
