"""Values at a bound are told from the thin end of a tail, in exact types and in buckets."""

import numpy as np
import pytest
import torch

from weight_atlas.weights.statistics import at_bound
from weight_atlas.weights.value_histogram import value_histogram


def found(values, dtype=torch.float32):
    histogram = value_histogram(torch.tensor(values).to(dtype))
    return at_bound(histogram.values, histogram.counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_clipped_values_pile_up_and_tails_do_not(dtype):
    for seed in range(5):
        random = np.random.default_rng(seed)
        for values in (random.standard_normal(20_000), random.uniform(-1, 1, 20_000), random.standard_t(3, 20_000)):
            count, beside = found(values, dtype)
            assert count <= 4 * beside
        normal = random.standard_normal(20_000)
        for clipped in (normal.clip(-2, 2), normal.clip(None, 2.0), normal.clip(-1.5, None)):
            count, beside = found(clipped, dtype)
            assert count >= 16 and count > 4 * beside
            assert count >= (clipped == clipped.max()).sum() * 0.9 or count >= (clipped == clipped.min()).sum() * 0.9


def test_the_end_and_its_four_neighbours_are_counted():
    values, counts = np.arange(20.0), np.full(20, 3)
    counts[-1], counts[-5], counts[-6] = 50, 7, 1000
    assert at_bound(values, counts) == (50, 7)
    assert at_bound(-values[::-1], counts[::-1]) == (50, 7)


def test_a_handful_of_values_has_no_neighbours_to_compare_with():
    assert all(np.isnan(at_bound(np.arange(15.0), np.ones(15, dtype=int))))
    assert all(np.isnan(at_bound(np.array([]), np.array([], dtype=int))))
