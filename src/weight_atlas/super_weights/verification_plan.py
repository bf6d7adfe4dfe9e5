"""The interventions that verify some candidates, and what they will cost."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weight_atlas.interventions.controls import magnitude_ratio, matched_draws, random_places
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import Edit, value_at, zero
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.shortcuts import PASSES, TRIAL, Variant
from weight_atlas.live.windows import Windows

# Below this ratio of magnitudes removing a control takes clearly less away than removing the weight does.
FAIR = 0.9


@dataclass(frozen=True)
class Plan:
    """Variants to compute: (kind, number of the candidate or None, edits) each.

    Kinds: single, joint, kept (all candidates but this one removed), neuron; the null: random (another weight removed),
    shifted (the same change made at a random place), and both of all candidates together: random_together,
    shifted_together. magnitude_ratios: of each candidate's random weights.
    """

    candidates: tuple[Coordinate, ...]
    variants: tuple[tuple[str, int | None, Variant], ...]
    magnitude_ratios: tuple[float, ...]


def plan(live: Anatomy, candidates: Sequence[Coordinate], *, draws: int, seed: int) -> Plan:
    """All interventions that verify some candidates. draws: random weights per candidate, and sets of them jointly.

    A super weight mostly has no equals in its matrix: removing smaller weights would be a null that any large weight
    exceeds. Then the same change, -w, is made at as many random places as well.
    """
    candidates = tuple(candidates)
    variants: list[tuple[str, int | None, Variant]] = []
    for number, place in enumerate(candidates):
        variants.append(("single", number, (zero(place),)))
        variants.append(("neuron", number, (zero(replace(place, row=None)),)))
        if len(candidates) > 1:
            others = [other for other in candidates if other != place]
            variants.append(("kept", number, tuple(map(zero, others))))
    if len(candidates) > 1:
        variants.append(("joint", None, tuple(map(zero, candidates))))
        variants += _null(live, candidates, candidates, None, draws, seed)[0]
    ratios = []
    for number, place in enumerate(candidates):
        # Never a candidate, not even another of the same matrix.
        null, ratio = _null(live, [place], candidates, number, draws, seed + number + 1)
        variants += null
        ratios.append(ratio)
    return Plan(candidates, tuple(variants), tuple(ratios))


def _null(
    live: Anatomy, targets: Sequence[Coordinate], never: Sequence[Coordinate], number: int | None, draws: int, seed: int
) -> tuple[list[tuple[str, int | None, Variant]], float]:
    """The null of removing some targets at once, and how large its random weights are beside them."""
    drawn = matched_draws(live, targets, draws=draws, seed=seed, never=never)
    controls = [place for places in drawn for place in places]
    ratio = magnitude_ratio(live, list(targets) * len(drawn), controls) if drawn else math.nan
    suffix = "_together" if number is None else ""
    null = [(f"random{suffix}", number, tuple(map(zero, places))) for places in drawn]
    if not ratio >= FAIR:
        changes = [-value_at(live, target) for target in targets]
        for places in random_places(live, targets, draws=draws, seed=seed, never=never):
            edits = (Edit(place, offset=change) for place, change in zip(places, changes, strict=True))
            null.append((f"shifted{suffix}", number, tuple(edits)))
    return null, ratio


def cost(live: Anatomy, windows: Windows, planned: Plan, *, passes: float = 0.0) -> str:
    """What a plan will take, measured on one window: an upper bound, since variants share what they can.

    passes: of a window, that are made beside the plan's. The trials that find out what variants can share, and the two
    passes that measure, are counted in.
    """
    length = windows.ids.shape[1]
    with out_of_memory_explained(f"a forward pass of {length} tokens"):
        live.head.run(windows.ids[:1])
        start = time.perf_counter()
        live.head.run(windows.ids[:1])
        each = time.perf_counter() - start
    tokens, n = windows.ids.numel(), len(planned.variants) + 1
    tried = len({live.projection(place).name for place in planned.candidates})
    trials = PASSES * (1 + (tried - 1) * min(1.0, TRIAL / length)) if tried else 0
    beside = 2 + passes + trials
    return (
        f"{n} variants of {tokens} tokens and {math.ceil(beside)} other passes: at most "
        f"{(n * len(windows) + beside) * each:.3g} s of forward passes"
    )
