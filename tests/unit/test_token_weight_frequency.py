"""Weights beside counts, and over checkpoints, against scipy and loops."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from weight_atlas.errors import AtlasError
from weight_atlas.natural_order import natural
from weight_atlas.settings.token_weights import Counted, Evolution
from weight_atlas.token_weights import frequency
from weight_atlas.token_weights.beside_counts import beside_counts, counts_in
from weight_atlas.token_weights.checkpoints import followed
from weight_atlas.token_weights.choices import checkpoint_files
from weight_atlas.token_weights.evolution import evolution, ks_distance, labels_of, most_moved, trend
from weight_atlas.token_weights.languages import languages_of
from weight_atlas.token_weights.token_table import token_table

RANDOM = np.random.default_rng(0)
V = 600
COUNTS = (RANDOM.zipf(1.4, V) - 1).clip(0, 10**7)
WEIGHTS = 1 + 0.3 * np.log1p(COUNTS) + RANDOM.normal(size=V)
KEPT = RANDOM.random(V) < 0.9


def beside(weights=WEIGHTS, kept=KEPT, counts=COUNTS, **settings):
    return beside_counts(token_table(weights, kept, None), counts, Counted(**settings))


def test_correlations_are_scipys():
    found = beside().correlations.set_index(["tokens", "measure"])
    for name, used in (("all", np.ones(V, bool)), ("kept", KEPT), ("seen", KEPT & (COUNTS > 0))):
        w, c = WEIGHTS[used], COUNTS[used]
        for measure, expected in (
            ("pearson", stats.pearsonr(np.log1p(c), w)),
            ("spearman", stats.spearmanr(c, w)),
            ("kendall", stats.kendalltau(c, w)),
        ):
            row = found.loc[(name, measure)]
            assert (row["value"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-6)
            assert row["n"] == used.sum()


@pytest.mark.slow
def test_chance_is_what_unrelated_numbers_reach():
    values = {"pearson": [], "spearman": [], "kendall": []}
    for _ in range(400):
        table = token_table(RANDOM.normal(size=80), None, None).assign(count=RANDOM.integers(0, 10**6, 80))
        found = frequency.correlations(table)
        for row in found[found["tokens"] == "all"].itertuples():
            values[row.measure].append(abs(row.value) > row.chance)
    for measure, beyond in values.items():
        assert np.mean(beyond) == pytest.approx(0.05, abs=0.03), measure


@pytest.mark.parametrize(
    ("value", "chance", "word"),
    [
        (0.51, 0.01, "expected"), (0.5, 0.01, "moderate"), (0.2, 0.01, "moderate"), (0.19, 0.01, "weak"),
        (0.0, 0.01, "within chance"), (-0.009, 0.01, "within chance"), (-0.011, 0.01, "negative"),
        (0.9, 0.98, "within chance"), (math.nan, 0.98, "constant"), (math.nan, math.nan, "fewer than three"),
    ],
)  # fmt: skip
def test_readings(value, chance, word):
    assert word in frequency.reading(value, chance)


@pytest.mark.parametrize("vectors", [([1.0, 2, 3], [math.nan] * 3), ([math.inf] * 3, [1.0, 2, 3])])
def test_a_run_that_ends_or_begins_without_numbers_has_no_trend(vectors):
    found = trend(evolution([*map(np.array, vectors)], ["a", "b"], 1.0), 1.0)
    assert (found["mean"], found["spread"]) == ("unknown", "unknown")
    assert "unknown" in found["reading"] and "no weight is a number" in found["reading"]
    assert [each["grade"] for each in found["findings"]] == ["critical"]


def test_bins_are_means_of_ranges_of_counts():
    found = beside().bins.set_index("counts")
    for name, low, high in (("0", 0, 1), ("1-9", 1, 10), ("10-99", 10, 100), ("10k+", 10_000, math.inf)):
        inside = WEIGHTS[KEPT & (low <= COUNTS) & (high > COUNTS)]
        row = found.loc[name]
        assert row["n"] == len(inside)
        if len(inside):
            assert (row["mean"], row["std"]) == pytest.approx((inside.mean(), inside.std()))
            assert row["error"] == pytest.approx(inside.std() / len(inside) ** 0.5)


def test_outliers_are_heavy_and_rare():
    found = beside(threshold=3, outliers=5)
    high = np.percentile(WEIGHTS[KEPT], 75)
    expected = [i for i in range(V) if KEPT[i] and WEIGHTS[i] > high and COUNTS[i] < 3]
    assert found.summary["outliers"] == len(expected)
    assert found.outliers["id"].tolist() == sorted(expected, key=lambda i: -WEIGHTS[i])[:5]


def test_divergence_is_of_ranks():
    """Two far counts would bring all scaled values but theirs to zero; ranks keep their differences."""
    found = beside(divergent=10).divergence
    ids = np.flatnonzero(KEPT)
    gap = (stats.rankdata(COUNTS[ids]) - stats.rankdata(WEIGHTS[ids])) / len(ids)
    order = sorted(range(len(ids)), key=lambda i: (-abs(gap[i]), ids[i]))[:10]
    assert found["id"].tolist() == ids[order].tolist()
    assert found["divergence"].tolist() == pytest.approx(gap[order].tolist())
    assert found["divergence"].abs().between(0, 1).all()


def test_recommendations_count_what_a_mask_takes():
    found = beside(threshold=7)
    assert found.recommendations["threshold"].tolist() == [1, 5, 7, 10, 50, 100]
    for row in found.recommendations.itertuples():
        below = row.threshold > COUNTS
        assert row.tokens == below.sum() and row.share == below.mean() and row.occurrences == COUNTS[below].sum()
        assert row.share_of_corpus == pytest.approx(COUNTS[below].sum() / COUNTS.sum())
        assert (row.combined_weight, row.mean_weight) == pytest.approx((WEIGHTS[below].sum(), WEIGHTS[below].mean()))
        assert row.chosen == (row.threshold == 7)
    np.testing.assert_array_equal(found.mask, (COUNTS >= 7) & KEPT)


def test_seen_and_unseen_tokens_are_apart():
    found = beside().statistics.set_index("tokens")
    assert found.loc["unseen", "mean"] == pytest.approx(WEIGHTS[KEPT & (COUNTS == 0)].mean())
    assert found.loc["seen", "n"] + found.loc["unseen", "n"] == found.loc["kept", "n"] == KEPT.sum()


def test_the_line_is_numpys():
    slope, intercept = np.polyfit(np.log1p(COUNTS[KEPT]), WEIGHTS[KEPT], 1)
    assert beside().line == pytest.approx((slope, intercept))


def test_counts_of_another_length_are_said_and_no_crash(capsys):
    longer = beside(counts=np.append(COUNTS, [5, 7]))
    assert "12 occurrences of ids without a weight are left out" in capsys.readouterr().out
    assert longer.tokens["count"].tolist() == COUNTS.tolist() and longer.summary["counted_ids"] == V + 2
    assert any("counts of 602 ids" in finding["text"] for finding in longer.summary["findings"])
    shorter = beside(counts=COUNTS[:-100])
    assert shorter.tokens["count"].tolist() == COUNTS[:-100].tolist() + [0] * 100


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([], []), ([1.0], [3]), ([1.0, 1.0, 1.0], [1, 2, 3]), ([1.0, 2.0, 3.0], [0, 0, 0]),
        ([np.nan, np.inf, 1.0], [1, 2, 3]),
    ],
)  # fmt: skip
def test_small_and_odd_vectors(weights, counts):
    found = beside(np.array(weights, float), None, np.array(counts, np.int64))
    assert "not defined" in found.summary["reading"]


def test_huge_weights_have_correlations():
    found = beside(WEIGHTS * 1e300).correlations
    assert found["value"].tolist() == pytest.approx(beside().correlations["value"].tolist())


def test_counts_of_npy_files(tmp_path):
    for shape in ((V,), (V, 1), (1, V)):
        np.save(tmp_path / "c.npy", COUNTS.reshape(shape).astype(np.int64))
        np.testing.assert_array_equal(counts_in(tmp_path / "c.npy"), COUNTS)
    for wrong in (np.array([-1, 2]), np.array([0.5]), np.array([np.nan]), np.zeros((3, 2)), np.array(3)):
        np.save(tmp_path / "c.npy", wrong)
        with pytest.raises(AtlasError):
            counts_in(tmp_path / "c.npy")


def test_names_with_numbers_are_in_natural_order():
    names = ["step_10", "step_9", "step_900", "epoch_1", "step_2b", "step_2"]
    assert sorted(names, key=natural) == ["epoch_1", "step_2", "step_2b", "step_9", "step_10", "step_900"]


def run(tmp_path, steps=(500, 1000, 5000, 20000), grow=True):
    moves = RANDOM.normal(size=V)
    moves -= moves.mean()
    for step in steps:
        np.save(tmp_path / f"checkpoint_step_{step}.npy", 1 + moves * (step / 20000 if grow else 0))
    np.save(tmp_path / "last.npy", 1 + 1.1 * moves * grow)
    return moves


def test_checkpoints_are_in_their_order(tmp_path):
    run(tmp_path)
    names = ("checkpoint_*.npy", "last.npy", "gone.npy")
    found = checkpoint_files([str(tmp_path / name) for name in names])
    stems = [path.stem for path in found]
    assert stems == [*(f"checkpoint_step_{step}" for step in (500, 1000, 5000, 20000)), "last", "gone"]
    assert labels_of(found[:4]) == ["500", "1000", "5000", "20000"] and labels_of(found[:1]) == ["checkpoint_step_500"]


def test_a_run_that_learns(tmp_path):
    moves = run(tmp_path)
    settings = Evolution(checkpoints=[str(tmp_path / "checkpoint_*"), str(tmp_path / "last.npy")], initial=1.0, moved=3)
    found = followed(token_table(np.ones(V), KEPT, None), settings)
    assert found.course["checkpoint"].tolist()[:2] == ["checkpoint_step_500", "checkpoint_step_1000"]
    for row, factor in zip(found.course.itertuples(), (0.025, 0.05, 0.25, 1, 1.1), strict=True):
        assert (row.mean, row.std) == pytest.approx(((1 + moves * factor)[KEPT].mean(), (moves * factor)[KEPT].std()))
    assert (found.summary["mean"], found.summary["spread"]) == ("stable", "grows")
    assert "as expected" in found.summary["reading"] and not found.summary["findings"]
    ids = np.flatnonzero(KEPT)
    expected = ids[np.argsort(-np.abs(moves[ids]))[:3]]
    assert found.moved["id"].tolist() == np.repeat(expected, 5).tolist()


def test_distances_of_checkpoints_are_scipys():
    vectors = [RANDOM.normal(size=V) * scale for scale in (0.5, 1, 2)]
    course = evolution(vectors, ["a", "b", "c"], None)
    for before, name in ((1, "spearman_previous"), (0, "spearman_first")):
        assert course.loc[2, name] == pytest.approx(stats.spearmanr(vectors[before], vectors[2]).statistic)
    assert course.loc[2, "ks_first"] == pytest.approx(stats.ks_2samp(vectors[0], vectors[2]).statistic)
    assert course.loc[1, "moved_previous"] == pytest.approx(np.abs(vectors[1] - vectors[0]).mean())
    equal = np.round(vectors[0] * 2)
    assert ks_distance(equal, equal[::-1] + 0.5) == pytest.approx(stats.ks_2samp(equal, equal + 0.5).statistic)


@pytest.mark.parametrize(
    ("vectors", "mean", "spread"),
    [
        ([np.ones(9), np.ones(9)], "stable", "stays"),
        ([np.ones(9), np.arange(9) / 4], "stable", "grows"),
        ([np.arange(9) / 4, np.ones(9)], "stable", "shrinks"),
        ([np.arange(9.0), 3 + np.arange(9.0)], "rises", "stays"),
        ([np.arange(9.0), np.arange(9.0) * 2 - 8], "falls", "grows"),
    ],
)
def test_readings_of_trends(vectors, mean, spread):
    found = trend(evolution(vectors, ["a", "b"], 1.0), 1.0)
    assert (found["mean"], found["spread"]) == (mean, spread)
    assert ("as expected" in found["reading"]) == ((mean, spread) == ("stable", "grows"))
    assert bool(found["findings"]) == ((mean, spread) != ("stable", "grows"))


def test_odd_checkpoints():
    course = evolution([np.ones(3), np.array([np.nan, 1.0, 2.0])], ["a", "b"], None)
    assert "checkpoint b" in trend(course, None)["findings"][0]["text"]
    moved = most_moved([np.ones(3), np.array([np.nan, 1.0, 2.0])], np.arange(3), ["x", "y", "z"], ["a", "b"], 2)
    assert moved["token"].tolist() == ["z", "z", "y", "y"]
    assert len(evolution([np.empty(0)], ["a"], 1.0)) == 1


def test_a_checkpoint_of_another_vocabulary(tmp_path):
    np.save(tmp_path / "c.npy", np.ones(V + 1))
    with pytest.raises(AtlasError, match="601 weights, where the vector has 600"):
        followed(token_table(np.ones(V), None, None), Evolution(checkpoints=[str(tmp_path / "c.npy")]))
    with pytest.raises(AtlasError, match="does not exist"):
        followed(token_table(np.ones(V), None, None), Evolution(checkpoints=[str(tmp_path / "d*.npy")]))


def test_tables_hold_no_index():
    found = beside()
    for table in (found.outliers, found.divergence, found.bins, found.recommendations):
        assert isinstance(table, pd.DataFrame) and "index" not in table


def test_a_token_is_of_the_language_that_has_most_of_it():
    """Against a loop over tokens; a token of which no group has more than half is of none."""
    groups = ["de", "en", "fr"]
    table = RANDOM.integers(0, 4, (3, V))
    long = pd.DataFrame(
        [(groups[row], token, table[row, token]) for row in range(3) for token in range(V) if table[row, token]],
        columns=["group", "id", "count"],
    )
    expected = [
        next((g for g, n in zip(groups, column, strict=True) if 2 * n > column.sum()), "") for column in table.T
    ]
    assert languages_of(long, V).tolist() == expected and languages_of(long, V - 9).tolist() == expected[:-9]
    assert languages_of(long[long["group"] == "de"], V) is None
    found = beside_counts(token_table(WEIGHTS, KEPT, None), table.sum(0), Counted(best=4), long)
    for group in groups:
        ids = [i for i in range(V) if expected[i] == group and KEPT[i]]
        own = found.languages[found.languages["language"] == group]
        assert own["id"].tolist() == sorted(ids, key=lambda i: -WEIGHTS[i])[:4] and own["rank"].tolist() == [1, 2, 3, 4]
    assert beside().languages.empty and "language" not in beside().tokens
