"""Interventions: every kind is in the table, equal changes are measured once, and each gives what plain passes do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from live_models import own_text, plant, tiny

from weight_atlas.ablations.variants import MAKERS
from weight_atlas.errors import AtlasError
from weight_atlas.interventions import measure as engine
from weight_atlas.interventions.changes import (
    Edits,
    Forced,
    MeanContribution,
    Quantized,
    neurons_zeroed,
    scaled,
    shifted,
    zeroed,
)
from weight_atlas.interventions.intervention import UNCHANGED, Intervention, Refused, applied
from weight_atlas.interventions.kinds import ABLATIONS, KINDS, VOCABULARY
from weight_atlas.interventions.measure import measure, nll_of
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.edits import Edit, edited, value_at, zero
from weight_atlas.live.matrices import matrix_at
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.settings.ablations import KINDS as SETTINGS


@pytest.fixture(scope="module")
def planted():
    live = anatomy(tiny("llama", sharp=True))
    return live, plant(live, 2, 9, 21), own_text(live, windows=8, length=16)


def slow(live, windows):
    """Sums of nll of the model as it is now, in float64."""
    with torch.no_grad():
        log_p = live.model(input_ids=windows.ids).logits.double().log_softmax(-1)
    nll = -log_p[:, :-1].gather(2, windows.ids[:, 1:, None]).squeeze(2)
    return (nll * windows.scored[:, 1:]).sum(1).numpy()


def test_kinds_are_of_one_table():
    assert tuple(MAKERS) == ABLATIONS == SETTINGS and {*ABLATIONS, *VOCABULARY} <= set(KINDS)
    assert {name for name in ABLATIONS if KINDS[name].control} == {"random", "largest"}
    with pytest.raises(ValueError, match="no kind of intervention"):
        Intervention("zeros", Edits())


def test_changes_are_values():
    place = Coordinate(1, 2, 3)
    assert zeroed([place]) == Edits((zero(place),)) == scaled([place], 0.0) != scaled([place], 1.0)
    assert hash(zeroed([place])) == hash(scaled([place], 0.0))
    assert shifted([place], [2.0]).edits == (Edit(place, offset=2.0),)
    assert scaled([place], 1.0).identical and Edits().identical and not shifted([place], [2.0]).identical
    assert neurons_zeroed([place, replace(place, row=7)]).places == (Coordinate(1, None, 3),)
    assert Intervention("single", zeroed([place])).name == "layer 1 [2, 3]" and UNCHANGED.name == "unchanged"


def many(place, draws=30):
    """Enough edits of a late layer for restarts to pay, and interventions that are none."""
    others = [replace(place, row=row, col=row + 30) for row in range(draws)]
    return [
        UNCHANGED,
        Intervention("single", zeroed([place])),
        Intervention("no_op", scaled([place], 1.0)),
        Intervention("mean_contribution", MeanContribution(place, 0.25)),
        Intervention("quantize", Quantized(Scheme("int8", "channel"), (), "all")),
        Intervention("neuron", neurons_zeroed([place]), windows=5),
        *(Intervention("random", zeroed([other]), windows=3) for other in others),
    ]


@pytest.mark.parametrize("restart", [True, False])
def test_every_intervention_gives_what_plain_passes_do(planted, monkeypatch, restart):
    live, place, windows = planted
    due, shared = many(place), []
    real = engine.score_edits
    monkeypatch.setattr(
        engine, "score_edits", lambda *given, **options: shared.append(len(given[2])) or real(*given, **options)
    )
    if not restart:
        monkeypatch.setattr(engine, "pays", lambda *given, **options: False)
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    measured = measure(live, windows, due, batch_size=4)
    # Windows are shared by those that are measured on them: all three first, two of the next two, one of the rest.
    assert shared == ([32, 2, 1] if restart else [])
    for number, one in enumerate(due):
        table = measured.of(number)
        count = one.windows or len(windows)
        assert table.window.tolist() == list(range(count))
        assert table.tokens.tolist() == windows.scored.sum(1)[:count].tolist()
        with one.change.applied(live):
            assert table.nll.to_numpy() == pytest.approx(slow(live, windows.first(count)), rel=1e-5), one.name
    assert (measured.of(2).nll == measured.of(0).nll).all()
    assert all(torch.equal(before[name], value) for name, value in live.model.state_dict().items())


def test_equal_changes_are_measured_once(planted):
    live, place, windows = planted
    counted, reported = [], []

    def counting(intervention):
        counted.append(intervention.kind)
        return nll_of(intervention)

    due = [
        Intervention("zero", zeroed([place])),
        Intervention("each", zeroed([place])),
        Intervention("scale", scaled([place], 0.0)),
        Intervention("scale", scaled([place], 0.0), windows=2),
    ]
    measured = measure(
        live, windows, due, batch_size=16, measure_of=counting,
        report=lambda one, scores: reported.append((one.kind, len(scores))),
    )  # fmt: skip
    assert counted == ["zero", "scale"]
    assert [len(measured.of(number)) for number in range(4)] == [8, 8, 8, 2]
    assert reported == [("zero", 8), ("each", 8), ("scale", 8), ("scale", 2)]
    assert measured.of(0).equals(measured.of(1))


def test_a_change_that_the_model_does_not_allow_costs_no_other(planted):
    live, place, windows = planted
    outside = replace(place, row=10**6)
    due = [Intervention("single", zeroed([outside])), *many(place), Intervention("joint", zeroed([outside]))]
    measured = measure(live, windows, due, batch_size=16)
    assert set(measured.refused) == {0, len(due) - 1} and len(measured.scores) == len(due) - 2
    with pytest.raises(Refused, match="lies outside the matrix"):
        measured.of(0)
    with pytest.raises(Refused), applied(live, due[0]):
        pass


def test_what_fails_inside_an_intervention_is_no_refusal(planted):
    live, place, _ = planted
    value = value_at(live, place)
    with pytest.raises(AtlasError) as caught, applied(live, Intervention("single", zeroed([place]))):
        raise AtlasError("something else")
    assert not isinstance(caught.value, Refused) and value_at(live, place) == value


def test_routing_is_forced_with_and_without_an_edit():
    live = anatomy(tiny("mixtral", sharp=True))
    windows = own_text(live, windows=2, length=12)
    place = live.projections[1].coordinate(2, 3, 1)
    matrix_at(live, place)[2, 3] = 40.0
    due = [UNCHANGED, Intervention("forced", Forced(place)), Intervention("forced_zero", Forced(place, (zero(place),)))]
    plain, forced, without = (measure(live, windows, [one], batch_size=16).of(0).nll.to_numpy() for one in due)
    assert not np.allclose(plain, forced) and not np.allclose(forced, without)
    with Forced(place).applied(live), edited(live, [zero(place)]):
        assert without == pytest.approx(slow(live, windows), rel=1e-5)
    with pytest.raises(AtlasError, match="lies in no expert"), Forced(Coordinate(1, 2, 3)).applied(live):
        pass
