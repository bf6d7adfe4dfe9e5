"""Two modes and the dip: against linear programming over unimodal distributions, and planted shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from weight_atlas.token_weights.dip import dip
from weight_atlas.token_weights.modes import DIP, two_modes

RANDOM = np.random.default_rng(0)


def least_distance(numbers):
    """Of all functions that are convex up to a mode and concave from there, the least distance to the sample's.

    Between numbers the nearest one is straight, but beside the mode, where it may rise as steeply as it likes: that is
    the one variable more, its height on the other side of the number at the mode. The last variable is the distance.
    """
    values, counts = np.unique(numbers, return_counts=True)
    upper = np.cumsum(counts) / len(numbers)
    lower = upper - counts / len(numbers)
    size, best = len(values), 1.0
    for mode in range(size):
        for after in (True, False):
            left = [*range(mode + 1)] if after else [*range(mode), size]
            right = [size, *range(mode + 1, size)] if after else [*range(mode, size)]
            rows, limits = [], []

            def below(limit, *terms, rows=rows, limits=limits):
                row = np.zeros(size + 2)
                for variable, factor in terms:
                    row[variable] += factor
                rows.append(row)
                limits.append(limit)

            beside = upper[mode] if after else lower[mode]
            for variable, least, most in [*zip(range(size), upper, lower, strict=True), (size, beside, beside)]:
                below(most, (variable, 1), (size + 1, -1))
                below(-least, (variable, -1), (size + 1, -1))
            for sign, points in ((1, left), (-1, right)):
                for a, b, c in zip(points, points[1:], points[2:], strict=False):
                    x, y, z = (values[mode if point == size else point] for point in (a, b, c))
                    first, second = sign / (y - x), sign / (z - y)
                    below(0, (b, first + second), (a, -first), (c, -second))
            for a, b in zip(left + right, (left + right)[1:], strict=False):
                below(0, (a, 1), (b, -1))
            found = linprog([*[0] * (size + 1), 1], np.array(rows), limits, bounds=(0, 1))
            best = min(best, found.fun) if found.status == 0 else best
    return best


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30) | st.floats(0, 30, width=16), min_size=1, max_size=9))
def test_the_dip_is_the_distance_to_the_nearest_distribution_of_one_mode(numbers):
    assert dip(np.sort(numbers)) == pytest.approx(least_distance(numbers), abs=1e-9)


def test_dips_that_are_known():
    assert dip(np.array([])) == 0 and dip(np.array([3.0])) == 0.5
    assert dip(np.arange(100.0)) == 1 / 200
    assert dip(np.repeat([0.0, 1.0], 50)) == 0.25
    numbers = np.sort(RANDOM.normal(size=500))
    assert dip(numbers) == dip(3 * numbers - 1) == pytest.approx(dip(-numbers[::-1]), rel=1e-12)


def test_the_limit_of_the_dip_is_above_that_of_uniform_samples():
    dips = np.array([dip(np.sort(RANDOM.random(400))) for _ in range(2000)]) * 20
    assert (dips > DIP).mean() < 0.002
    assert np.median(dips) > 0.3


def mixture(n, apart, share, random):
    return np.where(random.random(n) < share, apart, 0.0) + random.normal(size=n)


@pytest.mark.parametrize(
    ("n", "apart", "share"), [(300, 4.5, 0.5), (2000, 3.3, 0.5), (2000, 5.5, 0.1), (32000, 4, 0.2)]
)
def test_planted_modes_of_like_and_of_unlike_weight_are_found(n, apart, share):
    found = [two_modes(np.sort(mixture(n, apart, share, np.random.default_rng(seed)))) for seed in range(12)]
    assert sum(each is not None for each in found) >= 11
    low, high, below = np.median([each for each in found if each is not None], axis=0)
    assert abs(low) < 0.3 and abs(high - apart) < 0.35 and abs(below - (1 - share)) < 0.05


@pytest.mark.parametrize("name", ["normal", "laplace", "exponential", "uniform", "logistic", "rayleigh"])
def test_samples_of_one_mode_have_one(name):
    for n in (300, 2000, 20000):
        for seed in range(8):
            assert two_modes(np.sort(getattr(np.random.default_rng(seed), name)(size=n))) is None


def test_the_dip_finds_modes_that_the_counts_alone_do_not(monkeypatch):
    samples = [np.sort(mixture(300, 4, 0.5, np.random.default_rng(seed))) for seed in range(30)]
    found = sum(two_modes(sample) is not None for sample in samples)
    monkeypatch.setattr("weight_atlas.token_weights.modes.DIP", np.inf)
    assert found > sum(two_modes(sample) is not None for sample in samples)
