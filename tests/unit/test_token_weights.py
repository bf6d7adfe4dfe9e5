"""Learned token weights against numpy and scipy, and what is planted in them."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from weight_atlas.settings.token_weights import Vector
from weight_atlas.token_weights.diagnoses import diagnoses, findings_of
from weight_atlas.token_weights.modes import two_modes
from weight_atlas.token_weights.pruning import pruned, pruning_study
from weight_atlas.token_weights.reading import TokenWeights
from weight_atlas.token_weights.shapes import shape_of
from weight_atlas.token_weights.statistics import statistics, statistics_by_set
from weight_atlas.token_weights.study import study
from weight_atlas.token_weights.token_table import class_columns, extreme_tokens, token_table

PERCENTILES = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)


def sample(kind, n=20_000, seed=0):
    random = np.random.default_rng(seed)
    return {
        "normal": lambda: 1 + 0.7 * random.normal(size=n),
        "norms": lambda: np.sqrt(random.chisquare(64, n)),
        "student 5": lambda: random.standard_t(5, n),
        "laplace": lambda: random.laplace(1, 0.3, n),
        "uniform": lambda: random.uniform(-2, 3, n),
        "exponential": lambda: random.exponential(size=n),
        "cauchy": lambda: random.standard_cauchy(n),
        "pareto": lambda: random.pareto(1.5, n),
        "two": lambda: np.concatenate([random.normal(size=n // 2), 4 + random.normal(size=n // 2)]),
        "uneven two": lambda: np.concatenate([random.normal(size=n // 10), 5 + random.normal(size=9 * n // 10)]),
        "constant": lambda: np.ones(n),
        "unmoved": lambda: 1 + 1e-4 * random.normal(size=n),
        "half at rest": lambda: np.where(random.random(n) < 0.6, 1.0, 1 + random.normal(size=n)),
        "some at rest": lambda: np.where(random.random(n) < 0.3, 1.0, 1 + random.normal(size=n)),
        "one far": lambda: np.append(random.normal(size=n - 1), 1e4),
    }[kind]()


@pytest.mark.parametrize("kind", ["normal", "cauchy", "uniform", "half at rest"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_statistics_are_numpys(kind, dtype):
    weights = sample(kind, 3001).astype(dtype).astype(float)
    found = statistics(weights)
    expected = {
        "mean": weights.mean(), "median": np.median(weights), "std": weights.std(), "min": weights.min(),
        "max": weights.max(), "mean_magnitude": np.abs(weights).mean(), "max_magnitude": np.abs(weights).max(),
        "skew": stats.skew(weights), "kurtosis": stats.kurtosis(weights), "sparsity": (np.abs(weights) < 0.01).mean(),
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert [found[f"p{q:g}".replace(".", "_")] for q in PERCENTILES] == pytest.approx(
        np.percentile(weights, PERCENTILES)
    )


def test_statistics_of_hard_vectors():
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1e300, -1e300, 0.01])
    found = statistics(odd)
    assert (found["n"], found["not_finite"], found["zeros"]) == (9, 3, 2)
    assert found["mean"] == pytest.approx(0.01 / 6, abs=1e290) and found["max_magnitude"] == 1e300
    assert found["sparsity"] == 3 / 6  # 0.01 itself is not below
    empty = statistics(np.empty(0))
    assert empty["n"] == 0 and math.isnan(empty["mean"]) and math.isnan(empty["sparsity"])
    assert statistics(np.array([2.5]))["p99_9"] == 2.5


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("exponent", [-1000, 1000])
def test_studies_of_very_large_and_very_small_weights_are_scaled_ones(exponent):
    """Everything that grows with the weights is that of weights near 1, times a power of two."""
    weights, factor = sample("normal", 500), 2.0**exponent
    near, far = (
        study(TokenWeights(each, None, "w"), Vector(source="w.npy"), None) for each in (weights, weights * factor)
    )
    for name in ("mean", "median", "std", "min", "max", "p0_1", "p95", "mean_magnitude", "max_magnitude"):
        assert far.statistics[name].tolist() == (near.statistics[name] * factor).tolist()
    for name in ("skew", "kurtosis"):
        assert far.statistics[name].tolist() == pytest.approx(near.statistics[name].tolist())
    healthy = far.diagnoses.set_index("diagnosis")["healthy"]["sparse"]
    assert healthy == pytest.approx(math.erf(0.01 / factor / weights.std() / math.sqrt(2)), abs=1e-12)


def test_the_null_of_sparsity_is_that_of_a_normal_sample():
    weights = np.random.default_rng(0).normal(0.02, 0.05, 400_000)
    found = statistics(weights)
    assert found["sparsity_null"] == pytest.approx(found["sparsity"], rel=0.02)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("normal", "Gaussian-like"), ("norms", "Gaussian-like"), ("student 5", "Gaussian-like"),
        ("laplace", "Gaussian-like"), ("uniform", "uniform"), ("exponential", "skewed"), ("cauchy", "heavy tail"),
        ("pareto", "heavy tail"), ("two", "bimodal"), ("uneven two", "bimodal"), ("constant", "delta spike"),
        ("unmoved", "delta spike"), ("half at rest", "delta spike"), ("some at rest", "Gaussian-like"),
        ("one far", "Gaussian-like"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scale", [1, 1e-6, 1e200])
def test_planted_shapes_are_told(kind, shape, scale):
    for seed in range(3):
        assert shape_of(scale * sample(kind, seed=seed), None).shape == shape, seed


def test_one_far_weight_is_no_tail_in_a_small_vocabulary():
    for seed in range(3):
        assert shape_of(sample("one far", 2000, seed), None).shape == "Gaussian-like"
        assert shape_of(sample("cauchy", 2000, seed), None).shape == "heavy tail"


def test_the_modes_are_where_they_were_planted():
    low, high, share = two_modes(np.sort(sample("uneven two")))
    assert (
        low == pytest.approx(0, abs=0.3) and high == pytest.approx(5, abs=0.1) and share == pytest.approx(0.1, abs=0.02)
    )
    assert two_modes(np.sort(sample("uniform"))) is None and two_modes(np.ones(300)) is None


def verdicts(weights, kept=None, initial=None):
    found, _ = diagnoses(weights, kept, initial)
    return {each.diagnosis for each in found if each.verdict == "yes"}


@pytest.mark.parametrize("kind", ["normal", "norms", "student 5", "uniform", "two", "laplace", "some at rest"])
def test_healthy_vectors_are_not_flagged(kind):
    for seed in range(3):
        assert verdicts(sample(kind, seed=seed), initial=1.0) == set()
        assert verdicts(sample(kind, seed=seed)) == set()


def test_planted_diseases_are_found():
    random = np.random.default_rng(0)
    n = 10_000
    assert "no learning" in verdicts(sample("unmoved"), initial=1.0)
    assert "no learning" in verdicts(np.ones(n)) and "no learning" in verdicts(1 + 2e-3 * random.random(n), initial=1.0)
    exploded = np.concatenate([random.normal(size=n - 60), 15 + random.random(30), 300 * random.normal(size=30)])
    assert {"explosion", "far outliers"} <= verdicts(exploded, initial=1.0)
    assert "over-regularised" in verdicts(0.003 * random.random(n), initial=1.0)
    assert "sparse" in verdicts(np.where(random.random(n) < 0.6, 0.0, random.normal(size=n)))
    assert "not finite" in verdicts(np.append(random.normal(size=n), np.nan))
    assert verdicts(np.append(random.normal(size=n), 1e3)) == {"far outliers"}
    assert {finding["grade"] for finding in findings_of(diagnoses(np.ones(n), None, 1.0)[0])} == {"critical", "notable"}


def test_most_tokens_unseen_is_no_explosion():
    """Of 70 % at the initial value the robust spread is zero: far is judged among those that moved."""
    random = np.random.default_rng(0)
    weights = np.where(random.random(20_000) < 0.7, 1.0, 1 + 0.7 * random.normal(size=20_000))
    assert verdicts(weights, initial=1.0) == {"unhealthy shape"}
    weights[0] = 60.0  # 84 standard deviations of those that moved
    assert verdicts(weights, initial=1.0) == {"unhealthy shape", "far outliers"}


def test_masked_tokens_are_no_disease():
    random = np.random.default_rng(0)
    kept = random.random(10_000) < 0.3
    weights = np.where(kept, 1 + 0.5 * random.normal(size=10_000), 0.0)
    assert verdicts(weights, kept, 1.0) == set()
    found, _ = diagnoses(weights, kept, 1.0)
    (sparse,) = [each for each in found if each.diagnosis == "sparse"]
    assert "dense" in sparse.evidence and "masked by design" in sparse.evidence


@pytest.mark.parametrize("weights", [[], [1.0], [np.nan], [0.0, 0.0], [np.inf, 1.0]])
def test_tiny_vectors_have_a_study(weights):
    weights = np.array(weights, dtype=float)
    found, shape = diagnoses(weights, None, None)
    assert shape.shape == "too few tokens" and found
    assert len(extreme_tokens(token_table(weights, None, None), 3)) == 2 * int(np.isfinite(weights).sum())
    assert len(pruning_study(token_table(weights, None, None))) == 14


def classes(texts):
    table = pd.DataFrame({"id": range(len(texts)), "token": texts, "text": texts, "special": False})
    return table.assign(digits=[text.strip().isdecimal() for text in texts])


def test_tokens_and_weights_are_joined_by_id(capsys):
    weights = np.array([3.0, 1.0, 2.0, 1.0])
    table = token_table(weights, np.array([True, True, False, True]), classes(["a", "7", "c"]))
    assert "3 ids, the vector 4 weights" in capsys.readouterr().out
    assert table["token"].tolist() == ["a", "7", "c", ""] and table["masked"].tolist() == [False, False, True, False]
    ends = extreme_tokens(table, 2)
    assert ends[ends["end"] == "highest"]["id"].tolist() == [0, 1]  # equal weights: the lower id first
    assert ends[ends["end"] == "lowest"]["id"].tolist() == [1, 3]
    by_set = statistics_by_set(table, class_columns(table)).set_index("tokens")["n"]
    assert by_set.to_dict() == {"all": 4, "kept": 3, "masked": 1, "digits": 1}
    assert len(token_table(weights[:2], None, classes(["a", "7", "c"]))) == 2


def test_pruning_sets_the_lowest_to_zero():
    random = np.random.default_rng(0)
    weights, counts = random.normal(size=1000), random.integers(0, 50, 1000)
    kept = random.random(1000) < 0.8
    for prune_by, size in (("magnitude", np.abs(weights)), ("weight", weights)):
        limit = np.percentile(size[kept], 25)
        expected = np.where(kept & (size >= limit), weights, 0.0)
        np.testing.assert_array_equal(pruned(weights, kept, 25, prune_by), expected)
        study = pruning_study(token_table(weights, kept, None).assign(count=counts))
        row = study[(study["prune_by"] == prune_by) & (study["percentile"] == 25)].iloc[0]
        stays = expected != 0
        assert row["tokens"] == (kept & ~stays).sum() and row["share"] == pytest.approx(0.25, abs=0.01)
        assert row["corpus"] == counts[stays].sum() / counts[kept].sum()
        assert row["weight"] == pytest.approx(np.abs(weights[stays]).sum() / np.abs(weights[kept]).sum())
        assert row["corpus_null"] == stays.sum() / kept.sum() and row["corpus_best"] >= row["corpus"]


def test_the_summary_is_of_the_tokens_that_are_kept():
    kept = np.arange(400) >= 100
    weights = np.where(kept, np.random.default_rng(0).normal(1, 0.2, 400), 0)
    found = study(TokenWeights(weights, kept, "w"), Vector(source="w.npy"), None)
    assert found.summary["mean"] == pytest.approx(weights[kept].mean())
    assert found.summary["min"] == weights[kept].min() and found.summary["masked"] == 100
    assert found.summary["dip"] < found.summary["dip_of_chance"]
