"""The work of every step that runs a model, by its settings: what its module does, counted and not run.

`found` says of how many super weights; where they are not known yet, each count is estimated by itself. What depends on
the values of the weights beside that (sets that are searched for, shortcuts that fail) is not foreseen.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weight_atlas.costs.sizes import Sizes
from weight_atlas.costs.work import Passes, Work

Settings = dict[str, Any]
# Tokens of the built-in prompts of the detection, each with the tokenizer's prefix and without, padded: 16 of about 40.
PROMPTS, PROMPT = 640, 40
# Texts that are continued where none are given.
BEGINNINGS = 3
LONGEST_WINDOW = 2048
# Windows that tests of shortcuts take; see live.shortcuts.
TRIALS = 7
# Tokens that go through a layer together; see live.batched_scoring.
TOGETHER = 1024
# Functions that interventions make of each logit (entropy, margins, stop words), and a cascade of a pair, in float64.
PREDICTION, COMPARED = 4.0, 8.0
# Variants of a candidate beside its draws: itself, its row and its column. Where there are super weights, removals
# mostly show one more weight that is verified with them, and a row or column that is searched for a set.
OWN_VARIANTS, SUSPECTS, SET_VARIANTS = 3, 1, 100
# Requests of an item of the bundled tasks, and their tokens.
REQUESTS, REQUEST = 2, 110
# Of a recipe: the model as it is, the recipe and the best single types.
RECIPE_VARIANTS = 3
# Share of the layers that an edit of a weight of any layer passes.
HALFWAY = 0.5
# Sizes of figures and tables do not depend on the model.
FIGURE = 1.5


class Unforeseen(Exception):
    """Why the work of a step is not known before it begins."""


@dataclass(frozen=True)
class Found:
    """Super weights of a model. layer: of the first of them; most lie in one of the first layers."""

    count: int
    layer: float = 1.0

    def above(self, sizes: Sizes) -> float:
        """The share of the layers that an edit of one of them passes."""
        return max(0.0, sizes.depth - self.layer - 0.5) / sizes.depth


def super_weights(sizes: Sizes, settings: Settings, found: Found) -> Work:
    rounds = min(settings["max_iterations"], found.count + 1)
    texts = settings["prompts"]
    tokens = PROMPTS if texts is None else 2 * PROMPT * len(texts)
    return Work((_plain(tokens + rounds * PROMPT, PROMPT, 1 + rounds),), seconds=FIGURE)


def weight_attribution(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window = _window(settings, sizes)
    tokens = _tokens(settings)
    passes = Passes(tokens, window, max(1.0, tokens / window), tokens, backward=True)
    return Work((passes,), swept=sizes.stored, seconds=FIGURE)


def super_weight_verification(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, scored = _window(settings, sizes), 1 / settings["score_every"]
    windows = max(1, _tokens(settings) // window)
    part = max(min(4, windows), windows // 4)
    work = Work((_scored((settings["removals"] + 1) * part * window, window, scored),), seconds=FIGURE)
    if not min(found.count, settings["max_candidates"]):
        return work
    count = min(found.count + SUSPECTS, settings["max_candidates"])
    alone = OWN_VARIANTS + 2 * settings["draws"]
    together = 1 + count + 2 * settings["draws"] if count > 1 else 0
    tokens = (count * alone + together + SET_VARIANTS) * windows * window
    beside = (windows + 2 * TRIALS + 2) * window + (2 + count) * PROMPTS
    batched = _batched(tokens * found.above(sizes), window, settings)._replace(head=tokens * scored)
    return work + Work((batched, _plain(beside, window)), loads=0)


def super_activations(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, tokens = _window(settings, sizes), _tokens(settings)
    return Work((_plain(tokens, window)._replace(kept=1.0),), seconds=2 * FIGURE)


def generation(sizes: Sizes, settings: Settings, found: Found) -> Work:
    if not found.count:
        return Work(loads=0)  # no text is made without super weights
    variants = 4 + (min(found.count, settings["each"]) if found.count > 1 else 0)
    texts = variants * (BEGINNINGS if settings["prompts"] is None else len(settings["prompts"]))
    steps = texts * settings["tokens"]
    # A token at a time, then the unchanged model's continuation at once.
    one_by_one = Passes(steps, PROMPT, steps, head=steps)
    whole = _plain(texts * (PROMPT + settings["tokens"]), PROMPT + settings["tokens"])._replace(head=steps)
    return Work((one_by_one, whole), seconds=FIGURE)


def massive_activations(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, tokens = _window(settings, sizes), _tokens(settings)
    # Twice for the activations, and once for attention, again without the super weights.
    looked = _plain((4 if found.count else 2) * tokens, window)._replace(kept=1.0)
    if not found.count:
        return Work((looked,), seconds=2 * FIGURE)
    edits = (found.count + settings["removals"] * (1 + settings["draws"])) * tokens
    batched = _batched(edits * HALFWAY, window, settings)._replace(head=edits)
    alone = 2 * (settings["channels"] + settings["removals"]) * window
    return Work((looked, batched, _plain(alone + 2 * TRIALS * window, window)), seconds=2 * FIGURE)


def expert_routing(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window = _window(settings, sizes)
    if sizes.products >= sizes.matrices:
        return Work(loads=0.5)  # a model without experts is not opened
    if settings["enable_causal_scoring"]:
        raise Unforeseen("how many experts are scored depends on their routing")
    return Work((_plain(settings["router_analysis_samples"] * window, window),), seconds=FIGURE)


def variant_perplexity(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, tokens = _window(settings, sizes), _tokens(settings)
    changes = json.loads(settings["changes"])
    if not changes:
        return Work((_scored(tokens, window, 1.0),))
    edits, whole, rounded = _variants(changes, found, sizes)
    batched = _batched(edits * tokens * found.above(sizes), window, settings)._replace(head=edits * tokens)
    begun = _scored(tokens if edits else 0, window, 1.0)
    return Work((batched, begun, _scored((whole + rounded) * tokens, window, 1.0)), rounded=rounded * sizes.matrices)


def _variants(changes: Settings, found: Found, sizes: Sizes) -> tuple[int, int, int]:
    """Variants of an ablation: edits of the super weights' layer and up, whole passes, and quantizations."""
    count = found.count if changes.get("weights") is None else len(changes["weights"])
    edits = whole = rounded = 0
    if count:
        edits += 1 if changes.get("zero") is not None or (count == 1 and changes.get("each") is not None) else 0
        edits += count if count > 1 and changes.get("each") is not None else 0
        edits += sum(changes.get(kind) is not None for kind in ("neurons", "experts"))
        edits += len((changes.get("scale") or {}).get("factors", ()))
        edits += (changes.get("random") or {}).get("draws", 0)
        whole += sum(changes.get(kind) is not None for kind in ("restore", "largest"))
    if changes.get("super_experts") is not None and sizes.products < sizes.matrices:
        edits += 1 + changes["super_experts"]["draws"]
    if quantize := changes.get("quantize"):
        ways = 2 if count else 1  # sparing super weights, or keeping what they write, and not
        beside = len(quantize["activations_beside"]) * ways
        rounded += len(quantize["formats"]) * len(quantize["granularities"]) * ways
        rounded += len(quantize["activations"]) * beside * ways
        whole += len(quantize["activations"]) * ways
    if rows := changes.get("token_rows"):
        whole += len(rows["percentiles"]) * (1 + rows["draws"])
    return edits, whole, rounded


def ablation_eval(sizes: Sizes, settings: Settings, found: Found) -> Work:
    if settings["items"] is None:
        raise Unforeseen("the requests of a task are not built yet")
    changes = json.loads(settings["changes"])
    edits, whole, rounded = _variants(changes, found, sizes) if changes else (0, 1, 0)
    tokens = (edits + whole + rounded) * settings["items"] * REQUESTS * REQUEST
    passes = _scored(tokens, REQUEST, 0.5)._replace(calls=tokens / TOGETHER)
    return Work((passes,), rounded=rounded * sizes.matrices, seconds=FIGURE)


def quantization_ablation(sizes: Sizes, settings: Settings, found: Found) -> Work:
    _, _, rounded = _variants(json.loads(settings["changes"]), found, sizes)
    return Work(rounded=rounded * sizes.matrices, seconds=2 * FIGURE)


def interventions(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, windows, new = _sliding({**settings, "tokens": settings["windows_tokens"]}, sizes)
    count = _targets(settings, found)
    few = windows if settings["control_tokens"] is None else min(windows, settings["control_tokens"] / new)
    above = found.above(sizes)
    edits = count * (2 * windows + (1 + settings["draws"] + settings["shift_draws"]) * few)
    whole = (count + 1) * windows + windows * min(1, count)
    passes = (
        _batched(edits * window * above, window, settings)._replace(head=edits * new, functions=PREDICTION),
        _plain(whole * window, window)._replace(head=(count + 1) * windows * new, functions=PREDICTION),
        _plain(2 * TRIALS * window * min(1, count), window),
    )
    return Work(passes)


def cascade(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, windows, new = _sliding({**settings, "tokens": settings["windows_tokens"]}, sizes)
    count = _targets(settings, found)
    if not count:
        return Work()
    averaged = windows if settings["tokens"] is None else min(windows, settings["tokens"] / new)
    positions = averaged * new + min(window, settings["text_tokens"])
    read = sizes.depth * found.above(sizes) * positions
    passes = _plain((1 + count) * (averaged + 1) * window, window)
    passes = passes._replace(head=(1 + count) * read, functions=COMPARED)
    return Work((passes,), seconds=(1 + 2 * count) * FIGURE)


def input_second_moments(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, tokens = _window(settings, sizes), _tokens(settings)
    return Work((_plain(tokens, window),))


def recipe_perplexity(sizes: Sizes, settings: Settings, found: Found) -> Work:
    window, tokens = _window(settings, sizes), _tokens(settings)
    variants = RECIPE_VARIANTS + settings["larger"]
    passes = _scored(variants * tokens, window, 1.0)
    return Work((passes,), rounded=(variants - 1) * sizes.stored, seconds=FIGURE)


STEPS: dict[str, Callable[[Sizes, Settings, Found], Work]] = {
    "super_weights": super_weights,
    "weight_attribution": weight_attribution,
    "super_weight_verification": super_weight_verification,
    "super_activations": super_activations,
    "generation": generation,
    "massive_activations": massive_activations,
    "expert_routing": expert_routing,
    "variant_perplexity": variant_perplexity,
    "ablation_eval": ablation_eval,
    "quantization_ablation": quantization_ablation,
    "interventions": interventions,
    "cascade": cascade,
    "input_second_moments": input_second_moments,
    "recipe_perplexity": recipe_perplexity,
}


def _targets(settings: Settings, found: Found) -> int:
    return min(found.count, settings["most"]) + settings["given"]


def _window(settings: Settings, sizes: Sizes) -> int:
    context = min(sizes.context or LONGEST_WINDOW, LONGEST_WINDOW)
    return min(settings["window"] or context, context)


def _tokens(settings: Settings) -> int:
    if settings["tokens"] is None:
        raise Unforeseen("all of the corpus is taken")
    return settings["tokens"]


def _sliding(settings: Settings, sizes: Sizes) -> tuple[int, float, int]:
    """Length and number of sliding windows, and the tokens that each scores."""
    longest = min(sizes.context or 1024, 1024)
    window = min(settings["window_len"] or longest, longest)
    new = settings["stride"] or max(1, window // 2)
    return window, max(1.0, 1 + (_tokens(settings) - window) / new), new


def _plain(tokens: float, window: float, calls: float | None = None) -> Passes:
    """Windows that go through the layers one by one, without the head."""
    return Passes(tokens, window, tokens / window if calls is None else calls)


def _scored(tokens: float, window: float, share: float) -> Passes:
    return _plain(tokens, window)._replace(head=share * tokens)


def _batched(tokens: float, window: float, settings: Settings) -> Passes:
    """Variants of a window that go through the layers together."""
    together = max(1, min(settings["batch_size"] or 16, TOGETHER // int(window)))
    return _plain(tokens, window, tokens / window / together)
