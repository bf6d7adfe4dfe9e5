"""Token weights beside how often the tokens occur: correlations, bins of counts, outliers, ranks that disagree."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from weight_atlas.numbers_of import number_of
from weight_atlas.token_weights.statistics import statistics

# Readings of a correlation.
STRONG, WEAK = 0.5, 0.2
BIN_EDGES = (0, 1, 10, 100, 1_000, 10_000)
BIN_NAMES = ("0", "1-9", "10-99", "100-999", "1k-10k", "10k+")
HIGH = 0.75  # quantile above which a weight is high
THRESHOLDS = (1, 5, 10, 50, 100)
ALL, KEPT, SEEN, UNSEEN = "all", "kept", "seen", "unseen"

_LEFT_OUT = ("occurrence of ids without a weight is left out", "occurrences of ids without a weight are left out")


def with_counts(tokens: pd.DataFrame, counts: np.ndarray) -> pd.DataFrame:
    """A token table with a column `count`; counts (V',) of ids that it lacks are left out, missing ones are 0.

    The log says where the two do not have the same length.
    """
    size = len(tokens)
    if len(counts) != size:
        beyond = number_of(int(counts[size:].sum()), *_LEFT_OUT)
        other = beyond if len(counts) > size else "the others count as 0"
        print(f"counts of {number_of(len(counts), 'id')} for {number_of(size, 'weight')}: {other}", flush=True)
    aligned = np.zeros(size, dtype=np.int64)
    shared = min(size, len(counts))
    aligned[:shared] = counts[:shared]
    return tokens.assign(count=aligned)


def sets_of(tokens: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tokens by set: all; kept, where some are masked; of these the seen and the unseen ones."""
    masked = tokens["masked"]
    used = tokens[~masked]
    sets = {ALL: tokens}
    if masked.any():
        sets[KEPT] = used
    return {**sets, SEEN: used[used["count"] > 0], UNSEEN: used[used["count"] == 0]}


def statistics_of_seen(tokens: pd.DataFrame) -> pd.DataFrame:
    """Statistics (see statistics.statistics) of the weights of all, kept, seen and unseen tokens: column `tokens`."""
    return pd.DataFrame(
        [
            {"tokens": name, **statistics(part["weight"].to_numpy())}
            for name, part in sets_of(tokens).items()
            if len(part)
        ]
    )


def correlations(tokens: pd.DataFrame) -> pd.DataFrame:
    """Correlations of weight and count: tokens (the set), measure, n, value, chance, p, reading.

    pearson is of log(1 + count), spearman and kendall are of ranks. chance: the size that 5 % of samples of this length
    exceed where weight and count have nothing to do with each other. value and p are missing where either is constant.
    """
    rows = []
    for name, part in sets_of(tokens).items():
        if name == UNSEEN:
            continue
        used = part[np.isfinite(part["weight"])]
        weights, counts = used["weight"].to_numpy(), used["count"].to_numpy(float)
        for measure, value, p in _measured(weights, counts):
            chance = _chance(measure, len(used))
            rows.append(
                {
                    "tokens": name,
                    "measure": measure,
                    "n": len(used),
                    "value": value,
                    "chance": chance,
                    "p": p,
                    "reading": reading(value, chance),
                }
            )
    return pd.DataFrame(rows)


def _measured(weights: np.ndarray, counts: np.ndarray) -> list[tuple[str, float, float]]:
    names = ("pearson", "spearman", "kendall")
    if len(weights) < 3 or np.ptp(counts) == 0 or weights.min() == weights.max():
        return [(name, math.nan, math.nan) for name in names]
    scaled = weights / max(np.abs(weights).max(), np.finfo(float).tiny)  # squares of very large weights overflow
    found = (
        stats.pearsonr(np.log1p(counts), scaled),
        stats.spearmanr(counts, scaled),
        stats.kendalltau(counts, scaled, method="asymptotic"),
    )
    return [(name, float(each.statistic), float(each.pvalue)) for name, each in zip(names, found, strict=True)]


def _chance(measure: str, n: int) -> float:
    """Half the width of the central 95 % of a correlation of n independent pairs."""
    if n < 3:
        return math.nan
    variance = 2 * (2 * n + 5) / (9 * n * (n - 1)) if measure == "kendall" else 1 / (n - 1)
    return 1.96 * math.sqrt(variance)


def reading(value: float, chance: float) -> str:
    """What a correlation of weight and frequency says. chance: the size that it has where there is no relation."""
    if math.isnan(chance):
        return "not defined: there are fewer than three tokens"
    if math.isnan(value):
        return "not defined: one of the two is constant"
    if abs(value) <= chance:
        return "within chance: weights and frequency show no relation"
    if value < 0:
        return "negative: rare tokens weigh more, investigate"
    if value < WEAK:
        return "weak: weights hardly follow frequency"
    return "strong: expected" if value > STRONG else "moderate"


def regression(tokens: pd.DataFrame) -> tuple[float, float]:
    """Slope and intercept of the least-squares line of weight on log(1 + count); NaN where there is none."""
    used = tokens[~tokens["masked"] & np.isfinite(tokens["weight"])]
    x, y = np.log1p(used["count"].to_numpy(float)), used["weight"].to_numpy()
    if len(used) < 3 or np.ptp(x) == 0:
        return math.nan, math.nan
    scale = float(np.abs(y).max()) or 1.0  # squares of very large weights overflow
    fitted = stats.linregress(x, y / scale)
    return float(fitted.slope) * scale, float(fitted.intercept) * scale


def weights_by_count(tokens: pd.DataFrame) -> pd.DataFrame:
    """Weights in bins of counts: counts (the bin), least, n, mean, std, error (of the mean), median, p5, p95.

    Masked tokens are left out; a bin without tokens has a row with n = 0.
    """
    used = tokens[~tokens["masked"] & np.isfinite(tokens["weight"])]
    number = np.digitize(used["count"], BIN_EDGES) - 1
    rows = []
    for place, (name, least) in enumerate(zip(BIN_NAMES, BIN_EDGES, strict=True)):
        weights = used["weight"].to_numpy()[number == place]
        found = statistics(weights)
        rows.append(
            {
                "counts": name,
                "least": least,
                "n": len(weights),
                "mean": found["mean"],
                "std": found["std"],
                "error": found["std"] / math.sqrt(len(weights)) if len(weights) else math.nan,
                **{key: found[key] for key in ("median", "p5", "p95")},
            }
        )
    return pd.DataFrame(rows)


def is_outlier(tokens: pd.DataFrame, threshold: int) -> np.ndarray:
    """(V,) bool: kept tokens of high weight, above the third quartile, that occur less than `threshold` times."""
    used = ~tokens["masked"].to_numpy(bool) & np.isfinite(tokens["weight"].to_numpy())
    weights = tokens["weight"].to_numpy()
    if not used.any():
        return used
    return used & (weights > np.quantile(weights[used], HIGH)) & (tokens["count"].to_numpy() < threshold)


def outliers(tokens: pd.DataFrame, threshold: int, most: int) -> pd.DataFrame:
    """The outliers of highest weight: rank, id, token, weight, count."""
    found = tokens[is_outlier(tokens, threshold)].sort_values("weight", ascending=False, kind="stable").head(most)
    return found.assign(rank=np.arange(1, len(found) + 1))[["rank", "id", "token", "weight", "count"]]


def divergence(tokens: pd.DataFrame, most: int) -> pd.DataFrame:
    """The tokens whose ranks disagree most: rank, id, token, weight, count, weight_rank, count_rank, divergence.

    Ranks ascend from 1, equal values share their mean rank. divergence = (count_rank - weight_rank) / V, between -1 and
    1; positive: the weight is low for how often the token occurs. Ranks do not collapse on heavy tails as values scaled
    to [0, 1] do.
    """
    used = tokens[~tokens["masked"] & np.isfinite(tokens["weight"])]
    by_weight, by_count = (stats.rankdata(used[name]) for name in ("weight", "count"))
    table = used.assign(
        weight_rank=by_weight, count_rank=by_count, divergence=(by_count - by_weight) / max(1, len(used))
    )
    order = table["divergence"].abs().sort_values(ascending=False, kind="stable").index[:most]
    found = table.loc[order]
    columns = ["rank", "id", "token", "weight", "count", "weight_rank", "count_rank", "divergence"]
    return found.assign(rank=np.arange(1, len(found) + 1))[columns]


def recommendations(tokens: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """What a mask of tokens with fewer than `threshold` occurrences takes: a row for 1, 5, 10, 50, 100 and the chosen.

    threshold, chosen, tokens (below it), share (of the vocabulary), occurrences and share_of_corpus (of these tokens),
    combined_weight (their sum), mean_weight, mean_weight_above (of the others), outliers (among them, of high weight).
    """
    weights, counts = tokens["weight"].to_numpy(), tokens["count"].to_numpy()
    finite = np.where(np.isfinite(weights), weights, np.nan)
    total = max(1, int(counts.sum()))
    rows = []
    for limit in sorted({*THRESHOLDS, threshold}):
        below = counts < limit
        rows.append(
            {
                "threshold": limit,
                "chosen": limit == threshold,
                "tokens": int(below.sum()),
                "share": float(below.mean()) if len(below) else math.nan,
                "occurrences": int(counts[below].sum()),
                "share_of_corpus": int(counts[below].sum()) / total,
                "combined_weight": float(np.nansum(finite[below])),
                "mean_weight": _mean(finite[below]),
                "mean_weight_above": _mean(finite[~below]),
                "outliers": int(is_outlier(tokens, limit).sum()),
            }
        )
    return pd.DataFrame(rows)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def count_summary_of(counts: np.ndarray) -> dict[str, Any]:
    """Total, median and mean count, and how many tokens occur never, less than 10 and less than 100 times."""
    n = max(1, len(counts))
    return {
        "tokens": int(counts.sum()),
        "vocabulary": len(counts),
        "median_count": float(np.median(counts)) if len(counts) else math.nan,
        "mean_count": float(counts.mean()) if len(counts) else math.nan,
        **{f"below_{limit}": int((counts < limit).sum()) for limit in (1, 10, 100)},
        **{f"below_{limit}_share": float((counts < limit).sum() / n) for limit in (1, 10, 100)},
    }


def summary(tokens: pd.DataFrame, measured: pd.DataFrame, advice: pd.DataFrame, counted: int) -> dict[str, Any]:
    """What weights and counts say about each other in numbers, with a reading and findings.

    measured: of correlations; advice: of recommendations; counted: ids that have counts.
    """
    used = KEPT if (measured["tokens"] == KEPT).any() else ALL
    value, chance = (_correlation(measured, used, column) for column in ("value", "chance"))
    chosen = advice[advice["chosen"]].iloc[0]
    said = f"weights and log counts correlate with {value:.3f} ({reading(value, chance)}; chance reaches {chance:.3f})"
    if math.isnan(value):
        said = f"weights and log counts: {reading(value, chance)}"
    rare = f"{'occurs' if chosen['tokens'] == 1 else 'occur'} less than {number_of(chosen['threshold'], 'time')}"
    advised = (
        f"{number_of(chosen['tokens'], 'token')} ({chosen['share']:.1%}) {rare}, and "
        f"{'makes' if chosen['tokens'] == 1 else 'make'} {chosen['share_of_corpus']:.2%} of the corpus"
    )
    return {
        **count_summary_of(tokens["count"].to_numpy()),
        "counted_ids": counted,
        "pearson": value,
        "pearson_chance": chance,
        "spearman": _correlation(measured, used, "value", "spearman"),
        "kendall": _correlation(measured, used, "value", "kendall"),
        "outliers": int(tokens["outlier"].sum()),
        "reading": f"{said}; {advised}",
        "findings": _findings(value, chance, said, chosen, counted, len(tokens)),
    }


def _correlation(measured: pd.DataFrame, tokens: str, column: str, measure: str = "pearson") -> float:
    return float(measured[(measured["tokens"] == tokens) & (measured["measure"] == measure)][column].iloc[0])


def _findings(
    value: float, chance: float, said: str, chosen: pd.Series, counted: int, size: int
) -> list[dict[str, str]]:
    found = []
    if counted != size:
        found.append(
            {
                "grade": "info",
                "text": f"counts of {number_of(counted, 'id')} stand beside {number_of(size, 'weight')}",
            }
        )
    if value < -chance:
        found.append({"grade": "notable", "text": f"{said}: look at the outliers, and filter rare tokens"})
    elif value < WEAK:
        found.append({"grade": "info", "text": said})
    if chosen["outliers"]:
        what = number_of(chosen["outliers"], "token of high weight occurs", "tokens of high weight occur")
        rare = f"less than {number_of(chosen['threshold'], 'time')}"
        found.append({"grade": "info", "text": f"{what} {rare}: review what is masked"})
    return found
