"""Weights of any matrix tried by removal: large ones, and ones on which the loss depends most to first order.

The detection looks where activations grow and last. A weight of attention, of the last layer, of an embedding or a
norm, or one that matters without a massive activation, is not seen there. But it is an outlier of its matrix, or has a
large first-order effect on the loss. The most promising are removed once each, which costs one pass over some of the
windows, until a budget is spent. Single weights that do harm, or may, become candidates of the verification; of whole
rows and columns that do, the fewest weights are looked for that do it together (super_weights.sets).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import pandas as pd

from weight_atlas.families.roles import Role
from weight_atlas.interventions.changes import zeroed
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import place_of
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.outliers import OF_A_MATRIX, Promise, outliers
from weight_atlas.super_weights.partners import partners
from weight_atlas.super_weights.variant_table import intervened
from weight_atlas.super_weights.verification import costly

# Rows of an embedding or head are tokens, which of course matter to the text that holds them.
OF_TOKENS = ("W_E", "W_U")
# Channels of a layer, of those with a massive activation and no weight, whose writers are tried.
OF_A_LAYER = 4
# One window in so many, and no fewer than the least, shows which removals to look at closely.
ONE_IN, LEAST = 4, 4
# Rounds of trying what harmful weights work through, and one in so many of the removals, beside them, for it.
ROUNDS, FOR_PARTNERS = 3, 2
RECORD = (
    "kind", "found_by", "layer", "role", "component", "expert", "row", "column", "size", "gaussian_size", "effect",
    "random_p99",
)  # fmt: skip
MEASURED = ("delta_nll", "delta_nll_low", "ratio")


@dataclass(frozen=True)
class Trial:
    """Effects of removing what promises most, each alone.

    table: one row each, RECORD and MEASURED. suspects: single weights whose removal costs enough, be it certain or not,
    the worst first.
    lines: rows and columns of which the same is true. left: of each source, how many more were not tried.
    """

    table: pd.DataFrame
    suspects: tuple[Promise, ...]
    lines: tuple[Promise, ...]
    left: dict[str, int]


def try_promising(
    live: Anatomy,
    windows: Windows,
    screening: pd.DataFrame,
    attribution: pd.DataFrame,
    unattributed: Sequence[dict],
    known: Sequence[Coordinate],
    *,
    removals: int,
    ratio: float,
    batch_size: int,
) -> Trial:
    """Remove what the screening and the attribution name, the most promising first, until the budget is spent.

    unattributed: massive activations without a weight (detection.unattributed): what writes their channels in their
    layers is tried first. known: candidates that are verified anyway. removals: the budget; half as many more go to
    what known and harmful weights work through (partners.partners). ratio: of perplexity, from which on a weight is
    suspected.
    """
    sources = {"screening": outliers(live, screening, known), "attribution": effects(live, attribution, known)}
    due = _in_turns([*writers(live, unattributed), *_in_turns(*sources.values())])[:removals]
    left = {name: len({each.place for each in found} - {each.place for each in due}) for name, found in sources.items()}
    part = windows.first(max(min(LEAST, len(windows)), len(windows) // ONE_IN))
    tried: list[Promise] = []
    tables: list[pd.DataFrame] = []
    harmful: list[tuple[Promise, float]] = []
    for _ in range(1 + ROUNDS):
        if due:
            table, worse = _removed(live, part, due, ratio, batch_size)
            tables, harmful, tried = [*tables, table], [*harmful, *worse], [*tried, *due]
        due = _due(live, [*known, *_single(harmful)], [each.place for each in tried])
        due = due[: removals + removals // FOR_PARTNERS - len(tried)]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*RECORD, *MEASURED])
    harmful.sort(key=lambda pair: -pair[1] if pair[1] == pair[1] else float("-inf"))
    suspects = tuple(each for each, _ in harmful if each.kind == "element")
    return Trial(table, suspects, tuple(each for each, _ in harmful if each.kind != "element"), left)


def _removed(
    live: Anatomy, windows: Windows, tried: Sequence[Promise], ratio: float, batch_size: int
) -> tuple[pd.DataFrame, list[tuple[Promise, float]]]:
    """Rows (RECORD and MEASURED) of promises removed one at a time, and those whose removal costs enough, with it."""
    plan = [Intervention("screened", zeroed([each.place])) for each in tried]
    variants = intervened(live, windows, plan, batch_size=batch_size).iloc[1:].reset_index(drop=True)
    table = pd.DataFrame([_record(each) for each in tried], columns=list(RECORD))
    harmful = [
        (each, row.delta_nll) for each, row in zip(tried, variants.itertuples(), strict=True) if costly(row, ratio)
    ]
    return pd.concat([table, variants[list(MEASURED)]], axis=1), harmful


def _single(harmful: Sequence[tuple[Promise, float]]) -> list[Coordinate]:
    return [each.place for each, _ in harmful if each.kind == "element"]


def _due(live: Anatomy, harmful: Sequence[Coordinate], tried: Sequence[Coordinate]) -> list[Promise]:
    """What harmful weights work through, what is tried or known left out."""
    done = {*harmful, *tried}
    return [each for each in _in_turns(*(partners(live, place) for place in harmful)) if each.place not in done]


def _record(promise: Promise) -> dict[str, Any]:
    place = promise.place
    return {
        **{name: getattr(promise.row, name, None) for name in ("size", "gaussian_size", "effect", "random_p99")},
        "kind": promise.kind,
        "found_by": promise.found_by,
        "layer": place.layer,
        "role": place.role,
        "component": place.component,
        "expert": place.expert,
        "row": place.row,
        "column": place.col,
    }


def _in_turns(*sources: Sequence[Promise]) -> list[Promise]:
    """One of each source in turn, and no place twice."""
    found: dict[Coordinate, Promise] = {}
    for turn in zip_longest(*sources):
        for each in turn:
            if each is not None:
                found.setdefault(each.place, each)
    return list(found.values())


def writers(live: Anatomy, unattributed: Sequence[dict]) -> list[Promise]:
    """What writes a channel whose activation has no weight: the biases and the rows of W_down and W_O of the layer.

    Or the column of W_E. The largest activation of each layer first.
    """
    found: list[Promise] = []
    for each in sorted(unattributed, key=lambda each: -each["ratio"]):
        layer, channel = int(each["layer"]), int(each["channel"])
        if sum(one.row["layer"] == layer for one in found) < OF_A_LAYER:
            found += [Promise(*one, "activation", each) for one in _writing(live, layer, channel)]
    return found


def _writing(live: Anatomy, layer: int, channel: int) -> Iterator[tuple[Coordinate, str]]:
    """Each place, with its kind."""
    if layer < 0:
        for part in live.parts_of(Role.W_E, None, None, None):
            yield replace(place_of(live, part), col=channel), "column"
        return
    biases = [part for part in live.parts_of(Role.BIAS, layer, None, None) if part.of_role in (Role.W_O, Role.W_DOWN)]
    for part in biases:
        yield replace(place_of(live, part), row=channel, col=0), "element"
    for role in (Role.W_O, Role.W_DOWN):
        for part in live.parts_of(role, layer, None, None):
            yield replace(place_of(live, part), row=channel), "row"


def effects(live: Anatomy, attribution: pd.DataFrame, known: Sequence[Coordinate]) -> list[Promise]:
    """Weights, rows and columns by their first-order effect, three of the first to one each of the others.

    Of what random ones of the same matrix do not reach; known weights are left out. attribution: a table of
    weight_attribution.attribute.
    """
    above = attribution[attribution.effect.abs() > attribution.random_p99]
    parts = {(part.name, str(part.of_role or part.role), part.expert): part for part in reversed(live.parts)}
    found: dict[str, list[Promise]] = {"element": [], "row": [], "column": []}
    for row in above.itertuples():
        if row.rank > (OF_A_MATRIX if row.kind == "element" else 1):
            continue
        if row.kind != "element" and (row.role in OF_TOKENS or row.role.endswith("bias") or row.role == "norm"):
            continue
        expert = None if pd.isna(row.expert) else int(row.expert)
        part = parts.get((row.parameter, row.role.removesuffix(".bias"), expert))
        if part is None:
            continue
        place = replace(place_of(live, part), row=_index(row.row), col=_index(row.column))
        if place.vector:
            place = replace(place, col=0)
        if place not in known:
            found[row.kind].append(Promise(place, row.kind, "attribution", row))
    return list(_mixed(*found.values()))


def _mixed(elements: list[Promise], rows: list[Promise], columns: list[Promise]) -> Iterator[Promise]:
    thirds = [elements[start : start + 3] for start in range(0, len(elements), 3)]
    for some, row, column in zip_longest(thirds, rows, columns):
        yield from some or ()
        yield from (each for each in (row, column) if each is not None)


def _index(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
