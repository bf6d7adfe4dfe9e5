"""Measures of the routing of tokens to experts, for single experts and single weights in them."""

import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.experts import ExpertActivation, expert_activations
from weight_atlas.super_weights.recording import Recording


def expert_record(live: Anatomy, recording: Recording, coordinate: Coordinate) -> dict:
    """p_active, routed_tokens_count and co_spike_score of a weight in a routed expert; {} for other weights."""
    if coordinate.expert is None:
        return {}
    activation, total = _activation(live, recording, coordinate), int(recording.prompts.valid.sum())
    if activation is None or not len(activation.token):
        return {"p_active": 0.0, "routed_tokens_count": 0, "co_spike_score": None}
    return {
        "p_active": len(activation.token) / total,
        "routed_tokens_count": len(activation.token),
        "co_spike_score": co_spike(activation.x[:, coordinate.col], activation.y[:, coordinate.row]),
    }


def _activation(live: Anatomy, recording: Recording, coordinate: Coordinate) -> ExpertActivation | None:
    """The activation of the weight's expert, without padding; None if no token was routed to it."""
    projection, valid = live.projection(coordinate), recording.prompts.valid.flatten()
    if projection.stacked:
        routing = recording.routing[projection.name]
        return next(expert_activations(projection, routing, valid, only=coordinate.expert), None)
    one = recording.expert_modules.get(projection.name)
    if one is None:
        return None
    at = valid[one.token.cpu()].to(one.token.device)
    return ExpertActivation(one.expert, *(value[at] for value in (one.token, one.x, one.y, one.weight)))


def co_spike(x: torch.Tensor, y: torch.Tensor) -> float:
    """sum_t |x_t y_t| / sqrt(sum x^2 sum y^2) over the tokens of an expert.

    A published score with a known lack of power: independent noise gives 2 / pi = 0.64, a single token always 1.
    """
    scale = (x.double().square().sum() * y.double().square().sum()).sqrt()
    return float((x.double() * y.double()).abs().sum() / scale) if scale > 0 else 0.0


def position_entropy(positions: list[torch.Tensor], length: int) -> float | None:
    """Entropy in nats of the positions (in windows of `length` tokens) at which an expert was chosen.

    ln(length) for an expert that is selected equally often at all positions, 0 for one selected at a single position.
    """
    if not positions:
        return None
    counts = torch.bincount(torch.cat(positions), minlength=length).double()
    share = counts[counts > 0] / counts.sum()
    return float(-(share * share.log()).sum()) + 0.0
