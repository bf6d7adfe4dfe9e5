"""Distances from the normal distribution, against scipy on the expanded elements and against simulation."""

import numpy as np
import pytest
import scipy.stats
import torch

from weight_atlas.weights.distribution import BINNED, EXACT, count_outside
from weight_atlas.weights.histogram import Histogram
from weight_atlas.weights.normality import ks_distance, ks_distance_null, qq_slope, student_nu
from weight_atlas.weights.statistics import EXTREME_NULL, OUTLIER_NULL, dynamic_range_null
from weight_atlas.weights.value_histogram import value_histogram


def sample(kind: str, n: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    draws = {
        "normal": lambda: random.standard_normal(n),
        "shifted": lambda: random.standard_normal(n) + 3,
        "heavy": lambda: random.standard_t(3, n),
        "skewed": lambda: random.exponential(size=n),
        "spiked": lambda: random.standard_normal(n) * (random.random(n) < 0.6),
    }
    return torch.from_numpy(draws[kind]() * 0.02)


def distance(found: Histogram) -> float:
    return ks_distance(found.values, found.counts, found.kind, found.moments.mean, found.moments.std)


def expanded(tensor: torch.Tensor) -> float:
    x = tensor.double().numpy()
    return scipy.stats.kstest(x, "norm", args=(x.mean(), x.std())).statistic


@pytest.mark.parametrize("kind", ["normal", "shifted", "heavy", "skewed", "spiked"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float32])
def test_ks_distance_is_scipys_on_the_elements(kind, dtype):
    tensor = (sample(kind, 30_000) * 10).float().to(dtype)
    found = value_histogram(tensor)
    assert found.kind == EXACT
    assert distance(found) == pytest.approx(expanded(tensor.float()), rel=1e-10)


@pytest.mark.parametrize("kind", ["normal", "shifted", "heavy", "skewed", "spiked"])
def test_ks_distance_of_a_binned_distribution(kind):
    tensor = sample(kind, 200_000).float()
    found = value_histogram(tensor)
    assert found.kind == BINNED
    # Known at the edges of buckets, between which the normal distribution gains at most .002.
    true = expanded(tensor)
    assert true - 1.5e-3 < distance(found) <= true + 1e-12
    if kind not in ("normal", "shifted"):
        assert distance(found) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float32])
@pytest.mark.parametrize("n", [3000, 200_000])
def test_ks_null_is_what_normal_samples_show(dtype, n):
    seen, null = [], []
    for seed in range(12):
        found = value_histogram(torch.from_numpy(np.random.default_rng(seed).standard_normal(n)).float().to(dtype))
        seen.append(distance(found))
        null.append(ks_distance_null(found.values, n, found.kind, found.moments.mean, found.moments.std))
    assert np.mean(null) == pytest.approx(np.mean(seen), rel=0.2)


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
def test_qq_slope_is_the_slope_of_a_probability_plot(kind):
    x = sample(kind, 50_000).float()
    found = value_histogram(x)
    assert found.kind == EXACT
    slope = qq_slope(found.values, found.counts, found.moments.mean, found.moments.std)
    _, (plain, _, r) = scipy.stats.probplot(x.double().numpy())
    assert slope == pytest.approx(plain / found.moments.std, rel=2e-3)
    assert slope == pytest.approx(r, rel=2e-3)
    assert slope > 0.999 if kind == "normal" else slope < 0.97
    w = scipy.stats.shapiro(x[:4000].double().numpy()).statistic
    part = value_histogram(x[:4000])
    assert qq_slope(part.values, part.counts, part.moments.mean, part.moments.std) ** 2 == pytest.approx(w, abs=3e-3)


@pytest.mark.parametrize("nu", [1.5, 3, 8, 30])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_student_nu_finds_the_degrees_of_freedom(nu, dtype):
    x = np.random.default_rng(0).standard_t(nu, 400_000) * 0.02 + 0.1
    found = value_histogram(torch.from_numpy(x).to(dtype))
    p1, p25, p75, p99 = (found.percentiles[i] for i in (1, 4, 6, 9))
    assert student_nu(p1, p25, p75, p99) == pytest.approx(nu, rel=0.05 if nu < 10 else 0.15)


def test_student_nu_against_the_maximum_of_the_likelihood():
    x = np.random.default_rng(1).standard_t(4, 20_000)
    found = value_histogram(torch.from_numpy(x).float())
    fitted, _, _ = scipy.stats.t.fit(x)
    assert student_nu(*(found.percentiles[i] for i in (1, 4, 6, 9))) == pytest.approx(fitted, rel=0.15)


def test_student_nu_at_its_ends():
    z = scipy.stats.norm.ppf([0.01, 0.25, 0.75, 0.99])
    assert student_nu(*z) == float("inf")
    assert student_nu(-1, -1, 1, 1) == float("inf")
    assert np.isnan(student_nu(-1, 0, 0, 1))
    assert student_nu(-1e60, -1, 1, 1e60) == 0.1


@pytest.mark.parametrize("value", [0.0, 1.25])
def test_without_spread_there_is_no_distance(value):
    found = value_histogram(torch.full((10,), value))
    assert np.isnan(distance(found))
    assert np.isnan(qq_slope(found.values, found.counts, value, 0.0))
    assert np.isnan(ks_distance_null(found.values, 10, found.kind, value, 0.0))


def test_nulls_of_outliers_are_the_normal_tails():
    quartile = scipy.stats.norm.ppf(0.75)
    for reach, null in ((1.5, OUTLIER_NULL), (3.0, EXTREME_NULL)):
        assert null == pytest.approx(2 * scipy.stats.norm.sf(quartile * (1 + 2 * reach)), rel=1e-5)


@pytest.mark.parametrize("n", [1, 100, 20_000])
def test_null_of_the_dynamic_range(n):
    draws = np.random.default_rng(0).standard_normal((400, n))
    simulated = np.median(np.abs(draws).max(axis=1)) / np.sqrt(2 / np.pi)
    assert dynamic_range_null(n) == pytest.approx(simulated, rel=0.1 if n == 1 else 0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("low", "high"), [(-0.03, 0.04), (0.0, 0.02), (-9, 9), (0.5, 0.6), (-0.0201, 0.0)])
def test_count_outside(dtype, low, high):
    tensor = sample("heavy", 100_000).to(dtype)
    tensor[:50] = 0
    found = value_histogram(tensor)
    x = tensor.double().numpy()
    counted = count_outside(found.values, found.counts, found.kind, low, high)
    true = ((x < low) | (x > high)).sum()
    assert counted == (true if found.kind == EXACT else pytest.approx(true, abs=25))
