"""Text that a model continues: as it is, without its super weights, and without them but with their activations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import pandas as pd
import torch

from weight_atlas.ablations.prepare import sink_prompt
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.interventions.activation_restoring import Sink
from weight_atlas.interventions.changes import ActivationsRestored, zeroed
from weight_atlas.interventions.intervention import UNCHANGED, Intervention, Refused, applied
from weight_atlas.interventions.kinds import BASELINE
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.greedy import continuation_nll, greedy, keeps_cache
from weight_atlas.live.windows import prefix_ids
from weight_atlas.settings.super_weights import Generation

COLUMNS = (
    "prompt", "variant", "kind", "weights", "beginning", "continuation", "tokens", "same_tokens", "repeated_tokens",
    "repeated_fourgrams", "original_nll", "original_delta_nll", "note",
)  # fmt: skip
# Of a repeated sequence (Welleck et al. 2019, arXiv 1908.04319, seq-rep-4).
FOUR = 4


def beginnings() -> list[str]:
    """The prompts that come with the package."""
    import yaml

    return yaml.safe_load((resources.files(__package__) / "beginnings.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class SuperWeight:
    """A weight that a verification judged. input: the activation that set it off where it was detected."""

    place: Coordinate
    harm: float
    input: float | None


def super_weights_of(verdict: dict) -> list[SuperWeight]:
    """The weights of a verification's artifact that are not inert, the most harmful first; if all are, every one.

    Raises NotApplicable where there is no candidate at all.
    """
    records = verdict["super_weights"]
    grave = [record for record in records if record["verdict"] != "inert"] or records
    if not grave:
        raise NotApplicable("no super weight was found, so that there is none whose removal would change a text")
    found = [
        SuperWeight(
            Coordinate(
                record["layer"], record["row"], record["column"], record["expert_id"], record["role"],
                record["component"],
            ),
            record["delta_nll"],
            record["input_value"],
        )
        for record in grave
    ]  # fmt: skip
    # What leaves no numbers is the gravest.
    return sorted(found, key=lambda each: -each.harm if each.harm == each.harm else float("-inf"))


def removals(weights: Sequence[SuperWeight], each: int, prompt: Sequence[int]) -> list[Intervention]:
    """The unchanged model, all weights removed, those of W_down with their activations restored, each of the first.

    prompt: token ids that set off the massive activations. Weights of W_down write these; where others are super
    weights too, those of W_down are also removed by themselves, for comparison with their activations restored.
    """
    places = [weight.place for weight in weights]
    down = [weight for weight in weights if weight.place.role == "W_down"]
    due = [replace(UNCHANGED, name=BASELINE)]
    due.append(Intervention("zero", zeroed(places), name="all removed" if len(places) > 1 else "removed"))
    which = "" if len(down) == len(weights) else "those of W_down "
    if which and len(down) > 1:
        due.append(Intervention("zero", zeroed(weight.place for weight in down), name=f"{which}removed"))
    first = list(places[:each]) if len(places) > 1 else []
    if down:
        sinks = tuple(Sink(weight.place, weight.input) for weight in down)
        change = ActivationsRestored(sinks, tuple(prompt))
        due.append(Intervention("restore", change, name=f"{which}removed, activation restored"))
        if which and len(down) == 1:
            first = list(dict.fromkeys([*first, down[0].place]))
    return due + [Intervention("each", zeroed([place]), name=f"only {_short(place)} removed") for place in first]


def _short(place: Coordinate) -> str:
    # A layer has one W_down, as a rule.
    return str(replace(place, component="") if place.role == "W_down" else place)


def generated(live: Anatomy, tokenizer: Any, verdict: dict, settings: Generation) -> pd.DataFrame:
    """The continuations of prompts under each removal of the super weights of a verification, one row each: COLUMNS.

    Greedy, of settings.tokens tokens, or as many as the model's context has room for; the ends of texts do not end
    them. same_tokens: before the first that differs from the unchanged model's. repeated_tokens: 1 - different ones /
    tokens; repeated_fourgrams: the same of four consecutive tokens. original_nll: mean negative log-likelihood, in nats
    per token, of the unchanged model's continuation; original_delta_nll: its rise. Where logits are no finite numbers a
    continuation is short, and the note says so.
    """
    weights = super_weights_of(verdict)
    due = removals(weights, settings.each, sink_prompt(tokenizer, verdict["super_weights"]))
    texts = beginnings() if settings.prompts is None else settings.prompts
    prompts = [_ids(tokenizer, text, live.context) for text in texts]
    cached = keeps_cache(live, max(prompts, key=lambda ids: ids.shape[1]))
    print(
        f"{len(due)} variants, {len(prompts)} prompts, {settings.tokens} tokens each, "
        + ("with keys and values kept" if cached else "each step a pass over all tokens"),
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    originals: list[tuple[list[int], float]] = []
    for one in due:
        try:
            with applied(live, one):
                rows += _continued(live, tokenizer, one, texts, prompts, originals, settings.tokens, cached)
        except Refused as error:
            rows += [
                {"prompt": number, "variant": one.name, "kind": one.kind, "beginning": text, "note": error.what}
                for number, text in enumerate(texts, start=1)
            ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("prompt", kind="stable", ignore_index=True)
    return table.astype({"weights": "Int64", "tokens": "Int64", "same_tokens": "Int64"})


def _continued(
    live: Anatomy, tokenizer: Any, one: Intervention, texts: Sequence[str], prompts: Sequence[torch.Tensor],
    originals: list[tuple[list[int], float]], tokens: int, cached: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one variant, in the order of the prompts; the first variant's continuations become the originals."""
    rows = []
    for number, (text, ids) in enumerate(zip(texts, prompts, strict=True)):
        room = tokens if live.context is None else min(tokens, live.context - ids.shape[1])
        found = greedy(live, ids, room, cached=cached)
        if number == len(originals):
            if not found:
                raise AtlasError("the model's logits are not finite numbers", where=f"prompt {number + 1}")
            originals.append((found, continuation_nll(live, ids, found)))
        original, before = originals[number]
        nll = continuation_nll(live, ids, original)
        rows.append(
            {
                "prompt": number + 1,
                "variant": one.name,
                "kind": one.kind,
                "weights": one.change.weights,
                "beginning": text,
                "continuation": tokenizer.decode(found, clean_up_tokenization_spaces=False),
                "tokens": len(found),
                "same_tokens": same(found, original),
                "repeated_tokens": repeated(found, 1),
                "repeated_fourgrams": repeated(found, FOUR),
                "original_nll": nll,
                "original_delta_nll": nll - before,
                "note": None if len(found) == room else f"logits are no finite numbers after {len(found)} tokens",
            }
        )
    return rows


def same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share before they differ."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def repeated(tokens: Sequence[int], length: int) -> float | None:
    """1 - different pieces of `length` consecutive tokens / all such pieces; None for fewer tokens."""
    pieces = [tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else None


def _ids(tokenizer: Any, text: str, context: int | None) -> torch.Tensor:
    ids = prefix_ids(tokenizer) + list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) < 2 or (context is not None and len(ids) >= context):
        raise AtlasError(
            f"{text[:40]!r} has {len(ids)} tokens",
            where="generation.prompts",
            remedy=f"give prompts of 2 tokens or more{'' if context is None else f', and fewer than {context}'}",
        )
    return torch.tensor([ids])
