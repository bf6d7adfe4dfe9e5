"""Intervals and tests of paired scores, against scipy and direct counting."""

from math import comb, inf

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, false_discovery_control, ttest_1samp

from weight_atlas.statistics import bootstrap
from weight_atlas.statistics.bootstrap import Resampled, bootstrap_ratio
from weight_atlas.statistics.corrections import false_discovery_rates
from weight_atlas.statistics.paired import document_differences, mean_changes, mean_nll, paired_difference, paired_p
from weight_atlas.statistics.proportions import chance_corrected_drop, mcnemar, wilson
from weight_atlas.statistics.severity import severity, severity_of_drop


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 10), (60, 60), (517, 1000)])
def test_wilson_is_scipys(successes, n):
    expected = binomtest(successes, n).proportion_ci(0.9, method="wilson")
    assert wilson(successes, n, confidence=0.9) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_unknown():
    assert np.isnan(wilson(0, 0)).all()


def test_wilson_ends_exactly_at_zero_and_one():
    assert {wilson(0, n)[0] for n in range(1, 400)} == {0.0}
    assert {wilson(n, n)[1] for n in range(1, 400)} == {1.0}
    assert all(wilson(1, n)[0] > 0 and wilson(n - 1, n)[1] < 1 for n in range(2, 400))


def windows(nll, tokens):
    numbers = range(len(nll))
    return pd.DataFrame({"window": numbers, "document": numbers, "nll": nll, "tokens": tokens})


def test_paired_p_is_scipys_and_agrees_with_the_interval():
    rng = np.random.default_rng(0)
    difference = 50 * rng.normal(0.4, 1, 12)
    base = windows(np.full(12, 100.0), 50)
    p = paired_p(base, windows(100 + difference, 50))
    assert p == pytest.approx(ttest_1samp(difference, 0).pvalue)
    assert paired_p(base, windows(100 - difference, 50)) == pytest.approx(p, rel=1e-12)
    assert paired_p(base, base) == 1.0 and np.isnan(paired_p(base.head(1), windows([101.0], 50)))
    assert paired_p(base, windows(np.full(12, 150.0), 50)) < 1e-12
    for seed in range(30):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(10, 100, 8)
        baseline, variant = (windows(tokens * rng.normal(2, 0.3, 8), tokens) for _ in range(2))
        _, low, high = paired_difference(baseline, variant)
        assert (paired_p(baseline, variant) < 0.05) == (low > 0 or high < 0)


def test_mcnemar_counts_only_items_that_changed():
    before = np.array([1] * 12 + [0] * 3 + [1] * 40 + [0] * 9)
    after = np.array([0] * 12 + [1] * 3 + [1] * 40 + [0] * 9)
    tail = sum(comb(15, k) for k in range(4)) / 2**15
    assert mcnemar(before, after) == pytest.approx(2 * tail)
    assert mcnemar(after, before) == mcnemar(before, after)
    assert mcnemar(before, before) == 1.0


def test_bootstrap_matches_the_normal_interval_of_a_mean():
    difference = np.random.default_rng(1).normal(0.3, 1.0, 400)
    drawn = bootstrap_ratio(difference, np.ones(400), resamples=20_000, seed=0)
    half = 1.96 * difference.std() / 20
    assert (drawn.low, drawn.high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.02)
    assert drawn.p < 1e-3
    assert bootstrap_ratio(difference, np.ones(400), resamples=500, seed=3) == bootstrap_ratio(
        difference, np.ones(400), resamples=500, seed=3
    )


def test_bootstrap_of_a_ratio_weighs_items_by_their_length():
    loss, words = np.array([10.0, 200.0, 30.0]), np.array([10.0, 100.0, 10.0])
    drawn = bootstrap_ratio(loss, words, resamples=2000, seed=0)
    assert drawn.low == pytest.approx(1.0) and drawn.high == pytest.approx(3.0)


def test_no_difference_is_no_effect():
    assert bootstrap_ratio(np.zeros(5), np.ones(5), resamples=100, seed=0) == Resampled(0.0, 0.0, 0.0, 1.0)
    rng = np.random.default_rng(0)
    ps = [bootstrap_ratio(rng.normal(size=50), np.ones(50), resamples=500, seed=i).p for i in range(200)]
    assert 0.01 < np.mean(np.array(ps) < 0.05) < 0.12


def test_chunks_of_resamples_do_not_change_their_number(monkeypatch):
    whole = bootstrap_ratio(np.arange(5.0), np.ones(5), resamples=101, seed=0)
    monkeypatch.setattr(bootstrap, "VALUES_AT_ONCE", 20)
    assert bootstrap_ratio(np.arange(5.0), np.ones(5), resamples=101, seed=0) == whole


def test_drops():
    drops = [0.501, 0.5, 0.201, 0.2, 0.101, 0.1, 0.051, 0.05, -0.3]
    names = ["catastrophic", "severe", "severe", "moderate", "moderate", "mild", "mild", "minimal", "minimal"]
    assert [severity_of_drop(drop) for drop in drops] == names
    # A four-way task that falls to guessing has lost everything, though its accuracy fell by less than a half.
    assert chance_corrected_drop(0.7, 0.25, 0.25) == 1.0
    assert chance_corrected_drop(0.7, 0.7, 0.25) == 0.0
    assert np.isnan(chance_corrected_drop(0.2, 0.1, 0.25))


def test_paired_interval_is_students_t_of_the_windows():
    rng = np.random.default_rng(0)
    tokens = np.full(12, 50)
    base, change = rng.normal(100, 10, 12), rng.normal(5, 2, 12)
    numbers = {"window": range(12), "document": range(12), "tokens": tokens}
    baseline = pd.DataFrame({"nll": base, **numbers})
    variant = pd.DataFrame({"nll": base + change, **numbers})
    delta, low, high = paired_difference(baseline, variant)
    expected = ttest_1samp(change / 50, 0).confidence_interval(0.95)
    assert delta == pytest.approx(change.mean() / 50)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert delta == pytest.approx(mean_nll(variant) - mean_nll(baseline))
    one = paired_difference(baseline.head(1), variant.head(1))
    assert np.isnan(one[1:]).all()


def test_severity_bands():
    bounds = [1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 10.0, 11.0, inf]
    names = ["minimal", "minimal", "mild", "mild", "moderate", "moderate", "severe", "severe"] + ["catastrophic"] * 2
    assert [severity(ratio) for ratio in bounds] == names


def sums(random, n=40):
    tokens = random.integers(5, 20, n)
    base = pd.DataFrame(
        {"window": range(n), "document": range(n), "tokens": tokens, "loss": random.gamma(4.0, size=n) * tokens}
    )
    return base, base.assign(loss=base.loss + tokens * random.normal(0.3, 0.5, n))


def of_windows(base, changed, seed):
    differences, tokens = document_differences(base, changed, ["loss"])
    return bootstrap_ratio(differences["loss"], tokens, resamples=4000, seed=seed)


def test_intervals_agree_with_resampling_by_hand():
    base, changed = sums(np.random.default_rng(0))
    found = of_windows(base, changed, seed=1)
    random = np.random.default_rng(2)
    slow = []
    for _ in range(4000):
        drawn = random.integers(0, 40, 40)
        slow.append((changed.loss - base.loss).to_numpy()[drawn].sum() / base.tokens.to_numpy()[drawn].sum())
    assert found.low == pytest.approx(np.percentile(slow, 2.5), abs=0.02)
    assert found.high == pytest.approx(np.percentile(slow, 97.5), abs=0.02)
    assert found.mean == pytest.approx(mean_changes(base, changed, ("loss",))["loss"], abs=0.01)
    assert found == of_windows(base, changed, seed=1)
    assert found != of_windows(base, changed, seed=2)


def test_intervals_are_of_differences():
    base, _ = sums(np.random.default_rng(3))
    shifted = base.assign(loss=base.loss + 0.25 * base.tokens)
    found = of_windows(base, shifted, seed=0)
    assert found.low == pytest.approx(0.25) and found.high == pytest.approx(0.25)


def test_windows_are_paired_by_number_and_tokens():
    base, changed = sums(np.random.default_rng(4))
    few = changed[changed.window.isin([5, 9])]
    wanted = (few.loss.sum() - base.loss[[5, 9]].sum()) / few.tokens.sum()
    assert mean_changes(base, few, ("loss",))["loss"] == pytest.approx(wanted)
    with pytest.raises(ValueError, match="different tokens"):
        mean_changes(base, few.assign(tokens=1), ("loss",))


def test_correction_agrees_with_scipy():
    p = np.random.default_rng(3).random(50) ** 3
    np.testing.assert_allclose(np.exp(false_discovery_rates(np.log(p))), false_discovery_control(p))
    assert false_discovery_rates(np.array([-5000.0, -1.0])).tolist() == [-5000 + np.log(2), -1.0]
