"""Where massive activations arise, grow and are removed again: by layer and site, and by the weights that do it.

A layer adds to a channel of the residual stream what its attention (W_O) and its MLPs (W_down) write, after norms and
factors; what is left of its step is a norm of the stream itself, or a part that is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from weight_atlas.live.anatomy import OUTSIDE, Anatomy, Coordinate
from weight_atlas.live.attention import AttentionFlow, attention_outputs
from weight_atlas.live.matrices import matrix_at, place_of
from weight_atlas.live.residual_stream import residual_stages
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.attribution import (
    REPORTED,
    Contribution,
    Written,
    participation_ratio,
    written_by_mlps,
)
from weight_atlas.super_weights.massive_activations import STEP
from weight_atlas.super_weights.prompts import Prompts
from weight_atlas.super_weights.recording import Recording, record
from weight_atlas.super_weights.stages import MassiveChannel

EMBEDDING, ATTENTION, MLP, REST, NORM = "embedding", "attention", "MLP", "rest", "final norm"
ARISES, GROWS, REMOVED = "arises", "grows", "removed"
# What is left of a layer's step is a site of its own above this share of the peak.
LEFT = 0.01
Step = tuple[int, str, float, Written | None]


@dataclass(frozen=True)
class Site:
    """One site on the way of a massive activation.

    layer: OUTSIDE for the embedding; the number of layers for the final norm. before, after: the channel's value; added
    to it: after - before but for the final norm, which multiplies. event: ARISES where |value| first has half of its
    peak, GROWS where it is moved away from zero by a fifth of its peak or more, REMOVED where towards zero; "" else.
    written: what of it is attributed to weights.
    """

    massive: MassiveChannel
    layer: int
    site: str
    before: float
    after: float
    event: str
    written: Written | None

    @property
    def added(self) -> float:
        """What the site adds."""
        return self.after - self.before


def trace(live: Anatomy, windows: Windows, channels: Sequence[MassiveChannel]) -> list[Site]:
    """The sites of massive channels, each at its own token, from two passes over each window that has such tokens."""
    found: dict[int, list[Site]] = {}
    for window in sorted({each.window for each in channels}):
        here = [each for each in channels if each.window == window]
        places = torch.tensor(sorted({each.position for each in here}))
        with attention_outputs(live, places) as outputs:
            recording = record(live, _as_prompt(windows, window), places=places)
        normed = residual_stages(live, windows.ids[window : window + 1])[len(live.layers) + 1 :]
        for each in here:
            found[each.channel] = _sites(live, recording, outputs, places, each)
            for stage in normed:
                after = float(stage[each.position, each.channel])
                before = found[each.channel][-1].after
                found[each.channel].append(Site(each, len(live.layers), NORM, before, after, "", None))
    return [site for each in channels for site in found[each.channel]]


def _as_prompt(windows: Windows, number: int) -> Prompts:
    ids = windows.ids[number : number + 1]
    return Prompts(ids, torch.ones_like(ids, dtype=torch.bool), [windows.prefix > 0], [number], [[]])


def _sites(
    live: Anatomy,
    recording: Recording,
    outputs: dict[int, AttentionFlow],
    places: torch.Tensor,
    massive: MassiveChannel,
) -> list[Site]:
    channel, position = massive.channel, massive.position
    trace = [float(h[0, position, channel]) for h in recording.residual]
    token = int(recording.prompts.ids[0, position])
    steps: list[Step] = [(OUTSIDE, EMBEDDING, trace[0], _embedded(live, token, position, channel, trace[0]))]
    for layer in range(len(live.layers)):
        steps += _of_layer(
            live, recording, outputs.get(layer), int((places == position).nonzero()[0, 0]), massive, layer
        )
    peak = max(map(abs, trace if massive.stage == len(live.layers) else trace[:-1]))
    sites: list[Site] = []
    before = 0.0
    for layer, name, added, written in steps:
        after = trace[layer + 1] if layer == OUTSIDE else before + added
        event = _event(before, after, peak, any(each.event == ARISES for each in sites))
        sites.append(Site(massive, layer, name, before, after, event, written))
        before = after
    return sites


def _event(before: float, after: float, peak: float, arisen: bool) -> str:
    outward = abs(after) - abs(before)
    if not arisen and abs(after) >= 0.5 * peak:
        return ARISES
    if abs(after - before) < STEP * peak:
        return ""
    return GROWS if outward > 0 else REMOVED


def _of_layer(
    live: Anatomy, recording: Recording, flow: AttentionFlow | None, at: int, massive: MassiveChannel, layer: int
) -> list[Step]:
    """(layer, site, added, written) of attention, MLPs and what is left, which add up to the layer's step."""
    channel, position = massive.channel, massive.position
    before, after = (float(recording.residual[layer + k][0, position, channel]) for k in (0, 1))
    flows = [each for each in recording.flows_of(layer) if bool((each.token == position).any())]
    mlp = written_by_mlps(live, flows, layer, position, channel) if flows else Written(0.0, float("nan"), ())
    rest = after - before - mlp.added
    steps: list[Step] = []
    if flow is not None:
        attention = _by_attention(live, flow, at, channel, layer, rest)
        rest -= attention.added
        steps.append((layer, ATTENTION, attention.added, attention))
    if flows:
        steps.append((layer, MLP, mlp.added, mlp))
    scale = max(abs(massive.value), abs(before), abs(after))
    if abs(rest) > LEFT * scale or not steps:
        return [*steps, (layer, REST, rest, None)]
    # Rounding belongs to nobody: the last site carries it.
    number, name, added, written = steps[-1]
    return [*steps[:-1], (number, name, added + rest, written)]


def _by_attention(live: Anatomy, flow: AttentionFlow, at: int, channel: int, layer: int, rest: float) -> Written:
    """What W_O writes into a channel at the at-th token kept, by its contributions z_k W_O[channel, k].

    rest: what the layer adds beside its MLPs. A family that scales what its MLPs add scales attention alike, or not:
    the factor that leaves less of the rest is taken.
    """
    y, norm = flow.y[at], live.norm_at(layer, "post_attention")
    if norm is not None:
        with torch.no_grad():
            y = norm(y[None, None].to(live.model.dtype)).float()[0, 0]
    plain = float(y[channel])
    added = min((plain, plain * live.architecture.mlp_scale), key=lambda value: abs(rest - value))
    z, row = flow.z[at].double().cpu(), flow.part.at(channel, None).reshape(-1).double().cpu()
    values = z * row
    written = float(values.sum())
    along = values * (1.0 if written >= 0 else -1.0)
    strongest = along.topk(min(REPORTED, len(along))).indices.tolist()
    here, output = place_of(live, flow.part), float(flow.y[at, channel])
    return Written(
        added,
        participation_ratio(values),
        tuple(
            Contribution(
                replace(here, row=channel, col=col),
                float(row[col]),
                float(z[col]),
                output,
                float(values[col]),
                float(values[col]) / written if written else 0.0,
                float(values[col]) / output if output else 0.0,
                1.0,
            )
            for col in strongest
        ),
    )


def _embedded(live: Anatomy, token: int, position: int, channel: int, value: float) -> Written:
    """What the embedding writes: the weight of the token's row and that of a position's, by their part of the value."""
    whole = Coordinate(OUTSIDE, token, channel, role="W_E")
    matrix = matrix_at(live, whole)
    if matrix.shape[1] != live.d_model:
        return Written(value, float("nan"), ())
    rows = [(whole, float(matrix[token, channel]))]
    for part in live.parts_of("W_pos"):
        # Some families begin to count after a few rows.
        offset = part.shape[0] - (live.context or part.shape[0])
        if part.shape[1] == live.d_model and position + offset < part.shape[0]:
            place = replace(place_of(live, part), row=position + offset, col=channel)
            rows.append((place, float(part.at(position + offset, channel))))
    values = torch.tensor([weight for _, weight in rows], dtype=torch.float64)
    total = float(values.sum())
    contributions = [
        Contribution(place, weight, 1.0, value, weight, weight / total if total else 0.0, 1.0, 1.0)
        for place, weight in rows
    ]
    return Written(value, participation_ratio(values), tuple(sorted(contributions, key=lambda each: -each.share)))
