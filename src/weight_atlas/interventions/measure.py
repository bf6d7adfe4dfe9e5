"""Measure interventions on windows of text: one table of sums over windows, from as few forward passes as give them.

Edits start, where that is sound (live.shortcuts), at the first layer that they change, many at a time, window by
window. Every other intervention is made once and takes whole forward passes. Equal changes are measured once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from weight_atlas.interventions.changes import Edits, one_by_one
from weight_atlas.interventions.intervention import Intervention, Refused, applied
from weight_atlas.interventions.kinds import BASELINE
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.batched_scoring import score_edits
from weight_atlas.live.edits import Edit
from weight_atlas.live.scoring import Measure, finite_or_infinite, score_windows, token_nll
from weight_atlas.live.shortcuts import Shortcuts, pays, shortcuts_of
from weight_atlas.live.windows import Windows


@dataclass(frozen=True)
class Measured:
    """Scores of interventions, by their number.

    scores: one row per window: window, document, tokens and the sum of each measure over the window's scored tokens.
    refused: why the model does not allow an intervention.
    """

    scores: dict[int, pd.DataFrame]
    refused: dict[int, Refused]

    def of(self, number: int) -> pd.DataFrame:
        """The windows of one intervention; raises Refused where the model does not allow it."""
        if number in self.refused:
            raise self.refused[number]
        return self.scores[number]


def nll_of(intervention: Intervention) -> Measure:
    """Negative log-likelihood, infinite where a changed model's logits are no finite numbers.

    An unchanged model that gives no numbers is an error of the model or its type, not a result.
    """
    return token_nll if intervention.kind == BASELINE else finite_or_infinite


def measure(
    live: Anatomy,
    windows: Windows,
    interventions: Sequence[Intervention],
    *,
    batch_size: int,
    windows_at_once: int = 1,
    measure_of: Callable[[Intervention], Measure] = nll_of,
    report: Callable[[Intervention, pd.DataFrame], None] = lambda intervention, scores: None,
) -> Measured:
    """Measure interventions on windows, each on as many of the first as it asks for.

    batch_size: interventions that go through a layer together. windows_at_once: windows that go through the model
    together in whole passes; one, where results are compared with the unchanged model's to the last bit. measure_of:
    the measure that is summed, of logits (n, V) and the n tokens that they predict. report: called with the scores of
    each intervention as soon as they are there.
    """
    alike = _alike(interventions, windows)
    due = {number: interventions[number] for number in alike}
    scores: dict[int, pd.DataFrame] = {}
    refused: dict[int, Refused] = {}

    def keep(number: int, table: pd.DataFrame) -> None:
        for same in alike[number]:
            scores[same] = table
            report(interventions[same], table)

    restarted = _restarted(live, windows, due, batch_size, measure_of)
    for number, table in restarted.items():
        keep(number, table)
    for number in [number for number in due if number not in restarted]:
        part = windows.first(_count(due[number], windows))
        try:
            with applied(live, due[number]):
                own = measure_of(due[number])
                at_once = 1 if one_by_one(due[number].change) else windows_at_once
                table = score_windows(live, part, batch_size=at_once, measure=own)
        except Refused as error:
            refused |= dict.fromkeys(alike[number], error)
        else:
            keep(number, table)
    return Measured(scores, refused)


def _alike(interventions: Sequence[Intervention], windows: Windows) -> dict[int, list[int]]:
    """Numbers of interventions that differ in their change or their windows, and of all those that are like each."""
    groups: dict[tuple, list[int]] = {}
    for number, one in enumerate(interventions):
        groups.setdefault((one.change, _count(one, windows)), []).append(number)
    return {numbers[0]: numbers for numbers in groups.values()}


def _count(intervention: Intervention, windows: Windows) -> int:
    return min(len(windows), intervention.windows or len(windows))


def _restarted(
    live: Anatomy, windows: Windows, due: dict[int, Intervention], batch_size: int,
    measure_of: Callable[[Intervention], Measure],
) -> dict[int, pd.DataFrame]:  # fmt: skip
    """The scores of edits that start at a layer, and of the unchanged model, from whose pass they do; or none."""
    route, edits = _shortcuts(live, windows, due)
    unchanged = next((number for number, one in due.items() if one.change == Edits()), None)
    counts = {number: _count(due[number], windows) for number in edits}
    parts: dict[int, list[pd.DataFrame]] = {}
    start = 0
    for end in sorted({*counts.values()} | ({len(windows)} if edits and unchanged is not None else set())):
        here = [number for number in edits if counts[number] >= end]
        window = windows.part(start, end)
        measures = [finite_or_infinite if unchanged is None else measure_of(due[unchanged])]
        measures += [measure_of(due[number]) for number in here]
        tables = score_edits(
            live, window, [edits[number] for number in here], route, batch_size=batch_size, measures=measures
        )
        for number, table in zip([unchanged, *here], tables, strict=True):
            if number is not None:
                parts.setdefault(number, []).append(table.assign(window=table.window + start))
        start = end
    return {number: pd.concat(tables, ignore_index=True) for number, tables in parts.items()}


def _shortcuts(
    live: Anatomy, windows: Windows, due: dict[int, Intervention]
) -> tuple[Shortcuts, dict[int, tuple[Edit, ...]]]:
    """Which edits start at a layer, by number, and how; none where nothing is won by it."""
    edits = {
        number: one.change.edits
        for number, one in due.items()
        if isinstance(one.change, Edits) and not one.change.identical and _allowed(live, one)
    }
    # The unchanged model's pass is the start of all: it costs nothing where its scores are wanted anyway.
    beside = 0 if any(one.change == Edits() for one in due.values()) else 1
    if not pays(live, windows, list(edits.values()), beside=beside):
        return Shortcuts(), {}
    route = shortcuts_of(live, windows.ids[:1], list(edits.values()))
    return route, {number: each for number, each in edits.items() if route.takes(live, each)}


def _allowed(live: Anatomy, intervention: Intervention) -> bool:
    """Whether the model allows an intervention; edits are made in a moment."""
    try:
        with applied(live, intervention):
            return True
    except Refused:
        return False
