"""Factors on perplexity: no overflow, and powers of ten in words."""

import math

from weight_atlas.ratios import ratio_of, times, written


def test_a_ratio_is_exact_and_infinite_where_float64_ends():
    assert ratio_of(0.5088) == math.exp(0.5088)
    assert 1e308 < ratio_of(709.7) < math.inf == ratio_of(710.0) == ratio_of(1e9)
    assert ratio_of(-1e4) == 0.0
    assert math.isnan(ratio_of(math.nan))


def test_factors_in_words():
    told = {0.0: "1", 0.5088: "1.663", math.log(99.96): "99.96", math.log(5614): "5,614", 295.739: "10^128"}
    assert {nats: times(nats) for nats in told} == told
    assert times(1000.0) == "10^434" and times(1.59e36) == "10^(6.9e+35)"
    assert times(math.inf) == "an infinite number" and times(math.nan) == "a number that is not finite"
    assert written(4.25e140) == "10^141" and written(math.inf) == "more than 10^308"
