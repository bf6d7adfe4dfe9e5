"""Interventions against plain edited forward passes, intervals against resampling, and what is planted is found."""

import json

import lm_models
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from weight_atlas.lm.anatomy import Coordinate, anatomy
from weight_atlas.lm.contributions import mean_contribution
from weight_atlas.lm.edits import edited, zero
from weight_atlas.lm.windows import Windows
from weight_atlas.vocabulary.bootstrap import bootstrap_changes, paired_changes
from weight_atlas.vocabulary.dual import agreement, strongest_changes, token_changes
from weight_atlas.vocabulary.inputs import mean_inputs
from weight_atlas.vocabulary.interventions import KINDS, measure_interventions
from weight_atlas.vocabulary.measures import METRICS, TokenSums, prediction_measure
from weight_atlas.vocabulary.weight_cards import card_tables, cascade_record, weight_card, weights_table

STOP = torch.tensor([7, 8, 9])
MEASURE = prediction_measure(STOP, 3)


@pytest.fixture(scope="module")
def planted():
    live = anatomy(lm_models.tiny("llama", sharp=True))
    place = lm_models.plant(live, 1, 7, 11)
    return live, place, lm_models.own_text(live, windows=5, length=16)


@pytest.fixture(scope="module")
def measured(planted):
    live, place, windows = planted
    other = Coordinate(2, 3, 4, component=place.component)
    return measure_interventions(live, windows, [place, other], MEASURE, draws=6, control_windows=3, batch_size=4)


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
    (mean,) = mean_inputs(live, windows, [place])
    with mean_contribution(live, place, mean):
        slow = slow_sums(live, windows)
        pd.testing.assert_frame_equal(rows_of(measured, "mean_contribution", 0)[columns], slow, **close)
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
    assert mean_inputs(live, windows, [place], batch_size=2)[0] == pytest.approx(
        seen[0][..., 11].mean().item(), rel=1e-5
    )


def test_mean_inputs_of_an_expert_are_of_its_tokens():
    live = anatomy(lm_models.tiny("mixtral"))
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
    found = mean_inputs(live, windows, [projection.coordinate(0, 5, 2)], batch_size=1)
    assert found[0] == pytest.approx(routed[0].mean().item(), rel=1e-4)


def test_a_no_op_changes_nothing_at_all(measured):
    for target in (0, 1):
        same = rows_of(measured, "no_op", target)
        assert len(same) == 3
        assert (same[list(METRICS)].to_numpy() == rows_of(measured, "baseline", -1)[list(METRICS)][:3].to_numpy()).all()


def test_the_planted_weight_is_far_outside_its_controls(measured):
    card = weight_card(measured.windows, 0, samples=200)
    assert card["null"]["loss"]["p"] == 1 / 7 and card["null"]["loss"]["ratio"] > 20
    assert card["bootstrap"]["loss"]["ci_2.5"] > 0.1
    assert card["controls"]["no_op_delta"] == dict.fromkeys(METRICS, 0.0)
    assert card["controls"]["random_coord"]["draws"] == 6
    inert = weight_card(measured.windows, 1, samples=200)
    assert abs(inert["deltas"]["loss"]) < 0.02 * card["deltas"]["loss"]


def test_the_model_is_left_as_it_was(planted):
    live, place, windows = planted
    before = {name: value.clone() for name, value in live.model.state_dict().items()}
    measure_interventions(live, windows.first(1), [place], MEASURE, draws=1)
    assert all(torch.equal(before[name], value) for name, value in live.model.state_dict().items())


def test_two_runs_are_the_same(planted, measured):
    live, place, windows = planted
    other = Coordinate(2, 3, 4, component=place.component)
    again = measure_interventions(live, windows, [place, other], MEASURE, draws=6, control_windows=3, batch_size=4)
    pd.testing.assert_frame_equal(again.windows, measured.windows, rtol=0, atol=0)
    pd.testing.assert_frame_equal(again.changes, measured.changes, rtol=0, atol=0)


def test_no_target_leaves_the_baseline(planted):
    live, _, windows = planted
    nothing = measure_interventions(live, windows, [], MEASURE)
    assert set(nothing.windows.kind) == {"baseline"} and nothing.changes.empty


@pytest.mark.parametrize("layout", ["mixtral", "gpt_oss", "gpt2", "gemma2", "qwen2_moe"])
def test_layouts(layout):
    live = anatomy(lm_models.tiny(layout, sharp=True))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (2, 8), generator=generator)
    windows = Windows(ids, torch.ones_like(ids, dtype=torch.bool).index_fill_(1, torch.tensor([0]), False))
    projection = next(p for p in live.projections if p.layer == 1)
    expert = 1 if projection.stacked else projection.expert
    place = projection.coordinate(2, 3, expert)
    found = measure_interventions(live, windows, [place], MEASURE, draws=2)
    columns = ["tokens", *METRICS]
    with edited(live, [zero(place)]):
        slow = slow_sums(live, windows)
    fast = rows_of(found, "edit", 0)
    pd.testing.assert_frame_equal(fast[columns], slow, rtol=2e-4, atol=2e-4, check_dtype=False)
    assert set(found.windows.kind) == {"baseline", *KINDS}
    (mean,) = mean_inputs(live, windows, [place])
    with mean_contribution(live, place, mean):
        slow = slow_sums(live, windows)
    fast_mean = rows_of(found, "mean_contribution", 0)[columns]
    pd.testing.assert_frame_equal(fast_mean, slow, rtol=2e-4, atol=2e-4, check_dtype=False)
    assert weight_card(found.windows, 0)["controls"]["no_op_delta"]["loss"] == 0.0
    if expert is not None:
        assert (fast.expert == expert).all()


def sums(random, n=40):
    tokens = random.integers(5, 20, n)
    base = pd.DataFrame({"window": range(n), "tokens": tokens, "loss": random.gamma(4.0, size=n) * tokens})
    return base, base.assign(loss=base.loss + tokens * random.normal(0.3, 0.5, n))


def test_intervals_agree_with_resampling_by_hand():
    base, changed = sums(np.random.default_rng(0))
    found = bootstrap_changes(base, changed, ("loss",), samples=4000, seed=1)["loss"]
    random = np.random.default_rng(2)
    slow = []
    for _ in range(4000):
        drawn = random.integers(0, 40, 40)
        slow.append((changed.loss - base.loss).to_numpy()[drawn].sum() / base.tokens.to_numpy()[drawn].sum())
    assert found["ci_2.5"] == pytest.approx(np.percentile(slow, 2.5), abs=0.02)
    assert found["ci_97.5"] == pytest.approx(np.percentile(slow, 97.5), abs=0.02)
    assert found["mean"] == pytest.approx(paired_changes(base, changed, ("loss",))["loss"], abs=0.01)
    assert found == bootstrap_changes(base, changed, ("loss",), samples=4000, seed=1)["loss"]


def test_intervals_are_of_differences():
    base, _ = sums(np.random.default_rng(3))
    shifted = base.assign(loss=base.loss + 0.25 * base.tokens)
    found = bootstrap_changes(base, shifted, ("loss",), samples=100, seed=0)["loss"]
    assert found["ci_2.5"] == pytest.approx(0.25) and found["ci_97.5"] == pytest.approx(0.25)


def test_windows_are_paired_by_number_and_tokens():
    base, changed = sums(np.random.default_rng(4))
    few = changed[changed.window.isin([5, 9])]
    wanted = (few.loss.sum() - base.loss[[5, 9]].sum()) / few.tokens.sum()
    assert paired_changes(base, few, ("loss",))["loss"] == pytest.approx(wanted)
    with pytest.raises(ValueError, match="different tokens"):
        paired_changes(base, few.assign(tokens=1), ("loss",))


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


def test_a_late_weight_moves_the_tokens_of_its_direct_effect():
    # Nothing stands between the last layer and the head but a norm, so the direct effect must show.
    live = anatomy(lm_models.tiny("llama", sharp=True))
    place = lm_models.plant(live, 3, 7, 11, write=60.0)
    ids = torch.randint(5, 300, (4, 2), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 1
    windows = Windows(ids, torch.tensor([[False, True]]).expand(4, 2))
    found = measure_interventions(live, windows, [place], MEASURE, draws=0)
    head = live.model.get_output_embeddings().weight * live.model.model.norm.weight
    assert agreement(-head[:, 7].double().numpy() * 60.0 / 40.0, found.changes) > 0.6


def test_cards_are_flat_and_json(measured):
    card = weight_card(measured.windows, 0, samples=50)
    assert {"baselines", "deltas", "controls", "bootstrap"} <= set(card)
    assert set(card["baselines"]) == set(card["deltas"]) == set(METRICS)
    assert set(card["bootstrap"]["loss"]) == {"mean", "ci_2.5", "ci_97.5"}
    assert {"random_coord_delta", "neuron_zero_delta", "mean_contribution_delta", "no_op_delta"} <= set(
        card["controls"]
    )
    json.dumps(card)
    long = card_tables(card)
    assert set(long.kind) == {"edit", "random_coord", "neuron_zero", "mean_contribution", "no_op"}
    place = {"model": "m", "tensor": "t", "layer": 1, "expert": None, "row": 7, "col": 11, "original_value": 1.0}
    nothing = cascade_record(pd.DataFrame(columns=["target", "layer", "position"]), 0)
    table = weights_table([{**place, **card, "cascade": nothing}])
    assert table["delta_loss"][0] == card["deltas"]["loss"] and table["null_p_loss"][0] == 1 / 7
    assert weights_table([]).empty
