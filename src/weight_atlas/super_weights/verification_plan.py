"""The text and the interventions that verify candidates for super weights, and what they will cost."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from weight_atlas.interventions.changes import shifted, zeroed
from weight_atlas.interventions.controls import magnitude_ratio, matched_draws, random_places
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import value_at
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.shortcuts import PASSES, TRIAL, site_of
from weight_atlas.live.windows import Windows, drawn_windows
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.partners import works_through

# Below this ratio of magnitudes removing a control takes clearly less away than removing the weight does.
FAIR = 0.9


def verification_windows(
    live: Anatomy, tokenizer: Any, corpus: pd.DataFrame, settings: SuperWeightVerification
) -> Windows:
    """The text of a verification: windows drawn from all over a corpus of documents, every few of their tokens scored.

    Other steps that take it, with these settings, get the same loss of the same model.
    """
    windows = drawn_windows(
        corpus, tokenizer, window=settings.window, tokens=settings.tokens, limit=live.context, where=settings.corpus,
        seed=settings.seed,
    )  # fmt: skip
    return every_token(windows, settings.score_every)


def every_token(windows: Windows, step: int) -> Windows:
    """The same windows with every step-th of their tokens scored, the last one among them."""
    kept = torch.zeros_like(windows.scored)
    first = (windows.ids.shape[1] - 1) % step
    kept[:, first::step] = windows.scored[:, first::step]
    return windows.scoring(kept)


def plan(live: Anatomy, candidates: Sequence[Coordinate], *, draws: int, seed: int) -> list[Intervention]:
    """All interventions that verify some candidates. draws: random weights per candidate, and sets of them jointly.

    For each candidate: single, its row and its column, and kept (all others removed, but for what it works through:
    without the rest of its neuron or head a weight does nothing that could be kept); for several also joint. Beside
    them the null: random, other weights removed, and shifted, the same change made at random places; of each candidate,
    and of all together (random_together, shifted_together). A super weight mostly has no equals in its matrix: removing
    smaller weights would be a null that any large weight exceeds. Then the same change, -w, is made elsewhere as well.
    """
    due = []
    for number, place in enumerate(candidates):
        due.append(Intervention("single", zeroed([place]), number))
        due.append(Intervention("row", zeroed([replace(place, col=None)]), number))
        due.append(Intervention("column", zeroed([replace(place, row=None)]), number))
        if len(candidates) > 1:
            spared = {place, *works_through(live, place, candidates)}
            others = [other for other in candidates if other not in spared]
            due.append(Intervention("kept", zeroed(others), number))
    if len(candidates) > 1:
        due.append(Intervention("joint", zeroed(candidates)))
        due += _null(live, candidates, candidates, None, draws, seed)
    for number, place in enumerate(candidates):
        # Never a candidate, not even another of the same matrix.
        due += _null(live, [place], candidates, number, draws, seed + number + 1)
    return due


def candidates_of(planned: Sequence[Intervention]) -> list[Coordinate]:
    """The candidates that a plan is about."""
    return [one.change.places[0] for one in planned if one.kind == "single"]


def random_ratio(planned: Sequence[Intervention], number: int | None) -> float:
    """Mean size of a candidate's random weights over its own size; NaN where its matrix has no others."""
    kind = "random" if number is not None else "random_together"
    ratios = [one.magnitude_ratio or 0.0 for one in planned if one.kind == kind and one.target == number]
    return sum(ratios) / len(ratios) if ratios else math.nan


def _null(
    live: Anatomy, targets: Sequence[Coordinate], never: Sequence[Coordinate], number: int | None, draws: int, seed: int
) -> list[Intervention]:
    """The null of removing some targets at once."""
    suffix = "_together" if number is None else ""
    null = [
        Intervention(
            f"random{suffix}", zeroed(places), number, draw, magnitude_ratio=magnitude_ratio(live, targets, places)
        )
        for draw, places in enumerate(matched_draws(live, targets, draws=draws, seed=seed, never=never), start=1)
    ]
    if not random_ratio(null, number) >= FAIR:
        changes = [-value_at(live, target) for target in targets]
        for draw, places in enumerate(random_places(live, targets, draws=draws, seed=seed, never=never), start=1):
            null.append(Intervention(f"shifted{suffix}", shifted(places, changes), number, draw))
    return null


def cost(live: Anatomy, windows: Windows, planned: Sequence[Intervention], *, passes: float = 0.0) -> str:
    """Time that a plan takes, measured on one window, in a sentence: an upper bound, since variants share passes.

    passes: of a window, that are made beside the plan's. The trials that find out what variants can share, and the two
    passes that measure, are counted in.
    """
    length = windows.ids.shape[1]
    with out_of_memory_explained(f"a forward pass of {length} tokens"):
        live.head.run(windows.ids[:1])
        start = time.perf_counter()
        live.head.run(windows.ids[:1])
        each = time.perf_counter() - start
    tokens, n = windows.ids.numel(), len(planned) + 1
    tried = len({site_of(live, place) for place in candidates_of(planned)})
    trials = PASSES * (1 + (tried - 1) * min(1.0, TRIAL / length)) if tried else 0
    beside = 2 + passes + trials
    return (
        f"{n} variants of {tokens} tokens and {math.ceil(beside)} other passes: at most "
        f"{(n * len(windows) + beside) * each:.3g} s of forward passes"
    )
