"""Effects of removing single weights on a model's predictions, window by window, beside controls.

The model runs here and nowhere after: sums of each window are kept, from which changes, intervals and null
distributions follow.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from weight_atlas.interventions.changes import Edits, MeanContribution, neurons_zeroed, scaled, shifted
from weight_atlas.interventions.controls import matched_draws, shift_places
from weight_atlas.interventions.intervention import UNCHANGED, Intervention
from weight_atlas.interventions.kinds import BASELINE, VOCABULARY
from weight_atlas.interventions.measure import measure
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.contributions import inputs_observed
from weight_atlas.live.edits import value_at
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.scoring import Measure
from weight_atlas.live.windows import Windows
from weight_atlas.settings.vocabulary import Interventions
from weight_atlas.vocabulary.measured_effects import token_changes
from weight_atlas.vocabulary.prediction_measures import TokenSums


@dataclass(frozen=True)
class Measured:
    """Results of the interventions.

    windows: one row per intervention and window: target (-1 for the baseline), kind, draw, layer, expert, row, col,
    weight (before the change), routed_tokens_count (tokens of all windows that reach the target's expert, missing for
    dense MLPs), window, tokens and the sum of each metric over the window's scored tokens. changes: `token_changes` of
    every target's edit over all scored positions, with its number in the column target.
    """

    windows: pd.DataFrame
    changes: pd.DataFrame


@dataclass(frozen=True)
class NeuronInput:
    """A neuron's activation: mean over `tokens`, those that reach it; 0 where none does."""

    mean: float
    tokens: int


def measure_interventions(
    live: Anatomy,
    windows: Windows,
    targets: Sequence[Coordinate],
    prediction: Measure,
    settings: Interventions,
    *,
    factor: float,
    control_windows: int | None = None,
) -> Measured:
    """Measure the model as it is, with each target weight multiplied by `factor`, and with each of its controls.

    Controls of a target, of which none is itself a target: `draws` random weights of those nearest in size in its own
    matrix, multiplied alike; `shift_draws` weights anywhere in that matrix, changed by the same amount; its whole
    neuron set to zero; its weight replaced by its mean contribution; the weight multiplied by one. prediction: what is
    measured (see prediction_measure). control_windows: windows for the random draws and the last, all if None.
    settings.batch_size: interventions that go through a layer together, where the model can be restarted from its
    layers.
    """
    inputs = mean_inputs(live, windows, targets)
    means = [each.mean for each in inputs]
    controls = min(len(windows), control_windows or len(windows))
    plan = planned(
        live,
        targets,
        means,
        factor=factor,
        draws=settings.draws,
        shift_draws=settings.shift_draws,
        seed=settings.seed,
        control_windows=controls,
    )
    due = [UNCHANGED, *plan]
    _announce(due, windows, targets, inputs)
    vocabulary = live.model.get_output_embeddings().weight.shape[0]
    tokens: defaultdict[int, TokenSums] = defaultdict(lambda: TokenSums(vocabulary))

    def measure_of(intervention: Intervention) -> Measure:
        if intervention.kind not in (BASELINE, "edit"):
            return prediction
        sums = tokens[_target(intervention)]

        def counting(logits: torch.Tensor, following: torch.Tensor) -> dict[str, torch.Tensor]:
            sums.add(logits)
            return prediction(logits, following)

        return counting

    measured = measure(live, windows, due, batch_size=settings.batch_size, measure_of=measure_of)
    records = []
    for number, one in enumerate(due):
        labels = _labels(live, one, inputs)
        records += [{**labels, **record} for record in measured.of(number).to_dict("records")]
    changes = [token_changes(tokens[-1], tokens[target]).assign(target=target) for target in range(len(targets))]
    empty = pd.DataFrame(columns=["id", "probability", "probability_change", "log_odds_change", "target"])
    return Measured(_table(records), pd.concat(changes, ignore_index=True) if changes else empty)


@torch.no_grad()
def mean_inputs(
    live: Anatomy, windows: Windows, targets: Sequence[Coordinate], windows_at_once: int = 8
) -> list[NeuronInput]:
    """Mean activation of each target's neuron over all tokens of the windows that reach it, in the model as it is.

    For experts, over the tokens routed to them. Linear modules and stacked experts alike.
    """
    totals, counts = dict.fromkeys(targets, 0.0), dict.fromkeys(targets, 0)

    def note(place: Coordinate, x: torch.Tensor) -> None:
        totals[place] += float(x.sum(dtype=torch.float64))
        counts[place] += x.numel()

    with inputs_observed(live, list(totals), note):
        for ids in windows.ids.split(windows_at_once) if targets else ():
            with out_of_memory_explained(f"a forward pass of {tuple(ids.shape)} tokens"):
                live.head.run(ids)
    return [NeuronInput(totals[target] / max(counts[target], 1), counts[target]) for target in targets]


def _target(intervention: Intervention) -> int:
    """The target's number; -1 for the unchanged model."""
    return -1 if intervention.target is None else intervention.target


def _announce(
    due: Sequence[Intervention], windows: Windows, targets: Sequence[Coordinate], inputs: Sequence[NeuronInput]
) -> None:
    """Print what the interventions will cost before it is spent, and which of them cannot change anything."""
    runs = sum(one.windows or len(windows) for one in due)
    print(
        f"{len(due) - 1} interventions on {len(windows)} windows: at most {runs} passes of one window, "
        f"{runs * windows.ids.shape[1]} tokens",
        flush=True,
    )
    for target, own in zip(targets, inputs, strict=True):
        if not own.tokens:
            print(f"warning: no token of the windows is routed to {target}: its changes are all zero", flush=True)


def _labels(live: Anatomy, intervention: Intervention, inputs: Sequence[NeuronInput]) -> dict:
    place = next(iter(intervention.change.places), Coordinate(-1, None, -1))
    single = intervention.target is not None and place.row is not None
    routed = intervention.target is not None and place.expert is not None
    return {
        "target": _target(intervention),
        "kind": intervention.kind,
        "draw": intervention.draw,
        "layer": place.layer,
        "expert": place.expert,
        "row": place.row,
        "col": place.col,
        "weight": value_at(live, place) if single else None,
        "routed_tokens_count": inputs[_target(intervention)].tokens if routed else None,
    }


def _table(records: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(records).astype(
        {"expert": "Int64", "row": "Int64", "routed_tokens_count": "Int64", "weight": "float64"}
    )
    table["kind"] = pd.Categorical(table.kind, [BASELINE, *VOCABULARY])
    table = table.sort_values(["target", "kind", "draw", "window"], kind="stable", ignore_index=True)
    return table.astype({"kind": "str"})


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
