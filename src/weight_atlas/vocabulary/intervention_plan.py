"""Which interventions are made on behalf of each weight: the edit itself, and controls that should do less."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from weight_atlas.interventions.controls import matched_draws, shift_places
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import Edit, scale, value_at, zero
from weight_atlas.vocabulary.neuron_inputs import NeuronInput

# random_coord: weights nearest to the target in size, changed by the same factor. random_shift: any weights, changed
# by the same amount; the null for the largest weight of a matrix, which has no equal.
RANDOM = ("random_coord", "random_shift")
KINDS = ("edit", "neuron_zero", "mean_contribution", "no_op", *RANDOM)


@dataclass(frozen=True)
class Intervention:
    """One reversible change of the model on behalf of a target, and on how many windows it is measured.

    target: index among the targets. draw: number of a random draw, 0 for other kinds. edit: of the weight or of the
    whole neuron. weight: what stands at the coordinate before, None for a whole neuron. input: of the target's neuron.
    """

    target: int
    kind: str
    draw: int
    edit: Edit
    windows: int
    weight: float | None
    input: NeuronInput

    @property
    def place(self) -> Coordinate:
        return self.edit.coordinate


def planned(
    live: Anatomy,
    targets: Sequence[Coordinate],
    inputs: Sequence[NeuronInput],
    *,
    factor: float,
    draws: int,
    shift_draws: int,
    seed: int,
    windows: int,
    control_windows: int,
) -> Iterator[Intervention]:
    """Yield the interventions of every target; see `measure_interventions`."""
    matched = matched_draws(live, targets, draws=draws, seed=seed) if targets and draws else []
    for number, target in enumerate(targets):
        weight, edit = value_at(live, target), Edit(target, factor)
        shift = Edit(target, offset=weight * (factor - 1.0))
        places = {
            ("random_coord", edit): [each[number] for each in matched],
            ("random_shift", shift): shift_places(live, targets, number, draws=shift_draws, seed=seed),
        }
        single = (
            ("edit", edit, windows),
            ("neuron_zero", zero(replace(target, row=None)), windows),
            ("mean_contribution", zero(target), windows),
            ("no_op", scale(target, 1.0), control_windows),
        )
        for kind, change, count in single:
            own = None if kind == "neuron_zero" else weight
            yield Intervention(number, kind, 0, change, count, own, inputs[number])
        for (kind, change), drawn in places.items():
            for draw, place in enumerate(drawn, start=1):
                own = replace(change, coordinate=place)
                yield Intervention(number, kind, draw, own, control_windows, value_at(live, place), inputs[number])
