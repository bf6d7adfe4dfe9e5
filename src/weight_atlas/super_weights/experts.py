"""Every expert of a mixture on a calibration text: routing, largest activations, and the weight that carries them."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from weight_atlas.lm.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.lm.experts import ExpertActivation, expert_activations, routing_of
from weight_atlas.lm.load import out_of_memory_explained
from weight_atlas.lm.metrics import input_device
from weight_atlas.lm.windows import Windows
from weight_atlas.super_weights.recording import residual_output
from weight_atlas.super_weights.routing import position_entropy

COLUMNS = (
    "layer", "component", "expert", "tokens", "p_active", "mean_weight", "position_entropy", "max_input", "max_output",
    "row", "column", "weight", "input_value", "contribution", "contribution_ratio", "co_spike_score", "rare",
    "co_spike_exceeds", "candidate", "super_expert",
)  # fmt: skip


@dataclass
class _Seen:
    """What one expert did so far; peak: (ratio, contribution, row, col, input) of its weight that stands out most."""

    tokens: int = 0
    weight: float = 0.0
    positions: list[torch.Tensor] = field(default_factory=list)
    max_input: float = 0.0
    max_output: float = 0.0
    peak: tuple[float, float, int, int, float] = (0.0, 0.0, 0, 0, 0.0)


@dataclass(frozen=True)
class _Calibration:
    """A pass over the windows. peaks, medians: of |h| after the embedding and after every layer."""

    seen: dict[tuple[str, int], _Seen]
    peaks: np.ndarray
    medians: np.ndarray
    total: int


def expert_table(
    live: Anatomy,
    windows: Windows,
    *,
    p_active_floor: float = 0.01,
    co_spike_threshold: float = 0.12,
    min_tokens: int = 4,
    residual_ratio: float = 50.0,
) -> pd.DataFrame:
    """One row per stacked expert of every layer; empty for a model without any.

    tokens, p_active: how many and what share of the tokens the router sent to it, read from what the router returned.
    position_entropy: of their positions, nats. max_input, max_output: largest |x| and |y| of its output projection.
    row, column, weight: the weight with the largest contribution r * x * w to one token, r the routing weight;
    contribution_ratio: over the median |h| of that token's residual stream. candidate: that ratio reaches
    residual_ratio, with at least min_tokens tokens and p_active_floor of all. co_spike_score is reported, not used.
    super_expert: the published rule (arXiv 2507.23279), in layers where massive activations form: max_output above the
    99.5th percentile of all experts and above a tenth of the largest.
    """
    stacked = [projection for projection in live.projections if projection.stacked]
    if not stacked:
        return pd.DataFrame(columns=list(COLUMNS))
    calibration = _calibrate(live, windows, stacked)
    scores = _co_spikes(live, windows, stacked, calibration)
    rows = []
    for projection in stacked:
        for expert in range(projection.n_experts):
            seen = calibration.seen.get((projection.name, expert), _Seen())
            ratio, contribution, row, col, x = seen.peak
            place = projection.coordinate(row, col, expert)
            rows.append(
                {
                    "layer": projection.layer,
                    "component": projection.component,
                    "expert": expert,
                    "tokens": seen.tokens,
                    "p_active": seen.tokens / calibration.total,
                    "mean_weight": seen.weight / seen.tokens if seen.tokens else None,
                    "position_entropy": position_entropy(seen.positions, windows.ids.shape[1]),
                    "max_input": seen.max_input,
                    "max_output": seen.max_output,
                    "row": row if seen.tokens else None,
                    "column": col if seen.tokens else None,
                    "weight": float(projection.matrix(expert)[row, col]) if seen.tokens else None,
                    "input_value": x,
                    "contribution": contribution,
                    "contribution_ratio": ratio,
                    "co_spike_score": scores.get(place),
                }
            )
    table = pd.DataFrame(rows).astype({"row": "Int64", "column": "Int64"})
    table["rare"] = table.p_active < p_active_floor
    table["co_spike_exceeds"] = table.co_spike_score.astype(float) > co_spike_threshold
    enough = (table.tokens >= min_tokens) & ~table.rare
    table["candidate"] = enough & (table.contribution_ratio >= residual_ratio)
    table["super_expert"] = _super_experts(table, _forming(calibration, residual_ratio))
    return table[list(COLUMNS)]


def _calibrate(live: Anatomy, windows: Windows, stacked: list[Projection]) -> _Calibration:
    seen: dict[tuple[str, int], _Seen] = {}
    streams: list[tuple[float, float]] = []
    stream: dict[str, torch.Tensor] = {}

    def note_layer(module, inputs, output):
        h = residual_output(output).abs().float()
        streams.append((float(h.max()), float(h.median())))

    def before_layer(module, inputs, keywords):
        h = (inputs[0] if inputs else keywords["hidden_states"]).detach()
        stream["median"] = h.reshape(-1, h.shape[-1]).abs().float().median(dim=1).values

    def look(projection: Projection):
        def keep(module, inputs, keywords):
            for one in expert_activations(projection, routing_of(projection, inputs, keywords)):
                _add(seen.setdefault((projection.name, one.expert), _Seen()), projection, one, stream["median"])

        return keep

    hooks = [layer.register_forward_hook(note_layer) for layer in live.layers]
    hooks += [layer.register_forward_pre_hook(before_layer, with_kwargs=True) for layer in live.layers]
    hooks += [each.container.register_forward_pre_hook(look(each), with_kwargs=True) for each in stacked]
    _run(live, windows, hooks)
    by_window = np.array(streams).reshape(len(windows), len(live.layers), 2)
    return _Calibration(seen, by_window[..., 0].max(0), np.median(by_window[..., 1], axis=0), windows.ids.numel())


def _add(seen: _Seen, projection: Projection, one: ExpertActivation, median: torch.Tensor) -> None:
    """Add what an expert did for one window's tokens."""
    seen.tokens += len(one.token)
    seen.weight += float(one.weight.sum())
    seen.positions.append(one.token.cpu())
    seen.max_input = max(seen.max_input, float(one.x.abs().max()))
    output, row = one.y.abs().max(1)
    seen.max_output = max(seen.max_output, float(output.max()))
    # The token whose output stands out most from what it is added to, and the neuron that makes most of it.
    relative = output * one.weight.abs() / median.to(output.device)[one.token].clamp(min=1e-30)
    at = int(relative.argmax())
    parts = one.x[at] * projection.matrix(one.expert)[row[at]].float() * one.weight[at]
    col = int(parts.abs().argmax())
    ratio = float(parts[col].abs() / median[one.token[at]].clamp(min=1e-30))
    if ratio > seen.peak[0]:
        seen.peak = (ratio, float(parts[col]), int(row[at]), col, float(one.x[at, col]))


def _co_spikes(
    live: Anatomy, windows: Windows, stacked: list[Projection], calibration: _Calibration
) -> dict[Coordinate, float]:
    """The published score of every expert's weight, from a second pass: the first had to find out which weight."""
    sums: dict[Coordinate, np.ndarray] = {}

    def look(projection: Projection):
        def keep(module, inputs, keywords):
            for one in expert_activations(projection, routing_of(projection, inputs, keywords)):
                _, _, row, col, _ = calibration.seen[projection.name, one.expert].peak
                x, y = one.x[:, col].double(), one.y[:, row].double()
                place = projection.coordinate(row, col, one.expert)
                added = np.array([float((x * y).abs().sum()), float((x * x).sum()), float((y * y).sum())])
                sums[place] = sums.get(place, 0) + added

        return keep

    hooks = [each.container.register_forward_pre_hook(look(each), with_kwargs=True) for each in stacked]
    _run(live, windows, hooks)
    return {place: float(xy / np.sqrt(xx * yy)) if xx * yy > 0 else 0.0 for place, (xy, xx, yy) in sums.items()}


def _run(live: Anatomy, windows: Windows, hooks: list) -> None:
    try:
        for number in range(len(windows)):
            ids = windows.ids[number : number + 1].to(input_device(live.model))
            with torch.no_grad(), out_of_memory_explained(f"experts of a window of {ids.shape[1]} tokens"):
                live.model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()


def _forming(calibration: _Calibration, ratio: float) -> set[int]:
    """Layers where massive activations form: they raise the stream's peak by a fifth of its largest or more."""
    peaks = np.concatenate([[0.0], calibration.peaks[:-1]])
    rise = calibration.peaks - peaks >= 0.2 * calibration.peaks.max()
    return set(np.flatnonzero(rise & (calibration.peaks >= ratio * calibration.medians)).tolist())


def _super_experts(table: pd.DataFrame, layers: set[int]) -> pd.Series:
    largest = table.max_output.max()
    outstanding = (table.max_output > table.max_output.quantile(0.995)) & (table.max_output > 0.1 * largest)
    return outstanding & table.layer.isin(layers)
