"""Random weights nearest in size in the same tensor: what removing a super weight is compared with."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from weight_atlas.interventions.kinds import INTO_NEURONS
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import same_matrix, slice_at, values_at


def matched_draws(
    live: Anatomy,
    targets: Sequence[Coordinate],
    *,
    draws: int,
    seed: int,
    pool: int = 200,
    never: Sequence[Coordinate] = (),
) -> list[list[Coordinate]]:
    """Draw sets of control weights: in each set one for every target, near in magnitude, from its own matrix.

    Each control comes at random from the `pool` weights whose magnitude is nearest to the target's; the targets and
    those `never` to be drawn are left out, and within a matrix no weight is drawn twice until the pool is used up.
    Returns `draws` lists in the order of targets; none where a target's matrix has no other weight but zeros. The
    largest weight of a matrix has only smaller neighbours: `magnitude_ratio` says how much smaller.
    """
    columns: list[list[Coordinate]] = []
    used: list[tuple[Coordinate, set[int]]] = []
    for number, target in enumerate(targets):
        matrix = values_at(live, target)
        own = [other for other in targets if same_matrix(live, other, target)]
        excluded = own + [other for other in never if same_matrix(live, other, target)]
        near = _nearest(matrix, target, excluded, max(pool, draws * len(own)))
        taken = next((places for other, places in used if same_matrix(live, other, target)), None)
        if taken is None:
            used.append((target, taken := set()))
        order = np.random.default_rng([seed, number]).permutation(near)
        fresh = [place for place in order.tolist() if place not in taken] or order.tolist()
        chosen = [fresh[draw % len(fresh)] for draw in range(draws)] if fresh else []
        taken.update(chosen)
        columns.append([_at(target, place, matrix.shape[1]) for place in chosen])
    return [list(controls) for controls in zip(*columns, strict=False)]


def random_likes(
    live: Anatomy, groups: Sequence[tuple[Coordinate, ...]], *, draws: int, seed: int
) -> list[list[Coordinate]]:
    """Draw sets of controls for what is changed as one: a weight, a row, a column, or the lines of a head.

    For weights see matched_draws; for lines other lines of the same matrix, for heads other heads, at random. Returns
    `draws` lists; none where a matrix has no other such part.
    """
    single = [group[0] for group in groups if len(group) == 1 and None not in (group[0].row, group[0].col)]
    drawn = matched_draws(live, single, draws=draws, seed=seed) if single else [[] for _ in range(draws)]
    for number, group in enumerate(groups):
        if len(group) > 1 or None in (group[0].row, group[0].col):
            others = _other_blocks(live, group, [each for each in groups if each != group], [seed, number, 2])
            drawn = [[*places, *others[draw % len(others)]] for draw, places in enumerate(drawn)] if others else []
    return drawn


def _other_blocks(
    live: Anatomy, group: Sequence[Coordinate], targets: Sequence[Sequence[Coordinate]], seed: list[int]
) -> list[list[Coordinate]]:
    """Other blocks of as many rows, or columns, of a group's matrix in random order; none that is a target."""
    axis = "row" if group[0].row is not None else "col"
    if getattr(group[0], axis) is None:
        return []
    rows, cols = values_at(live, group[0]).shape
    never = {getattr(place, axis) for each in [group, *targets] for place in each if same_matrix(live, place, group[0])}
    starts = [
        start
        for start in range(0, (rows if axis == "row" else cols) - len(group) + 1, len(group))
        if never.isdisjoint(range(start, start + len(group)))
    ]
    order = np.random.default_rng(seed).permutation(starts).tolist()
    return [[replace(place, **{axis: start + shift}) for shift, place in enumerate(group)] for start in order]


def random_places(
    live: Anatomy, targets: Sequence[Coordinate], *, draws: int, seed: int, never: Sequence[Coordinate] = ()
) -> list[list[Coordinate]]:
    """Draw sets of places, in each one for every target from its own matrix, all as likely, zero weights among them.

    The neurons of the targets and of those `never` to be drawn are left out: whatever else of a super neuron is
    changed changes the massive activation too. Returns `draws` lists in the order of targets; none where a target's
    matrix has no other neuron.
    """
    columns: list[list[Coordinate]] = []
    for number, target in enumerate(targets):
        by_row = target.vector or target.role in INTO_NEURONS
        rows, cols = values_at(live, target).shape
        here = [other for other in (*targets, *never) if same_matrix(live, other, target)]
        shared = {other.row if by_row else other.col for other in here}
        free = np.array([index for index in range(rows if by_row else cols) if index not in shared])
        random = np.random.default_rng([seed, number])
        other = cols if by_row else rows
        drawn = [(int(random.integers(other)), int(random.choice(free))) for _ in range(draws)] if len(free) else []
        columns.append([replace(target, row=b if by_row else a, col=a if by_row else b) for a, b in drawn])
    return [list(places) for places in zip(*columns, strict=False)]


def shift_places(
    live: Anatomy, targets: Sequence[Coordinate], number: int, *, draws: int, seed: int
) -> list[Coordinate]:
    """Coordinates anywhere in the matrix of a target (its index), none of them a target; no place twice."""
    target = targets[number]
    rows, cols = values_at(live, target).shape
    # The same matrix may be named by its component or, where a layer has one, without.
    own = [at.cell for at in targets if same_matrix(live, at, target)]
    never = {row * cols + col for row, col in own}
    count = min(draws + len(never), rows * cols)
    # Apart from the seed of the matched draws.
    generator = np.random.default_rng([seed, number, 1])
    places = generator.choice(rows * cols, count, replace=False)
    chosen = [int(place) for place in places if int(place) not in never][:draws]
    return [replace(target, row=place // cols, col=place % cols) for place in chosen]


def magnitude_ratio(live: Anatomy, targets: Sequence[Coordinate], controls: Sequence[Coordinate]) -> float:
    """Sum of the controls' magnitudes over that of the targets': 1 for a perfect match."""
    return magnitude(live, controls) / max(magnitude(live, targets), 1e-30)


def magnitude(live: Anatomy, coordinates: Sequence[Coordinate]) -> float:
    """Sum of |w| over weights, or over all of rows, columns and matrices."""
    return sum(float(slice_at(live, place).double().abs().sum()) for place in coordinates)


def _nearest(matrix: torch.Tensor, target: Coordinate, excluded: Sequence[Coordinate], count: int) -> list[int]:
    """Flat indices of the weights nearest to the target's magnitude, the excluded ones left out."""
    magnitude = matrix.float().abs()
    distance = (magnitude - magnitude[target.cell]).abs()
    for other in excluded:
        distance[other.cell] = float("inf")
    # Zeros would make no difference when zeroed, and would pass for a control.
    distance[magnitude == 0] = float("inf")
    flat = distance.flatten()
    values, places = flat.topk(min(count, flat.numel()), largest=False)
    return sorted(places[torch.isfinite(values)].tolist())


def _at(target: Coordinate, place: int, cols: int) -> Coordinate:
    return Coordinate(target.layer, place // cols, place % cols, target.expert, target.role, target.component)
