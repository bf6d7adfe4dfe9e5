"""Weights that do harm together: critical rows and columns, and the fewest of their weights that do it.

A contribution that is split over many weights of one row is invisible to single removals. A row or column is reported
if its removal is harmful, and does more than that of nearly all other rows or columns of its matrix. Then it is taken
apart: its weights are removed together, the largest first, twice as many each time, until half of its harm is done; the
smallest number that does it is looked for by halving.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from weight_atlas.interventions.changes import zeroed
from weight_atlas.interventions.controls import magnitude_ratio, matched_draws
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import values_at
from weight_atlas.live.windows import Windows
from weight_atlas.super_weights.variant_table import intervened
from weight_atlas.super_weights.verification import LEVEL, Harm, Null

# More weights than this, or than this share of a row or column, are no set that anybody would name.
MOST, SHARE = 64, 0.25
# Other rows or columns of the same matrix, or sets of random weights, that one is compared with.
DRAWS = 40


@dataclass(frozen=True)
class Group:
    """Weights that are critical together. line: their row or column; whole: whether it takes all of it.

    delta_nll with its interval and ratio: of all of them removed; single: the largest delta_nll of one of them removed
    alone, NaN for a whole line; line_delta_nll: of the whole line. null: `draws` other lines of the matrix for a whole
    line, else random sets of as many of its weights, nearest in size: null_max, the largest delta_nll of these,
    exceed_share, the share of them that do at least as much, and magnitude_ratio, their mean size over the set's.
    """

    line: Coordinate
    places: tuple[Coordinate, ...]
    whole: bool
    delta_nll: float
    delta_nll_low: float
    delta_nll_high: float
    ratio: float
    single: float
    line_delta_nll: float
    draws: int
    null_max: float
    exceed_share: float
    magnitude_ratio: float


@dataclass(frozen=True)
class Search:
    """How lines are taken apart. ratio: of perplexity, from which on a removal is critical."""

    live: Anatomy
    windows: Windows
    ratio: float
    seed: int
    batch_size: int

    def measured(self, sets: Sequence[Sequence[Coordinate]]) -> pd.DataFrame:
        """A row for each set of weights removed together; see variant_table.intervened."""
        plan = [Intervention("set", zeroed(places)) for places in sets]
        return intervened(self.live, self.windows, plan, batch_size=self.batch_size).iloc[1:].reset_index(drop=True)

    def critical(self, row: pd.Series) -> bool:
        """Whether a removal is harmful beyond chance."""
        rate = row.harm_p if row.delta_nll > 0 else math.nan
        return Harm(row.delta_nll, rate).reaches(self.ratio) and not rate > LEVEL


def grown(search: Search, lines: Sequence[Coordinate], known: Sequence[Coordinate]) -> list[Group]:
    """The critical ones of some rows and columns, each as its smallest set of weights where that is small.

    Lines that hold one of the `known` harmful weights, or of a set found before, are passed over. A set of one weight
    is a single weight that a search elsewhere missed.
    """
    found: list[Group] = []
    taken = list(known)
    for line in lines:
        if not any(_on(line, place) for place in taken) and (group := _group(search, line)) is not None:
            found.append(group)
            taken += group.places
    return found


def _on(line: Coordinate, place: Coordinate) -> bool:
    """Whether a weight lies on a row or column."""
    cell = replace(place, row=line.row, col=None) if line.col is None else replace(place, row=None, col=line.col)
    return cell == line and line.row in (None, place.row) and line.col in (None, place.col)


def _group(search: Search, line: Coordinate) -> Group | None:
    others = _others(search, line)
    rows = search.measured([[line], *([other] for other in others)])
    own, null = rows.iloc[0], rows.delta_nll[1:]
    if not search.critical(own) or Null.of(own.delta_nll, null).special != "yes":
        return None
    places = _fewest(search, line, own.delta_nll)
    if places is None:
        members = tuple(_largest(search.live, line))
        return _made(line, members, own, own.delta_nll, null, math.nan, 1.0, whole=True)
    draws = matched_draws(search.live, places, draws=DRAWS, seed=search.seed, never=places)
    rows = search.measured([places, *([place] for place in places), *draws])
    own_of_set, singles, null = rows.iloc[0], rows.delta_nll[1 : 1 + len(places)], rows.delta_nll[1 + len(places) :]
    sizes = [magnitude_ratio(search.live, places, each) for each in draws]
    size = sum(sizes) / len(sizes) if sizes else math.nan
    return _made(line, tuple(places), own_of_set, own.delta_nll, null, float(singles.max()), size, whole=False)


def _made(
    line: Coordinate, places: tuple[Coordinate, ...], own: pd.Series, whole_delta: float, null: pd.Series,
    single: float, size: float, *, whole: bool,
) -> Group:  # fmt: skip
    share = float((null >= own.delta_nll).mean()) if len(null) else math.nan
    largest = float(null.max()) if len(null) else math.nan
    interval = own.delta_nll, own.delta_nll_low, own.delta_nll_high, own.ratio
    return Group(line, places, whole, *interval, single, whole_delta, len(null), largest, share, size)


def _others(search: Search, line: Coordinate) -> list[Coordinate]:
    """Other rows, or columns, of a line's matrix, drawn at random."""
    rows, cols = values_at(search.live, line).shape
    by_row = line.col is None
    free = [index for index in range(rows if by_row else cols) if index != (line.row if by_row else line.col)]
    chosen = np.random.default_rng(search.seed).permutation(free)[:DRAWS].tolist()
    return [replace(line, row=index) if by_row else replace(line, col=index) for index in chosen]


def _fewest(search: Search, line: Coordinate, harm: float) -> list[Coordinate] | None:
    """The smallest number of a line's largest weights that do at least half of its harm; None where that is many."""
    members = _largest(search.live, line)
    rows, cols = values_at(search.live, line).shape
    most = min(len(members), MOST, max(1, int(SHARE * (cols if line.col is None else rows))))
    counts = sorted({2**power for power in range(most.bit_length())} | {most})
    needed = max(math.log(search.ratio), 0.5 * harm)
    harms = search.measured([members[:count] for count in counts]).delta_nll
    reached = [count for count, each in zip(counts, harms, strict=True) if not each < needed]
    if not reached:
        return None
    high, low = reached[0], max((count for count in counts if count < reached[0]), default=0)
    while high - low > 1:
        middle = (high + low) // 2
        enough = not search.measured([members[:middle]]).delta_nll[0] < needed
        low, high = (low, middle) if enough else (middle, high)
    return members[:high]


def _largest(live: Anatomy, line: Coordinate) -> list[Coordinate]:
    """The weights of a row or column, largest first, those of zero left out; at most MOST."""
    values = values_at(live, line)
    values = values[line.row] if line.col is None else values[:, line.col]
    order = values.float().abs().sort(descending=True, stable=True).indices[:MOST].tolist()
    order = [index for index in order if float(values[index])]
    return [replace(line, col=index) if line.col is None else replace(line, row=index) for index in order]
