"""Every expert of a mixture on a calibration text: routing, largest activations, the weight behind them, findings."""

import numpy as np
import pandas as pd

from weight_atlas.errors import NotApplicable
from weight_atlas.live.anatomy import Anatomy, Projection
from weight_atlas.live.windows import Windows
from weight_atlas.settings.super_weights import ExpertRouting
from weight_atlas.super_weights.calibration import Calibration, Seen, calibrate, co_spike_sums, experts_of
from weight_atlas.super_weights.routing_measures import position_entropy

COLUMNS = (
    "layer", "component", "expert", "tokens", "p_active", "mean_weight", "position_entropy", "max_input", "max_output",
    "row", "column", "weight", "input_value", "contribution", "contribution_ratio", "persistence", "co_spike_score",
    "rare", "co_spike_exceeds", "candidate", "super_expert",
)  # fmt: skip

# Share of the layers after it in which a candidate's channel keeps half of its value.
PERSISTENCE = 0.5


def expert_table(
    live: Anatomy,
    windows: Windows,
    settings: ExpertRouting,
) -> pd.DataFrame:
    """One row per routed expert of every layer; empty for a model without any.

    tokens, p_active: number and share of the tokens that the router sent to it, from the router's output.
    position_entropy: of their positions, in nats. max_input, max_output: largest |x| and |y| of its output projection.
    row, column, weight: the weight with the largest contribution r * x * w to one token, r the routing weight, over the
    median |h| of that token's residual stream: contribution_ratio. persistence: share of the later layers in which the
    channel has at least half of its value there. candidate: contribution_ratio is at least residual_ratio and
    persistence at least PERSISTENCE, with at least min_tokens tokens and a share of p_active_floor. co_spike_score is
    reported, not used. super_expert: the published rule (arXiv 2507.23279), in layers where massive activations form:
    max_output above the 99.5th percentile of all experts and above a tenth of the largest. Raises AtlasError where an
    activation is not a finite number.
    """
    experts = experts_of(live)
    if not experts:
        return pd.DataFrame(columns=list(COLUMNS))
    calibration = calibrate(live, windows)
    scores = {
        place: xy / np.sqrt(xx * yy) if xx * yy > 0 else 0.0
        for place, (xy, xx, yy) in co_spike_sums(live, windows, calibration).items()
    }
    length = windows.ids.shape[1]
    rows = [_row(projection, expert, calibration, length, scores) for projection, expert in experts]
    table = pd.DataFrame(rows).astype({"row": "Int64", "column": "Int64"})
    table["rare"] = table.p_active < settings.p_active_floor
    table["co_spike_exceeds"] = table.co_spike_score.astype(float) > settings.co_spike_threshold
    enough = (table.tokens >= settings.min_tokens) & ~table.rare
    lasting = table.persistence.astype(float) >= PERSISTENCE
    table["candidate"] = enough & lasting & (table.contribution_ratio >= settings.residual_ratio)
    table["super_expert"] = super_experts(table, calibration.forming(settings.residual_ratio))
    return table[list(COLUMNS)]


def check_experts(inventory: pd.DataFrame) -> None:
    """NotApplicable for a checkpoint without a mixture of experts: the model need not be loaded to know."""
    if inventory.expert.isna().all():
        raise NotApplicable("the model has no mixture of experts")


def _row(projection: Projection, expert: int, calibration: Calibration, length: int, scores: dict) -> dict:
    seen = calibration.seen.get((projection.name, expert), Seen())
    row = {
        "layer": projection.layer,
        "component": projection.component,
        "expert": expert,
        "tokens": seen.tokens,
        "p_active": seen.tokens / calibration.total,
        "mean_weight": seen.weight / seen.tokens if seen.tokens else None,
        "position_entropy": position_entropy(seen.positions, length),
        "max_input": seen.max_input,
        "max_output": seen.max_output,
    }
    if seen.peak is None:
        empty = dict.fromkeys(("row", "column", "weight", "persistence", "co_spike_score"))
        return {**row, **empty, "input_value": 0.0, "contribution": 0.0, "contribution_ratio": 0.0}
    peak, matrix = seen.peak, projection.matrix(expert if projection.stacked else None)
    return {
        **row,
        "row": peak.row,
        "column": peak.col,
        "weight": float(matrix[peak.row, peak.col]),
        "input_value": peak.input_value,
        "contribution": peak.contribution,
        "contribution_ratio": peak.ratio,
        "persistence": peak.persistence,
        "co_spike_score": scores.get(projection.coordinate(peak.row, peak.col, expert)),
    }


def super_experts(table: pd.DataFrame, layers: set[int]) -> pd.Series:
    """Super experts by the published rule: experts of these layers whose max_output is an outlier among all."""
    largest = table.max_output.max()
    outstanding = (table.max_output > table.max_output.quantile(0.995)) & (table.max_output > 0.1 * largest)
    return outstanding & table.layer.isin(layers)


def expert_findings(experts: pd.DataFrame) -> list[dict[str, str]]:
    """A finding for each super expert, the largest output first, and for each other expert with a candidate weight.

    experts: rows of the expert table; empty for a model without a mixture of experts, which has no findings.
    """
    if experts.empty:
        return []
    found = []
    for row in experts[experts.super_expert].sort_values("max_output", ascending=False, kind="stable").itertuples():
        text = f"{_expert(row)} is a super expert: its largest output is {row.max_output:.4g}, {_carried(row)}."
        found.append({"grade": "notable", "text": text})
    others = experts[experts.candidate & ~experts.super_expert]
    for row in others.sort_values("contribution_ratio", ascending=False, kind="stable").itertuples():
        found.append({"grade": "notable", "text": f"{_expert(row)} is no super expert, but {_carried(row)}."})
    return found or [{"grade": "info", "text": f"None of {len(experts)} experts is a super expert."}]


def _expert(row) -> str:
    return f"Layer {row.layer} expert {row.expert} ({row.p_active:.1%} of tokens)"


def _carried(row) -> str:
    size = f"{row.contribution_ratio:,.0f} times the median of its token's residual stream"
    return f"its weight [{row.row}, {row.column}] contributes {size}"
