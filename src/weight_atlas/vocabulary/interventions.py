"""What removing a weight does to a model's predictions, window by window, beside controls that should do nothing.

The model runs here and nowhere after: sums of each window are kept, from which changes, intervals and null
distributions follow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.batched_scoring import variant_logits
from weight_atlas.live.contributions import mean_contribution
from weight_atlas.live.edits import edited
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.scoring import Measure, joined, window_sums
from weight_atlas.live.shortcuts import Shortcuts, pays, shortcuts_of
from weight_atlas.live.windows import Windows
from weight_atlas.vocabulary.intervention_plan import KINDS, Intervention, planned
from weight_atlas.vocabulary.measured_effects import token_changes
from weight_atlas.vocabulary.neuron_inputs import mean_inputs
from weight_atlas.vocabulary.prediction_measures import TokenSums

# What is compared with the baseline to the last bit takes the plain way, as that does: batches round otherwise. A mean
# contribution is no edit of a weight.
ALONE = ("no_op", "mean_contribution")


@dataclass(frozen=True)
class Measured:
    """What interventions gave.

    windows: one row per intervention and window: target (-1 for the baseline), kind, draw, layer, expert, row, col,
    weight (before the change), routed_tokens_count (tokens of all windows that reach the target's expert, missing for
    dense MLPs), window, tokens and the sum of each metric over the window's scored tokens. changes: `token_changes` of
    every target's edit over all scored positions, with its number in the column target.
    """

    windows: pd.DataFrame
    changes: pd.DataFrame


def measure_interventions(
    live: Anatomy,
    windows: Windows,
    targets: Sequence[Coordinate],
    measure: Measure,
    *,
    factor: float = 0.0,
    draws: int = 50,
    shift_draws: int = 50,
    control_windows: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Measured:
    """Measure the model as it is, with each target weight multiplied by `factor`, and with each of its controls.

    Controls of a target, of which none is itself a target: `draws` random weights of those nearest in size in its own
    matrix, multiplied alike; `shift_draws` weights anywhere in that matrix, changed by the same amount; its whole
    neuron set to zero; its weight replaced by its mean contribution; the weight multiplied by one. control_windows:
    windows for the random draws and the last, all if None. batch_size: interventions that go through a layer together,
    where the model can be restarted from its layers.
    """
    controls = min(len(windows), control_windows or len(windows))
    inputs = mean_inputs(live, windows, targets)
    settings = {"factor": factor, "draws": draws, "shift_draws": shift_draws, "seed": seed}
    due = list(planned(live, targets, inputs, **settings, windows=len(windows), control_windows=controls))
    edits = _variants(due)
    route = shortcuts_of(live, windows.ids[:1], edits) if pays(live, windows, edits) else Shortcuts()
    _announce(due, windows, route)
    vocabulary = live.model.get_output_embeddings().weight.shape[0]
    baseline, after = TokenSums(vocabulary), [TokenSums(vocabulary) for _ in targets]
    rows = []
    for number in range(len(windows)):
        window = Windows(windows.ids[number : number + 1], windows.scored[number : number + 1])
        here = [one for one in due if number < one.windows]
        targets_here, parts = window.ids[window.scored], {}
        with out_of_memory_explained(f"{batch_size} variants of a window of {window.ids.shape[1]} tokens"):
            for one, part, logits in _logits(live, window, here, route, batch_size):
                counts = baseline if one is None else after[one.target] if one.kind == "edit" else None
                if counts is not None:
                    counts.add(logits)
                parts.setdefault(one, []).append(measure(logits, targets_here[part].to(logits.device)))
        rows += [_row(window_sums(joined(each), window), number, one) for one, each in parts.items()]
    changes = [token_changes(baseline, sums).assign(target=target) for target, sums in enumerate(after)]
    empty = pd.DataFrame(columns=["id", "probability", "probability_change", "log_odds_change", "target"])
    return Measured(_table(rows), pd.concat(changes, ignore_index=True) if changes else empty)


def _variants(interventions: Sequence[Intervention]) -> list[tuple]:
    return [(one.edit,) for one in interventions if one.kind not in ALONE]


def _announce(due: Sequence[Intervention], windows: Windows, route: Shortcuts) -> None:
    """Say what the interventions will cost before they are paid for, and which can change nothing."""
    runs = sum(one.windows for one in due)
    how = "from the edited layer on" if route.carried else "each through the whole model"
    tokens = (len(windows) + runs) * windows.ids.shape[1]
    print(f"{len(due)} interventions on {len(windows)} windows: {runs} runs {how}, {tokens} tokens", flush=True)
    for one in due:
        if one.kind == "edit" and not one.input.tokens:
            print(f"warning: no token of the windows is routed to {one.place}: its changes are all zero", flush=True)


@torch.no_grad()
def _logits(
    live: Anatomy, window: Windows, due: Sequence[Intervention], route: Shortcuts, batch_size: int
) -> Iterator[tuple[Intervention | None, slice, torch.Tensor]]:
    """Yield logits (m, V) at parts of one window's scored positions: of the unchanged model (None), then of each
    intervention."""
    together = [one for one in due if one.kind not in ALONE]
    for number, part, logits in variant_logits(live, window, _variants(together), route, batch_size=batch_size):
        yield None if number < 0 else together[number], part, logits
    positions = window.scored[0].nonzero()[:, 0] - 1
    for one in due:
        if one.kind in ALONE:
            with _changed(live, one):
                for _, part, logits in live.head.chunks(live.head.states(window.ids, positions)):
                    yield one, part, logits


def _changed(live: Anatomy, one: Intervention):
    if one.kind == "mean_contribution":
        return mean_contribution(live, one.place, one.input.mean)
    return edited(live, [one.edit])


def _row(scores: pd.DataFrame, window: int, one: Intervention | None) -> pd.DataFrame:
    place = one.place if one else Coordinate(-1, None, -1)
    labels = {
        "target": one.target if one else -1,
        "kind": one.kind if one else "baseline",
        "draw": one.draw if one else 0,
        "layer": place.layer,
        "expert": place.expert,
        "row": place.row,
        "col": place.col,
        "weight": one.weight if one else None,
        "routed_tokens_count": one.input.tokens if one and place.expert is not None else None,
        "window": window,
    }
    return pd.DataFrame({**{name: [value] for name, value in labels.items()}, **scores.to_dict("list")})


def _table(rows: list[pd.DataFrame]) -> pd.DataFrame:
    records = [record for row in rows for record in row.to_dict("records")]
    table = pd.DataFrame(records).astype(
        {"expert": "Int64", "row": "Int64", "routed_tokens_count": "Int64", "weight": "float64"}
    )
    table["kind"] = pd.Categorical(table.kind, ["baseline", *KINDS])
    table = table.sort_values(["target", "kind", "draw", "window"], kind="stable", ignore_index=True)
    return table.astype({"kind": "str"})
