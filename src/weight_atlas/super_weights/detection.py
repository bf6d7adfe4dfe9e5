"""Detection of super weights from one forward pass: anchored on massive activations, attributed to sets of weights."""

from dataclasses import dataclass

import pandas as pd

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.attribution import Attribution, Contribution, attribute
from weight_atlas.super_weights.massive_activations import Massive, last_layer_activations, massive_activations
from weight_atlas.super_weights.recording import Recording

# Tokens for which a step of one channel and layer is attributed, the strongest first.
TOKENS = 3
# Layer number of the embedding.
EMBEDDING = -1
WITHOUT_PREFIX = "only without the tokenizer's prefix"

STEP_COLUMNS = (
    "layer", "channel", "prompt", "position", "token", "prefixed", "value", "step", "ratio", "onset", "persistence",
    "tokens", "mlp_share", "participation_ratio", "weights", "reason",
)  # fmt: skip
CONTRIBUTION_COLUMNS = (
    "layer", "row", "col", "component", "expert", "weight", "input_value", "output_value", "contribution", "share",
    "rho", "accepted",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """An accepted weight: its contribution to a step, the attribution that found it, and the number of tokens."""

    contribution: Contribution
    attribution: Attribution
    tokens: int


@dataclass(frozen=True)
class Detection:
    """Result of one pass.

    steps: one row per layer and channel with a step of a massive activation, described at its strongest token; reason
    says why no weight was accepted, "" if some were. contributions: the largest contributions to each step. found: the
    accepted weights, largest contribution first.
    """

    steps: pd.DataFrame
    contributions: pd.DataFrame
    found: list[Found]


def detect(
    live: Anatomy,
    recording: Recording,
    settings: SuperWeights,
) -> Detection:
    """Find the weights that write the massive activations of a recording.

    settings: residual_ratio, the least |h| over the layer's median; persistence, the least share of the layers after a
    step that keep the activation (none does after the last layer); coverage and min_share, see attribute. An activation
    that arises only without the tokenizer's own prefix does not count: models are not used like that. Activations of
    the embedding (layer -1) and those that only the last layer makes large have a row, but no weight is accepted for
    them.
    """
    groups: dict[tuple[int, int], list[Massive]] = {}
    ratio = settings.residual_ratio
    limits = {"coverage": settings.coverage, "min_share": settings.min_share}
    seen = massive_activations(recording, ratio=ratio) + last_layer_activations(recording, ratio=ratio)
    for each in seen:
        for layer in (*([EMBEDDING] if each.onset == EMBEDDING else []), *each.steps):
            groups.setdefault((layer, each.channel), []).append(each)
    steps, contributions = [], []
    found: dict[Coordinate, Found] = {}
    for (layer, _), members in sorted(groups.items()):
        usual = [each for each in members if recording.prompts.prefixed[each.prompt]] or members
        usual = sorted(usual, key=lambda each: (-abs(each.jump(layer)), each.prompt, each.position))
        # A norm after the MLP equalizes its outputs: the strongest step need not be at the largest output.
        kept = [each for each in usual if layer >= 0 and recording.keeps(layer, each.prompt, each.position)][:TOKENS]
        attributions = [attribute(live, recording, each, layer, **limits) for each in kept]
        strongest = (kept or usual)[0]
        lasting = strongest.persistence(layer) >= settings.persistence
        reason = _reason(recording, strongest, layer, lasting, attributions)
        steps.append(_step(recording, strongest, layer, len(members), attributions, reason))
        contributions += _contributions(attributions, reason)
        for attribution in attributions if not reason else []:
            for one in attribution.accepted:
                known = found.get(one.coordinate)
                if known is None or abs(one.value) > abs(known.contribution.value):
                    found[one.coordinate] = Found(one, attribution, len(members))
    ordered = sorted(
        found.values(), key=lambda each: (-abs(each.contribution.value), str(each.contribution.coordinate))
    )
    return Detection(
        pd.DataFrame(steps, columns=list(STEP_COLUMNS)),
        pd.DataFrame(contributions, columns=list(CONTRIBUTION_COLUMNS)).astype({"expert": "Int64"}),
        ordered,
    )


def unattributed(steps: pd.DataFrame) -> list[dict]:
    """Massive activations without an accepted weight: one record per channel, the largest first.

    steps: of a Detection. Keys layer (-1: the embedding), channel, ratio, token, reason, of the channel's first step.
    Left out: channels explained by the weights of another step, and activations that arise only without the tokenizer's
    prefix.
    """
    explained = set(steps[steps.reason == ""].channel)
    rest = steps[~steps.channel.isin(explained) & (steps.reason != WITHOUT_PREFIX)]
    first = rest.sort_values(["channel", "layer"], kind="stable").drop_duplicates("channel")
    chosen = first.sort_values("ratio", ascending=False, kind="stable")
    return chosen[["layer", "channel", "ratio", "token", "reason"]].to_dict("records")


def _reason(
    recording: Recording, strongest: Massive, layer: int, lasting: bool, attributions: list[Attribution]
) -> str:
    if any(recording.prompts.prefixed) and not recording.prompts.prefixed[strongest.prompt]:
        return WITHOUT_PREFIX
    if layer == EMBEDDING:
        return "born in the embedding"
    if strongest.onset == len(strongest.trace) - 2:
        return "only after the last layer"
    if not lasting:
        return "does not last"
    return attributions[0].reason if attributions else "other tokens change more"


def _step(
    recording: Recording, massive: Massive, layer: int, tokens: int, attributions: list[Attribution], reason: str
) -> dict:
    first = attributions[0] if attributions else None
    return {
        "layer": layer,
        "channel": massive.channel,
        "prompt": recording.prompts.number[massive.prompt],
        "position": massive.position,
        "token": recording.prompts.tokens[massive.prompt][massive.position],
        "prefixed": recording.prompts.prefixed[massive.prompt],
        "value": massive.peak,
        "step": massive.jump(layer),
        "ratio": massive.ratio,
        "onset": massive.onset,
        "persistence": massive.persistence(layer),
        "tokens": tokens,
        "mlp_share": first.mlp_share if first else None,
        "participation_ratio": first.participation_ratio if first else None,
        "weights": len(first.accepted) if first and not reason else 0,
        "reason": reason,
    }


def _contributions(attributions: list[Attribution], reason: str) -> list[dict]:
    if not attributions:
        return []
    accepted = set() if reason else {one.coordinate for one in attributions[0].accepted}
    return [
        {
            "layer": one.coordinate.layer,
            "row": one.coordinate.row,
            "col": one.coordinate.col,
            "component": one.coordinate.component,
            "expert": one.coordinate.expert,
            "weight": one.weight,
            "input_value": one.input_value,
            "output_value": one.output_value,
            "contribution": one.value,
            "share": one.share,
            "rho": one.rho,
            "accepted": one.coordinate in accepted,
        }
        for one in attributions[0].contributions
    ]
