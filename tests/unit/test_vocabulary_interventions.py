"""Interventions against plain edited forward passes, intervals against resampling, and what is planted is found."""

import json

import live_models
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from weight_atlas.interventions.controls import shift_places
from weight_atlas.interventions.kinds import VOCABULARY
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.contributions import mean_contribution
from weight_atlas.live.edits import Edit, edited, value_at, zero
from weight_atlas.live.windows import Windows
from weight_atlas.settings.vocabulary import Interventions
from weight_atlas.vocabulary.interventions import mean_inputs, measure_interventions
from weight_atlas.vocabulary.interventions import planned as planned_interventions
from weight_atlas.vocabulary.measured_effects import agreement, strongest_changes, token_changes
from weight_atlas.vocabulary.prediction_measures import METRICS, TokenSums, prediction_measure
from weight_atlas.vocabulary.super_weight_cards import _null, card_tables, cascade_record, weight_card, weights_table

STOP = torch.tensor([7, 8, 9])
MEASURE = prediction_measure(STOP, 3)
DRAWS = Interventions(draws=6, shift_draws=5, batch_size=4)


@pytest.fixture(scope="module")
def planted():
    live = anatomy(live_models.tiny("llama", sharp=True))
    place = live_models.plant(live, 1, 7, 11)
    return live, place, live_models.own_text(live, windows=5, length=16)


@pytest.fixture(scope="module")
def measured(planted):
    live, place, windows = planted
    other = Coordinate(2, 3, 4, component=place.component)
    return measure_interventions(live, windows, [place, other], MEASURE, DRAWS, factor=0.0, control_windows=3)


def slow_sums(live, windows):
    """Sums of all metrics by plain numpy in float64, window by window."""
    logits = live.model(windows.ids).logits.double().numpy()
    rows = []
    for window, (ids, scored) in enumerate(zip(windows.ids.numpy(), windows.scored.numpy(), strict=True)):
        sums = dict.fromkeys(METRICS, 0.0)
        for position in np.flatnonzero(scored):
            row = logits[window, position - 1]
            p = np.exp(row - row.max())
            p /= p.sum()
            ordered = np.sort(p)[::-1]
            sums["loss"] -= np.log(p[ids[position]])
            sums["entropy"] += scipy.stats.entropy(p)
            sums["topk_margin"] += ordered[0] - ordered[2]
            sums["stopword_mass"] += p[STOP.numpy()].sum()
        rows.append({"tokens": int(scored.sum()), **sums})
    return pd.DataFrame(rows)


def rows_of(measured, kind, target, draw=0):
    table = measured.windows
    return table[(table.kind == kind) & (table.target == target) & (table.draw == draw)].reset_index(drop=True)


def test_every_kind_agrees_with_plain_passes(planted, measured):
    live, place, windows = planted
    columns = ["tokens", *METRICS]
    close = {"rtol": 2e-4, "atol": 2e-4, "check_dtype": False}
    pd.testing.assert_frame_equal(rows_of(measured, "baseline", -1)[columns], slow_sums(live, windows), **close)
    with edited(live, [zero(place)]):
        pd.testing.assert_frame_equal(rows_of(measured, "edit", 0)[columns], slow_sums(live, windows), **close)
    with edited(live, [zero(Coordinate(place.layer, None, place.col, component=place.component))]):
        pd.testing.assert_frame_equal(rows_of(measured, "neuron_zero", 0)[columns], slow_sums(live, windows), **close)
    (reached,) = mean_inputs(live, windows, [place])
    with mean_contribution(live, place, reached.mean):
        slow = slow_sums(live, windows)
        pd.testing.assert_frame_equal(rows_of(measured, "mean_contribution", 0)[columns], slow, **close)
    shift = rows_of(measured, "random_shift", 0, 2)
    where = Coordinate(1, int(shift.row[0]), int(shift.col[0]), component=place.component)
    with edited(live, [Edit(where, offset=-value_at(live, place))]):
        pd.testing.assert_frame_equal(shift[columns], slow_sums(live, windows.first(3)), **close)
    draw = rows_of(measured, "random_coord", 1, 4)
    row, col = int(draw.row[0]), int(draw.col[0])
    assert (row, col) != (3, 4) and draw.layer[0] == 2
    with edited(live, [zero(Coordinate(2, row, col, component=place.component))]):
        pd.testing.assert_frame_equal(draw[columns], slow_sums(live, windows.first(3)), **close)


def test_mean_inputs_are_of_all_tokens_that_reach_the_neuron(planted):
    live, place, windows = planted
    seen = []
    hook = live.projection(place).container.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    live.model(windows.ids)
    hook.remove()
    (found,) = mean_inputs(live, windows, [place], windows_at_once=2)
    assert found.mean == pytest.approx(seen[0][..., 11].mean().item(), rel=1e-5)
    assert found.tokens == windows.ids.numel()


def test_mean_inputs_of_an_expert_are_of_its_tokens():
    live = anatomy(live_models.tiny("mixtral"))
    ids = torch.randint(5, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    windows = Windows(ids, ids > 0)
    projection = next(p for p in live.projections if p.layer == 1)
    routed = []

    def see(module, inputs):
        hidden, index = inputs[0].reshape(-1, live.d_model), inputs[1].reshape(-1, 2)
        own = hidden[(index == 2).any(1)]
        gate, up = (own @ module.gate_up_proj[2].T).chunk(2, dim=-1)
        routed.append((torch.nn.functional.silu(gate) * up)[:, 5])

    hook = projection.container.register_forward_pre_hook(see)
    live.model(ids)
    hook.remove()
    found = mean_inputs(live, windows, [projection.coordinate(0, 5, 2)], windows_at_once=1)
    assert found[0].mean == pytest.approx(routed[0].mean().item(), rel=1e-4)
    assert found[0].tokens == len(routed[0])


def test_an_expert_that_no_token_reaches_is_said_to_be_one(capsys):
    live = anatomy(live_models.tiny("mixtral", sharp=True))
    windows = live_models.own_text(live, windows=2, length=8)
    projection = next(p for p in live.projections if p.layer == 1)
    counts = torch.zeros(4, dtype=torch.int64)

    def see(module, inputs):
        counts.add_(torch.bincount(inputs[1].flatten(), minlength=4))

    hook = projection.container.register_forward_pre_hook(see)
    # A vocabulary of one token goes to two experts of four.
    windows.ids[:] = 7
    live.model(windows.ids)
    hook.remove()
    reached, unreached = int(counts.argmax()), int(counts.argmin())
    assert counts[unreached] == 0
    places = [projection.coordinate(2, 3, expert) for expert in (reached, unreached)]
    found = measure_interventions(
        live, windows, places, MEASURE, Interventions(draws=2, shift_draws=2), factor=0.0
    ).windows
    cards = [weight_card(found, target, samples=500, seed=0) for target in (0, 1)]
    assert [card["routed_tokens_count"] for card in cards] == [int(counts[reached]), 0]
    assert capsys.readouterr().out.count("no token of the windows is routed to") == 1
    # Nothing over nothing is no ratio, in no format.
    assert cards[1]["null"]["loss"] == {"delta": 0.0, "p": 1.0, "ratio": None}
    place = {"model": "m", "tensor": "t", "layer": 1, "expert": 1, "row": 2, "col": 3, "original_value": 1.0}
    table = weights_table([{**place, **card, "cascade": {}} for card in cards])
    assert table.routed_tokens_count.tolist() == [int(counts[reached]), 0]
    assert np.isnan(table.null_ratio_loss[1]) and np.isfinite(table.null_ratio_loss[0])
    assert weights_table([{**place, **cards[1], "cascade": {}}]).null_ratio_loss.dtype == float


def test_random_shifts_change_other_weights_by_the_same_amount(planted):
    live, place, _ = planted
    weight = value_at(live, place)
    other = Coordinate(1, 3, 4)  # the same matrix, named without its component
    settings = {"factor": 0.25, "draws": 3, "shift_draws": 40, "seed": 5, "control_windows": 3}
    due = list(planned_interventions(live, [place, other], [0.0, 0.0], **settings))
    shifts = [one for one in due if one.kind == "random_shift" and one.target == 0]
    places = [one.change.places[0] for one in shifts]
    assert len(shifts) == 40 == len(set(places)) and [one.draw for one in shifts] == [*range(1, 41)]
    assert not {at.cell for at in places} & {(7, 11), (3, 4)}
    for one, at in zip(shifts, places, strict=True):
        before = value_at(live, at)
        with one.change.applied(live):
            assert value_at(live, at) - before == pytest.approx(-0.75 * weight, rel=1e-5)
        assert one.windows == 3
    again = list(planned_interventions(live, [place, other], [0.0, 0.0], **settings))
    assert again == due
    moved = list(planned_interventions(live, [place, other], [0.0, 0.0], **{**settings, "seed": 6}))
    assert [one.change for one in moved if one.draw] != [one.change for one in due if one.draw]
    # A matrix of few weights gives as many as it has.
    assert len(shift_places(live, [place], 0, draws=10**6, seed=0)) == 64 * 96 - 1


def test_cards_say_how_well_the_controls_match(measured):
    card = weight_card(measured.windows, 0, samples=20, seed=0)
    rows = measured.windows
    weights = rows[(rows.target == 0) & (rows.kind == "random_coord")].groupby("draw").weight.first().abs()
    own = abs(rows[(rows.target == 0) & (rows.kind == "edit")].weight.iloc[0])
    ratio = card["controls"]["random_coord"]["magnitude_ratio"]
    assert ratio == {"mean": pytest.approx((weights / own).mean()), "min": pytest.approx((weights / own).min())}
    assert ratio["mean"] < 0.2  # the largest weight of its matrix has no equal
    equal = weight_card(rows, 1, samples=20, seed=0)["controls"]["random_coord"]["magnitude_ratio"]
    assert equal["mean"] == pytest.approx(1, abs=0.05)
    shift = card["controls"]["random_shift"]
    assert shift["draws"] == 5 and shift["windows"] == 3 and "magnitude_ratio" not in shift
    scored = rows[(rows.target == -1) & (rows.window < 3)].tokens.sum()
    assert shift["tokens_scored"] == scored < card["tokens_scored"]
    assert card["null_shift"]["loss"]["p"] == 1 / 6 and card["null_shift"]["loss"]["ratio"] > 1
    place = {"model": "m", "tensor": "t", "layer": 1, "expert": None, "row": 7, "col": 11, "original_value": 1.0}
    flat = weights_table([{**place, **card, "cascade": {}}]).iloc[0]
    assert flat.random_coord_tokens_scored == scored and flat.random_coord_magnitude_ratio_mean == ratio["mean"]
    assert flat.null_delta_loss == card["null"]["loss"]["delta"] != flat.delta_loss
    assert flat.null_shift_p_loss == 1 / 6 and flat.random_shift_draws == 5
    long = card_tables(card).set_index(["kind", "metric"])
    assert long.tokens["random_coord", "loss"] == scored and pd.isna(long.tokens["edit", "loss"])
    assert long.draws["random_shift", "loss"] == 5


def test_a_no_op_changes_nothing_at_all(measured):
    for target in (0, 1):
        same = rows_of(measured, "no_op", target)
        assert len(same) == 3
        assert (same[list(METRICS)].to_numpy() == rows_of(measured, "baseline", -1)[list(METRICS)][:3].to_numpy()).all()


def test_the_planted_weight_is_far_outside_its_controls(measured):
    card = weight_card(measured.windows, 0, samples=200, seed=0)
    assert card["null"]["loss"]["p"] == 1 / 7 and card["null"]["loss"]["ratio"] > 20
    assert card["bootstrap"]["loss"]["ci_2.5"] > 0.1
    assert card["controls"]["no_op_delta"] == dict.fromkeys(METRICS, 0.0)
    assert card["controls"]["random_coord"]["draws"] == 6
    inert = weight_card(measured.windows, 1, samples=200, seed=0)
    assert abs(inert["deltas"]["loss"]) < 0.02 * card["deltas"]["loss"]


def test_the_model_is_left_as_it_was(planted):
    live, place, windows = planted
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    measure_interventions(live, windows.first(1), [place], MEASURE, Interventions(draws=1, shift_draws=1), factor=0.0)
    assert all(torch.equal(before[name], value) for name, value in live.model.state_dict().items())


def test_two_runs_are_the_same(planted, measured):
    live, place, windows = planted
    other = Coordinate(2, 3, 4, component=place.component)
    again = measure_interventions(live, windows, [place, other], MEASURE, DRAWS, factor=0.0, control_windows=3)
    pd.testing.assert_frame_equal(again.windows, measured.windows, rtol=0, atol=0)
    pd.testing.assert_frame_equal(again.changes, measured.changes, rtol=0, atol=0)


def test_no_target_leaves_the_baseline(planted):
    live, _, windows = planted
    nothing = measure_interventions(live, windows, [], MEASURE, Interventions(), factor=0.0)
    assert set(nothing.windows.kind) == {"baseline"} and nothing.changes.empty


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss", "gpt2", "gemma2", "qwen2_moe"])
def test_layouts(layout):
    live = anatomy(live_models.tiny(layout, sharp=True))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (2, 8), generator=generator)
    windows = Windows(ids, torch.ones_like(ids, dtype=torch.bool).index_fill_(1, torch.tensor([0]), False))
    projection = next(p for p in live.projections if p.layer == 1)
    expert = 1 if projection.stacked else projection.expert
    place = projection.coordinate(2, 3, expert)
    found = measure_interventions(live, windows, [place], MEASURE, Interventions(draws=2, shift_draws=2), factor=0.0)
    columns = ["tokens", *METRICS]
    with edited(live, [zero(place)]):
        slow = slow_sums(live, windows)
    fast = rows_of(found, "edit", 0)
    pd.testing.assert_frame_equal(fast[columns], slow, rtol=2e-4, atol=2e-4, check_dtype=False)
    assert set(found.windows.kind) == {"baseline", *VOCABULARY}
    (reached,) = mean_inputs(live, windows, [place])
    with mean_contribution(live, place, reached.mean):
        slow = slow_sums(live, windows)
    fast_mean = rows_of(found, "mean_contribution", 0)[columns]
    pd.testing.assert_frame_equal(fast_mean, slow, rtol=2e-4, atol=2e-4, check_dtype=False)
    assert weight_card(found.windows, 0, samples=500, seed=0)["controls"]["no_op_delta"]["loss"] == 0.0
    if expert is not None:
        assert (fast.expert == expert).all()


def test_token_changes_agree_with_float64():
    random = torch.Generator().manual_seed(0)
    before, after = torch.randn(50, 30, generator=random) * 6, torch.randn(50, 30, generator=random) * 6
    counts = [TokenSums(30), TokenSums(30)]
    for one, logits in zip(counts, (before, after), strict=True):
        for part in logits.split(16):
            one.add(part)
    table = token_changes(*counts)
    p, q = before.double().softmax(-1), after.double().softmax(-1)
    np.testing.assert_allclose(table.probability_change, (q - p).mean(0), atol=1e-7)
    odds = (torch.logit(q) - torch.logit(p)).mean(0)
    np.testing.assert_allclose(table.log_odds_change, odds, atol=0.02)
    tokens = pd.DataFrame({"id": range(30), "token": [f"t{i}" for i in range(30)], "text": "x", "special": False})
    tokens.loc[int(table.log_odds_change.argmax()), "special"] = True
    listed = strongest_changes(table, tokens, "log_odds_change", k=3)
    ordered = table.drop(index=int(table.log_odds_change.argmax())).sort_values("log_odds_change")
    assert [token["id"] for token in listed["up"]] == ordered.id[::-1][:3].tolist()
    assert [token["id"] for token in listed["down"]] == ordered.id[:3].tolist()
    assert agreement(table.log_odds_change.to_numpy() * 2, table) == pytest.approx(1)
    assert np.isnan(agreement(np.zeros(30), table))


def test_the_null_compares_sizes_of_changes():
    changes = pd.DataFrame({"loss": [-1.0, 2.0, -4.0, 3.0], "entropy": [0.0, 0.0, 0.0, 0.0]})
    found = _null({"loss": -3.0, "entropy": 0.5}, changes)
    assert found["loss"] == {"delta": -3.0, "p": 3 / 5, "ratio": 0.75}
    assert found["entropy"] == {"delta": 0.5, "p": 1 / 5, "ratio": None}
    assert _null({"loss": 8.0}, changes[["loss"]])["loss"] == {"delta": 8.0, "p": 1 / 5, "ratio": 2.0}


def test_only_tokens_that_move_are_listed():
    counts = [TokenSums(6), TokenSums(6)]
    counts[0].add(torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]))
    counts[1].add(torch.tensor([[0.0, 3.0, 2.0, 1.0, 4.0, 5.0]]))
    table = token_changes(*counts)
    np.testing.assert_allclose(table.probability, torch.arange(6.0).softmax(0), rtol=1e-6)
    table.loc[[0, 2, 4, 5], ["probability_change", "log_odds_change"]] = 0.0
    tokens = pd.DataFrame({"id": range(6), "token": list("abcdef"), "text": "x", "special": False})
    listed = strongest_changes(table, tokens, "probability_change")
    assert [[token["id"] for token in listed[way]] for way in ("up", "down")] == [[1], [3]]
    assert listed["up"][0]["probability"] == table.probability[1]
    # What pads an embedding has no token.
    tokens.loc[1, "token"] = None
    assert strongest_changes(table, tokens, "probability_change")["up"] == []
    counts[1].add(torch.zeros(1, 6))
    with pytest.raises(ValueError, match="different numbers of contexts"):
        token_changes(*counts)


def test_a_late_weight_moves_the_tokens_of_its_direct_effect():
    # Nothing stands between the last layer and the head but a norm, so the direct effect must show.
    live = anatomy(live_models.tiny("llama", sharp=True))
    place = live_models.plant(live, 3, 7, 11, write=60.0)
    ids = torch.randint(5, 300, (4, 2), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 1
    windows = Windows(ids, torch.tensor([[False, True]]).expand(4, 2))
    found = measure_interventions(live, windows, [place], MEASURE, Interventions(draws=0, shift_draws=0), factor=0.0)
    head = live.model.get_output_embeddings().weight * live.model.model.norm.weight
    assert agreement(-head[:, 7].double().numpy() * 60.0 / 40.0, found.changes) > 0.6


def test_cards_are_flat_and_json(measured):
    card = weight_card(measured.windows, 0, samples=50, seed=0)
    assert {"baselines", "deltas", "controls", "bootstrap"} <= set(card)
    assert set(card["baselines"]) == set(card["deltas"]) == set(METRICS)
    assert set(card["bootstrap"]["loss"]) == {"mean", "ci_2.5", "ci_97.5"}
    assert {"random_coord_delta", "neuron_zero_delta", "mean_contribution_delta", "no_op_delta"} <= set(
        card["controls"]
    )
    json.dumps(card)
    long = card_tables(card)
    assert set(long.kind) == {"edit", "random_coord", "neuron_zero", "mean_contribution", "no_op", "random_shift"}
    place = {"model": "m", "tensor": "t", "layer": 1, "expert": None, "row": 7, "col": 11, "original_value": 1.0}
    nothing = cascade_record(pd.DataFrame(columns=["target", "layer", "position"]), 0)
    table = weights_table([{**place, **card, "cascade": nothing}])
    assert table["delta_loss"][0] == card["deltas"]["loss"] and table["null_p_loss"][0] == 1 / 7
    assert weights_table([]).empty
