"""Open a model and expand one ablation of it, from the files that a step reads."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.ablations.stored_weights import located
from weight_atlas.ablations.variants import Expansion, variants_of
from weight_atlas.artifacts import read_json, read_table
from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.load import open_live
from weight_atlas.live.windows import prefix_ids
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.ablations import Ablation
from weight_atlas.settings.messages import checked
from weight_atlas.settings.models import Live
from weight_atlas.super_weights.artifact import coordinates_of
from weight_atlas.super_weights.prompts import PROMPT


@dataclass(frozen=True)
class Opened:
    """A live model, its tokenizer, and the interventions of an ablation on it."""

    live: Anatomy
    tokenizer: Any
    expansion: Expansion


def ablation_settings(changes: str, name: str) -> dict[str, Any]:
    """The settings of an ablation from their JSON; none for the unchanged model. An AtlasError for any other text."""
    try:
        settings = json.loads(changes)
    except ValueError as error:
        raise AtlasError(
            f"the changes are no JSON: {error}", where=f"ablation {name}", remedy="""give them as '{"zero": {}}'"""
        ) from None
    return checked(Ablation, settings, f"ablation {name}").model_dump() if settings != {} else {}


def open_ablation(
    checkpoint: Path,
    name: str,
    settings: dict[str, Any],
    running: Live,
    *,
    super_weights: Path | None,
    inventory: Path | None,
    token_weights: Path | None = None,
    expert_routing: Path | None = None,
    device: str,
) -> Opened:
    """Load a model and expand an ablation of the configuration on it.

    super_weights: the detection's artifact, where the ablation is about detected weights. inventory: the checkpoint's
    tensors, in which given weights are looked up before anything is loaded. token_weights: of the vector by which rows
    of tokens are pruned. expert_routing: the table of experts, where super experts are removed; one that does not apply
    is that of a model without experts. running, device: see live.load.open_live.
    """
    if inventory is not None:
        settings = located(settings, read_table(inventory), f"ablation {name}")
    artifact = read_json(super_weights) if super_weights else None
    if artifact is not None:
        coordinates_of(artifact, super_weights)  # one of another schema is refused before anything is loaded
    weights = read_table(token_weights) if token_weights else None
    experts = if_applicable(expert_routing) if expert_routing else None
    live, tokenizer = open_live(checkpoint, running, device=device)
    return expanded(live, tokenizer, name, settings, artifact, weights, experts)


def expanded(
    live: Anatomy,
    tokenizer: Any,
    name: str,
    settings: dict[str, Any],
    artifact: dict | None = None,
    token_weights: pd.DataFrame | None = None,
    experts: pd.DataFrame | None = None,
) -> Opened:
    """Expand an ablation of the configuration on a live model.

    artifact: of the detected super weights, if any; token_weights, experts: see variants.Targets.
    """
    records: Sequence[dict] = artifact["super_weights"] if artifact else []
    found = coordinates_of(artifact, f"the super weights of ablation {name}") if artifact else []
    inputs, prompt = [record["input_value"] for record in records], sink_prompt(tokenizer, records)
    return Opened(live, tokenizer, variants_of(name, settings, live, found, inputs, prompt, token_weights, experts))


def sink_prompt(tokenizer: Any, records: Sequence[dict] = ()) -> list[int]:
    """Token ids of the paper's prompt behind the tokenizer's own prefix, as windows of text have it.

    records: of detected super weights; a token that set one off (`token`) and is missing in the prompt is put where it
    was: first, or last.
    """
    ids = prefix_ids(tokenizer) + list(tokenizer(PROMPT, add_special_tokens=False)["input_ids"])
    for token in dict.fromkeys((record["token"], record["token_index"] == 0) for record in records if record["token"]):
        text, first = token
        known = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(known) == 1 and text not in [tokenizer.decode([each]) for each in ids]:
            ids = [*known, *ids] if first else [*ids, *known]
    return ids
