"""Which interventions are made for each target weight: the edit itself, and controls that should do less."""

from collections.abc import Iterator, Sequence

from weight_atlas.interventions.changes import Edits, MeanContribution, neurons_zeroed, scaled, shifted
from weight_atlas.interventions.controls import matched_draws, shift_places
from weight_atlas.interventions.intervention import Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import value_at


def planned(
    live: Anatomy,
    targets: Sequence[Coordinate],
    mean_inputs: Sequence[float],
    *,
    factor: float,
    draws: int,
    shift_draws: int,
    seed: int,
    control_windows: int,
) -> Iterator[Intervention]:
    """Yield the interventions of every target; see `measure_interventions`. mean_inputs: of the targets' neurons.

    random_coord: weights nearest to the target in size, changed by the same factor. random_shift: any weights, changed
    by the same amount; the null for the largest weight of a matrix, which has no equal.
    """
    matched = matched_draws(live, targets, draws=draws, seed=seed) if targets and draws else []
    for number, target in enumerate(targets):
        yield Intervention("edit", scaled([target], factor), number)
        yield Intervention("neuron_zero", neurons_zeroed([target]), number)
        yield Intervention("mean_contribution", MeanContribution(target, mean_inputs[number]), number)
        yield Intervention("no_op", scaled([target], 1.0), number, windows=control_windows)
        amount = value_at(live, target) * (factor - 1.0)
        drawn: dict[str, list[Edits]] = {
            "random_coord": [scaled([places[number]], factor) for places in matched],
            "random_shift": [
                shifted([place], [amount])
                for place in shift_places(live, targets, number, draws=shift_draws, seed=seed)
            ],
        }
        for kind, changes in drawn.items():
            for draw, change in enumerate(changes, start=1):
                yield Intervention(kind, change, number, draw, windows=control_windows)
