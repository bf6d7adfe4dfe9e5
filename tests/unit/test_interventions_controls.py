"""Controls of a removal: the nearest in size, never a candidate, and random places for the same change."""

from dataclasses import replace

import pandas as pd
import pytest
from live_models import own_text, plant, tiny
from test_super_weights_verification import DEFAULTS

from weight_atlas.interventions.controls import matched_draws, random_places
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.matrices import matrix_at
from weight_atlas.super_weights.verification import verify
from weight_atlas.super_weights.verification_plan import plan, random_ratio


def test_the_same_change_is_made_elsewhere_where_a_weight_has_no_equals():
    live = anatomy(tiny("llama"))
    places = [plant(live, 1, 9, 21), live.projections[2].coordinate(0, 0)]
    matrix = matrix_at(live, places[1])
    matrix[0, 0] = matrix.abs().median()
    planned = plan(live, places, draws=30, seed=0)
    kinds = pd.Series([(one.kind, one.target) for one in planned]).value_counts()
    assert kinds["random", 0] == kinds["random", 1] == kinds["shifted", 0] == 30
    assert ("shifted", 1) not in kinds
    assert kinds["random_together", None] == kinds["shifted_together", None] == 30
    assert random_ratio(planned, 0) < 0.1 and random_ratio(planned, 1) == pytest.approx(1, abs=0.01)
    shifts = [one.change.edits for one in planned if (one.kind, one.target) == ("shifted", 0)]
    assert {edit.offset for (edit,) in shifts} == {-7.5}
    assert all(edit.factor == 1 and edit.coordinate.col != 21 for (edit,) in shifts)
    assert len({edit.coordinate.row for (edit,) in shifts}) > 10 < len({edit.coordinate.col for (edit,) in shifts})


def test_controls_are_the_nearest_in_magnitude():
    live = anatomy(tiny("gpt2"))
    place = live.projections[1].coordinate(3, 4)
    matrix = matrix_at(live, place)
    matrix[3, 4] = -matrix.abs().median()
    drawn = [controls[0] for controls in matched_draws(live, [place], draws=12, seed=0, pool=12)]
    assert len(set(drawn)) == 12
    distance = (matrix.abs() - matrix[3, 4].abs()).abs()
    distance[3, 4] = float("inf")
    nearest = set(distance.flatten().argsort()[:12].tolist())
    assert {each.row * matrix.shape[1] + each.col for each in drawn} == nearest
    # More than the pool: each of them before any of them again.
    more = [controls[0] for controls in matched_draws(live, [place], draws=12, seed=1, pool=50)]
    assert set(more) != set(drawn) and len(set(more)) == 12


def test_two_targets_of_a_matrix_share_no_control():
    live = anatomy(tiny("gpt2"))
    places = [live.projections[1].coordinate(3, 4), live.projections[1].coordinate(5, 6)]
    matrix = matrix_at(live, places[0])
    matrix[3, 4] = matrix[5, 6] = matrix.abs().median()
    drawn = matched_draws(live, places, draws=20, seed=0, pool=40)
    assert len({place for places in drawn for place in places}) == 40
    # None is left for the second: then they are drawn again.
    assert len(matched_draws(live, places, draws=40, seed=0, pool=40)) == 40


def test_zeros_are_no_controls_and_a_matrix_of_zeros_gives_none():
    live = anatomy(tiny("llama"))
    place, other = live.projections[1].coordinate(9, 21), live.projections[2].coordinate(1, 1)
    matrix = matrix_at(live, place)
    matrix[:] = 0
    matrix[9, 21], matrix[3, 3], matrix[4, 4] = 0.001, 5.0, 6.0
    assert {controls[0] for controls in matched_draws(live, [place], draws=9, seed=0)} == {
        replace(place, row=3, col=3),
        replace(place, row=4, col=4),
    }
    matrix[3, 3] = matrix[4, 4] = 0
    assert matched_draws(live, [place, other], draws=9, seed=0) == []
    judged = verify(
        live,
        own_text(live, windows=2, length=8),
        plan(live, [place, other], draws=9, seed=0),
        DEFAULTS,
    )
    assert judged.table.null_draws.tolist() == [0, 9]
    assert judged.table.null_max.isna().tolist() == judged.table.p_value.isna().tolist() == [True, False]
    # The same change elsewhere needs no equals.
    assert judged.table.shift_draws.tolist()[0] == 9


def test_a_candidate_is_never_a_control_however_it_is_written():
    live = anatomy(tiny("llama"))
    plant(live, 1, 9, 21)
    matrix_at(live, live.projections[1].coordinate(0, 0))[9, 35] = 7.4
    for candidates in ([Coordinate(1, 9, 21), live.projections[1].coordinate(9, 35)], [Coordinate(1, 9, 21)] * 2):
        for controls in matched_draws(live, candidates[:1], draws=100, seed=0, pool=1, never=candidates):
            assert {(each.row, each.col) for each in controls}.isdisjoint((each.row, each.col) for each in candidates)
    # Two layers that read one tensor.
    live.layers[2].mlp.down_proj.weight = live.layers[1].mlp.down_proj.weight
    live = anatomy(live.model)
    (drawn,) = matched_draws(live, [Coordinate(1, 9, 21)], draws=1, seed=0, pool=1, never=[Coordinate(2, 9, 35)])
    assert (drawn[0].row, drawn[0].col) != (9, 35)


def test_random_places_avoid_the_candidates_neurons():
    live = anatomy(tiny("mixtral"))
    expert = next(p for p in live.projections if p.layer == 1)
    targets = [expert.coordinate(9, 21, 2), expert.coordinate(4, 22, 3)]
    never = [expert.coordinate(0, col, 2) for col in range(20)]
    drawn = random_places(live, targets, draws=40, seed=0, never=never)
    assert len(drawn) == 40
    assert {places[0].col for places in drawn}.isdisjoint({*range(20), 21}) and {
        places[0].expert for places in drawn
    } == {2}
    assert 22 not in {places[1].col for places in drawn} and {places[1].col for places in drawn} & set(range(20))
    assert random_places(live, targets, draws=40, seed=0, never=never) == drawn
    everything = [expert.coordinate(0, col, 2) for col in range(expert.shape[1])]
    assert random_places(live, targets, draws=3, seed=0, never=everything) == []
