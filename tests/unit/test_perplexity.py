"""Perplexity and ablations: exact values, fair controls, and honest intervals."""

import math

import numpy as np
import pandas as pd
import pytest
from lm_models import drawn, own_text, plant, tiny
from scipy import stats

from weight_atlas.evaluation.perplexity import ablation_perplexity, mean_nll, paired_difference, severity
from weight_atlas.figures import ablations
from weight_atlas.lm.anatomy import Coordinate, anatomy
from weight_atlas.lm.places import matrix_at
from weight_atlas.super_weights.controls import magnitude_ratio, matched_draws


@pytest.fixture(scope="module")
def planted():
    live = anatomy(tiny("llama", sharp=True))
    return live, plant(live, 1, 9, 21)


def test_ablation_table(planted):
    live, place = planted
    before = {name: parameter.clone() for name, parameter in live.model.named_parameters()}
    table = ablation_perplexity(live, own_text(live), [place], draws=5, seed=0, batch_size=4)
    assert table.variant.tolist() == ["baseline", "super_weights_zeroed", *[f"random_{i}" for i in range(1, 6)]]
    ratio = table.set_index("variant").ratio
    assert ratio["baseline"] == 1
    assert ratio["super_weights_zeroed"] > 10
    assert ratio.filter(like="random").max() < 1.1
    assert table.severity[1] == "catastrophic"
    assert (table.perplexity == np.exp(table.nll)).all()
    assert table.delta_nll[1] == pytest.approx(math.log(table.ratio[1]), rel=1e-12)
    assert table.delta_nll_low[1] < table.delta_nll[1] < table.delta_nll_high[1]
    assert all((before[name] == parameter).all() for name, parameter in live.model.named_parameters())
    again = ablation_perplexity(live, own_text(live), [place], draws=5, seed=0, batch_size=4)
    pd.testing.assert_frame_equal(table, again, check_exact=True)


def test_none_found_gives_the_baseline_and_says_so(planted):
    live, _ = planted
    table = ablation_perplexity(live, own_text(live), [], draws=5, seed=0, batch_size=4)
    assert table.variant.tolist() == ["baseline"]
    assert "nothing to ablate" in drawn(ablations.ablation_perplexity(table))


def test_several_super_weights_also_one_by_one(planted):
    live, place = planted
    other = Coordinate(2, 3, 4, component="mlp.down_proj")
    table = ablation_perplexity(live, own_text(live), [place, other], draws=2, seed=0, batch_size=4)
    assert table.kind.tolist() == ["baseline", "super_weights", "single", "single", "random", "random"]
    assert table.weights.tolist() == [0, 2, 1, 1, 2, 2]
    assert table.ratio[3] == pytest.approx(1, abs=0.01)
    assert "2 super weights" in drawn(ablations.ablation_perplexity(table))


def test_controls_are_near_in_size_in_the_same_matrix_and_never_a_target(planted):
    live, _ = planted
    matrix = matrix_at(live, Coordinate(2, 0, 0))
    order = matrix.abs().flatten().argsort(descending=True)[1000:1003].tolist()
    targets = [Coordinate(2, place // 96, place % 96) for place in order]
    draws = matched_draws(live, targets, draws=60, seed=3)
    assert len(draws) == 60
    drawn = [control for controls in draws for control in controls]
    assert len(set(drawn)) == len(drawn) == 180
    assert not set(drawn) & set(targets)
    ranks = matrix.abs().flatten().argsort(descending=True).argsort().view(64, 96)
    assert all(abs(int(ranks[c.row, c.col]) - 1001) <= 200 for c in drawn)
    assert magnitude_ratio(live, targets, draws[0]) == pytest.approx(1, abs=0.02)
    assert matched_draws(live, targets, draws=60, seed=3) == draws != matched_draws(live, targets, draws=60, seed=4)


def test_controls_leave_zeros_and_targets_out_in_a_tiny_matrix():
    live = anatomy(tiny("llama", intermediate_size=2))
    matrix = matrix_at(live, Coordinate(0, 0, 0))
    matrix[1:] = 0
    assert matched_draws(live, [Coordinate(0, 0, 0)], draws=3, seed=0) == [[Coordinate(0, 0, 1)]] * 3
    matrix[0, 1] = 0
    assert matched_draws(live, [Coordinate(0, 0, 0)], draws=3, seed=0) == []


def test_paired_interval_is_students_t_of_the_windows():
    rng = np.random.default_rng(0)
    tokens = np.full(12, 50)
    base, change = rng.normal(100, 10, 12), rng.normal(5, 2, 12)
    baseline = pd.DataFrame({"nll": base, "tokens": tokens})
    variant = pd.DataFrame({"nll": base + change, "tokens": tokens})
    delta, low, high = paired_difference(baseline, variant)
    expected = stats.ttest_1samp(change / 50, 0).confidence_interval(0.95)
    assert delta == pytest.approx(change.mean() / 50)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert delta == pytest.approx(mean_nll(variant) - mean_nll(baseline))
    one = paired_difference(baseline.head(1), variant.head(1))
    assert np.isnan(one[1:]).all()


def test_severity_bands():
    bounds = [1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 10.0, 11.0, math.inf]
    names = ["minimal", "minimal", "mild", "mild", "moderate", "moderate", "severe", "severe"] + ["catastrophic"] * 2
    assert [severity(ratio) for ratio in bounds] == names
