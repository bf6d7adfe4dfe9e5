"""Intervals and tests of paired scores, against scipy and direct counting."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp

from weight_atlas.ablations.statistics import (
    chance_corrected_drop,
    mcnemar,
    paired_bootstrap,
    paired_t,
    severity_of_drop,
    wilson,
)
from weight_atlas.live.paired import paired_difference


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


def test_paired_t_is_scipys_and_agrees_with_the_interval():
    rng = np.random.default_rng(0)
    difference = rng.normal(0.4, 1, 12)
    even = np.full(12, 1 / 12)
    assert paired_t(difference, even) == pytest.approx(ttest_1samp(difference, 0).pvalue)
    assert paired_t(-difference, even) == paired_t(difference, even)
    assert paired_t(np.zeros(5), np.full(5, 0.2)) == 1.0 and np.isnan(paired_t(np.ones(1), np.ones(1)))
    assert paired_t(np.ones(5), np.full(5, 0.2)) < 1e-12
    for seed in range(30):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(10, 100, 8)
        baseline, variant = (pd.DataFrame({"tokens": tokens, "nll": tokens * rng.normal(2, 0.3, 8)}) for _ in range(2))
        _, low, high = paired_difference(baseline, variant)
        p = paired_t((variant.nll - baseline.nll) / tokens, tokens / tokens.sum())
        assert (p < 0.05) == (low > 0 or high < 0)


def test_mcnemar_counts_only_items_that_changed():
    before = np.array([1] * 12 + [0] * 3 + [1] * 40 + [0] * 9)
    after = np.array([0] * 12 + [1] * 3 + [1] * 40 + [0] * 9)
    tail = sum(comb(15, k) for k in range(4)) / 2**15
    assert mcnemar(before, after) == pytest.approx(2 * tail)
    assert mcnemar(after, before) == mcnemar(before, after)
    assert mcnemar(before, before) == 1.0


def test_bootstrap_matches_the_normal_interval_of_a_mean():
    difference = np.random.default_rng(1).normal(0.3, 1.0, 400)
    low, high, p = paired_bootstrap(difference, np.ones(400), resamples=20_000, seed=0)
    half = 1.96 * difference.std() / 20
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.02)
    assert p < 1e-3
    assert paired_bootstrap(difference, np.ones(400), resamples=500, seed=3) == paired_bootstrap(
        difference, np.ones(400), resamples=500, seed=3
    )


def test_bootstrap_of_a_ratio_weighs_items_by_their_length():
    loss, words = np.array([10.0, 200.0, 30.0]), np.array([10.0, 100.0, 10.0])
    low, high, _ = paired_bootstrap(loss, words, resamples=2000, seed=0)
    assert low == pytest.approx(1.0) and high == pytest.approx(3.0)


def test_no_difference_is_no_effect():
    assert paired_bootstrap(np.zeros(5), np.ones(5), resamples=100, seed=0) == (0.0, 0.0, 1.0)
    rng = np.random.default_rng(0)
    ps = [paired_bootstrap(rng.normal(size=50), np.ones(50), resamples=500, seed=i)[2] for i in range(200)]
    assert 0.01 < np.mean(np.array(ps) < 0.05) < 0.12


def test_chunks_of_resamples_do_not_change_their_number(monkeypatch):
    from weight_atlas.ablations import statistics

    whole = paired_bootstrap(np.arange(5.0), np.ones(5), resamples=101, seed=0)
    monkeypatch.setattr(statistics, "RESAMPLES_AT_ONCE", 20)
    assert paired_bootstrap(np.arange(5.0), np.ones(5), resamples=101, seed=0) == pytest.approx(whole)


def test_drops():
    drops = [0.501, 0.5, 0.201, 0.2, 0.101, 0.1, 0.051, 0.05, -0.3]
    names = ["catastrophic", "severe", "severe", "moderate", "moderate", "mild", "mild", "minimal", "minimal"]
    assert [severity_of_drop(drop) for drop in drops] == names
    # A four-way task that falls to guessing has lost everything, though its accuracy fell by less than a half.
    assert chance_corrected_drop(0.7, 0.25, 0.25) == 1.0
    assert chance_corrected_drop(0.7, 0.7, 0.25) == 0.0
    assert np.isnan(chance_corrected_drop(0.2, 0.1, 0.25))
