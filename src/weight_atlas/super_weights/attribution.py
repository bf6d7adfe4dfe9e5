"""Attribution of a massive activation to weights: contributions to one channel, at one token, in the layer of a step.

At layer l and token t the MLP output projections add y_r = sum_k x_k W[r, k] (+ bias) to channel r; the contribution
of a weight is c_k = x_k W[r, k] (times the routing weight of its expert), its share c_k / sum c. Weights are accepted
as a set: one may produce the activation alone, or two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch

from weight_atlas.families.roles import Role
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.super_weights.massive_activations import Massive
from weight_atlas.super_weights.recording import Flow, Recording

# Contributions to report of one step.
REPORTED = 8


@dataclass(frozen=True)
class Contribution:
    """One weight's part in a step.

    value: after the routing weight, before a norm that follows the MLP. share: of all that the layer's MLPs write into
    the channel. rho: w * x / y of its projection. factor: the routing weight or gate.
    """

    coordinate: Coordinate
    weight: float
    input_value: float
    output_value: float
    value: float
    share: float
    rho: float
    factor: float


@dataclass(frozen=True)
class Attribution:
    """Sources of a step of a massive activation.

    mlp_share: part of the step that the layer's MLPs write; the rest is attention's. participation_ratio: (sum |c|)^2 /
    sum c^2, the effective number of weights; NaN where no MLP runs. accepted: the set of weights that produce it;
    reason: why there is none, or "".
    """

    massive: Massive
    layer: int
    mlp_share: float
    participation_ratio: float
    contributions: tuple[Contribution, ...]
    accepted: tuple[Contribution, ...]
    reason: str


def attribute(
    live: Anatomy,
    recording: Recording,
    massive: Massive,
    layer: int,
    *,
    coverage: float,
    min_share: float,
) -> Attribution:
    """Attribute one step of a massive activation, at a token whose inputs were kept, to weights.

    coverage: weights are accepted in order of contribution until their shares add up to this. min_share: least share of
    an accepted weight. REPORTED contributions are reported. The step must come from the MLP by more than half.
    """
    place = massive.position + massive.prompt * recording.prompts.ids.shape[1]
    flows = [flow for flow in recording.flows_of(layer) if bool((flow.token == place).any())]
    if not flows:
        # Hybrid models have layers without an MLP (Mamba, attention only) among others.
        has_mlp = any(projection.layer == layer for projection in live.projections)
        reason = "born in attention" if has_mlp else "born in a layer without an MLP"
        return Attribution(massive, layer, 0.0, float("nan"), (), (), reason)
    written = written_by_mlps(live, flows, layer, place, massive.channel)
    mlp_share = written.added / massive.jump(layer)
    participation, strongest = written.participation_ratio, written.strongest
    accepted, reason = _chosen(strongest, coverage, min_share)
    if not accepted and written.bias_share > 0.5:
        reason = "written by a bias"
    if not mlp_share > 0.5:
        accepted, reason = [], "born in attention"
    return Attribution(massive, layer, mlp_share, participation, strongest, tuple(accepted), reason)


@dataclass(frozen=True)
class Written:
    """What one part of a layer adds to a channel at one token.

    added: to the residual stream, after norms and factors. participation_ratio: see Attribution. strongest: the largest
    contributions with the sign of their sum. bias_share: part of the sum, before norms, that biases write.
    """

    added: float
    participation_ratio: float
    strongest: tuple[Contribution, ...]
    bias_share: float = 0.0


def written_by_mlps(live: Anatomy, flows: Sequence[Flow], layer: int, place: int, channel: int) -> Written:
    """What the flows of a layer's MLPs, all with the token at a flat position, add to a channel there."""
    parts = [_part(flow, place, channel) for flow in flows]
    written = sum(float(factor * y[channel]) for _, y, factor in parts)
    outputs = [(flow, factor * y) for flow, (_, y, factor) in zip(flows, parts, strict=True)]
    added = float(added_by_mlps(live, layer, outputs)[channel])
    values = torch.cat([(factor * contribution).double().cpu() for contribution, _, factor in parts])
    strongest = _strongest(flows, parts, place, channel, written, REPORTED)
    biases = _by_biases(flows, parts, channel)
    return Written(added, participation_ratio(values), tuple(strongest), biases / written if written else 0.0)


def participation_ratio(values: torch.Tensor) -> float:
    """(sum |c|)^2 / sum c^2 of contributions: the effective number of them; NaN where all are zero."""
    return float(values.abs().sum() ** 2 / (values**2).sum()) if values.any() else float("nan")


def _part(flow: Flow, place: int, channel: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(contributions (cols,), output (rows,), factor) of a flow at one token."""
    at = int((flow.token == place).nonzero()[0, 0])
    row = flow.projection.matrix(flow.expert if flow.projection.stacked else None)[channel].float()
    return flow.x[at] * row, flow.y[at], flow.factor[at]


def _by_biases(flows: Sequence[Flow], parts: Sequence[tuple], channel: int) -> float:
    """What the biases of the output projections write into a channel."""
    biases = [flow.projection.bias(Role.W_DOWN, flow.expert) for flow in flows]
    return sum(
        float(factor * bias[channel]) for bias, (_, _, factor) in zip(biases, parts, strict=True) if bias is not None
    )


def _strongest(
    flows: Sequence[Flow], parts: Sequence[tuple], place: int, channel: int, written: float, top: int
) -> list[Contribution]:
    """The largest contributions with the sign of the sum, over all projections of the layer."""
    found = []
    for flow, (contribution, y, factor) in zip(flows, parts, strict=True):
        along = contribution * factor * (1.0 if written >= 0 else -1.0)
        at = int((flow.token == place).nonzero()[0, 0])
        matrix = flow.projection.matrix(flow.expert if flow.projection.stacked else None)
        for col in along.topk(min(top, len(along))).indices.tolist():
            x, output, value = float(flow.x[at, col]), float(y[channel]), float(contribution[col] * factor)
            found.append(
                Contribution(
                    flow.projection.coordinate(channel, col, flow.expert),
                    float(matrix[channel, col]),
                    x,
                    output,
                    value,
                    value / written if written else 0.0,
                    float(contribution[col]) / output if output else 0.0,
                    float(factor),
                )
            )
    # Equal shares are ordered by coordinate, so that the order is the same on every machine.
    return sorted(found, key=lambda each: (-each.share, str(each.coordinate)))[:top]


def _chosen(strongest: Sequence[Contribution], coverage: float, min_share: float) -> tuple[list[Contribution], str]:
    chosen, covered = [], 0.0
    for each in strongest:
        if covered >= coverage or each.share < min_share:
            break
        chosen.append(each)
        covered += each.share
    if not chosen:
        return [], "spread over many weights"
    # Shares above one are cancelled by others; the set must explain at least half of the sum.
    return (chosen, "") if covered >= 0.5 else ([], "spread over many weights")


def added_by_mlps(live: Anatomy, layer: int, written: Sequence[tuple[Flow, torch.Tensor]]) -> torch.Tensor:
    """What a layer's MLPs add to the residual stream at one token, (d_model,) float64, after norms and factors.

    written: the output of each flow, after the routing weight.
    """
    dense = [y for flow, y in written if flow.expert is None and not flow.projection.shared_expert]
    experts = [y for flow, y in written if flow.expert is not None or flow.projection.shared_expert]
    branches = [
        _normed(live, layer, place, _sum([y.double() for y in branch]))
        for place, branch in (("post_dense", dense), ("post_experts", experts))
        if branch
    ]
    return live.architecture.mlp_scale * _normed(live, layer, "post_mlp", _sum(branches))


def _sum(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of one or more vectors, added in their order."""
    return reduce(torch.add, vectors)


def _normed(live: Anatomy, layer: int, place: str, y: torch.Tensor) -> torch.Tensor:
    norm = live.norm_at(layer, place)
    if norm is None:
        return y
    with torch.no_grad():
        return norm(y[None, None].to(live.model.dtype)).double()[0, 0]
