"""Token classes, enrichment against scipy and brute-force permutations, and the cards built from them."""

import cProfile
import json

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import torch

from weight_atlas.statistics.corrections import false_discovery_rates
from weight_atlas.vocabulary.enrichment import enrichment, examples, prepare_classes
from weight_atlas.vocabulary.neuron_cards import cards_table, correct_cards, neuron_cards
from weight_atlas.vocabulary.neurons import NeuronBlock
from weight_atlas.vocabulary.rank_sum import log_p_value
from weight_atlas.vocabulary.readout import Readout
from weight_atlas.vocabulary.token_classes import CLASSES, class_matrix, token_classes

TEXTS = {
    "7": "digits", "1999": "digits years", " 2050": "digits years leading_space", "2051": "digits", "1699": "digits",
    "٣": "digits", "v2": "", "(": "parentheses punctuation", " )]": "parentheses punctuation leading_space",
    " the": "leading_space function_words", "She": "capitalised pronouns function_words", "\n": "", " ": "",
    "...": "punctuation", "“Who": "capitalised", "ﬀ": "", "élan": "", "Élan": "capitalised", "+": "punctuation",
}  # fmt: skip


def test_classes_of_tokens():
    table = token_classes(["", *TEXTS, "<s>"], [None, *TEXTS, "<s>"], {len(TEXTS) + 1})
    for row, (text, wanted) in zip(table.iloc[1:-1].to_dict("records"), TEXTS.items(), strict=True):
        assert {name for name in CLASSES if row[name]} == set(wanted.split()), text
    names, matrix = class_matrix(table)
    assert not matrix[[0, -1]].any() and table.special.tolist() == [False] * (len(TEXTS) + 1) + [True]
    assert names == list(CLASSES)


@pytest.fixture(scope="module")
def tested():
    random = np.random.default_rng(1)
    V = 5000
    effects = random.standard_t(4, V)
    effects[100:200] = effects[200:300]  # ties
    matrix = np.zeros((V, 4), bool)
    matrix[random.choice(V, 40, replace=False), 0] = True
    matrix[np.argsort(effects)[-60:-20], 1] = True
    matrix[random.choice(V, 2500, replace=False), 2] = True
    ids = np.setdiff1d(np.arange(V), [3, 4])
    return effects, matrix, ids, prepare_classes(["few", "top", "many", "empty"], matrix, ids)


def test_scores_agree_with_scipy(tested):
    effects, matrix, ids, classes = tested
    table = enrichment(effects, classes).set_index("class")
    assert table.index.tolist() == ["few", "top", "many"]
    for name, column in zip(table.index, matrix.T, strict=False):
        inside, outside = effects[ids][column[ids]], effects[ids][~column[ids]]
        row = table.loc[name]
        assert row.tokens == len(inside)
        assert row.mean_difference == pytest.approx(inside.mean() - outside.mean())
        correlation = np.corrcoef(column[ids], effects[ids])[0, 1]
        assert row.score == pytest.approx(correlation**2)
        assert 10**row.log10_p == pytest.approx(row.p)
        statistic = scipy.stats.mannwhitneyu(inside, outside).statistic
        assert row.auc == pytest.approx(statistic / len(inside) / len(outside))


def test_p_values_agree_with_permuting(tested):
    effects, _, ids, classes = tested
    table = enrichment(effects, classes).set_index("class")
    random = np.random.default_rng(9)
    ranks = scipy.stats.rankdata(effects[ids]) - (len(ids) + 1) / 2
    for name in ("few", "many"):
        members = classes.members[classes.names.index(name)]
        null = np.array([random.permutation(ranks)[: len(members)].sum() for _ in range(4000)])
        slow = np.mean(np.abs(null) >= abs(ranks[members].sum()))
        assert table.p[name] == pytest.approx(slow, abs=0.04)


@pytest.mark.parametrize(("m", "n"), [(1, 40), (2, 30), (6, 25), (12, 12)])
def test_p_values_agree_with_counting_all_permutations(m, n):
    for u in range(m * n + 1):
        exact = scipy.stats.mannwhitneyu(*samples(m, n, u), method="exact").pvalue
        # The last points of the tail, where a fifth is lost, are the farthest from any approximation.
        last = exact < 1e-4 or min(u, m * n - u) < 3
        assert log_p_value(u, m, n) == pytest.approx(np.log(exact), abs=0.25 if last else 0.12 if m < 3 else 0.05), u


def samples(m, n, u):
    """m members and n others without ties, of which u pairs are won by the member."""
    above = np.array([min(n, max(0, u - n * k)) for k in range(m)])
    return above + np.arange(m, 0, -1) / (m + 2) - 0.5, np.arange(n).astype(float) + 0.5


@pytest.mark.parametrize(("m", "n"), [(1, 149_999), (110, 49_890), (1000, 149_000), (70_000, 80_000)])
def test_a_perfect_class_is_one_permutation_of_all(m, n):
    """Two in C(m + n, m), which no double holds."""
    exact = np.log(2) + scipy.special.gammaln([m + 1, n + 1]).sum() - scipy.special.gammaln(m + n + 1)
    assert log_p_value(m * n, m, n) == pytest.approx(exact, rel=1e-9)
    assert log_p_value(0, m, n) == log_p_value(m * n, m, n)
    with pytest.raises(ValueError, match="no U"):
        log_p_value(m * n + 1, m, n)


@pytest.mark.parametrize("size", [1, *(pytest.param(size, marks=pytest.mark.slow) for size in (4, 25, 300)), 2500])
def test_p_values_are_uniform_without_an_effect(size):
    """Whatever the distribution of effects, for small classes and large."""
    random = np.random.default_rng(size)
    matrix = np.zeros((6000, 1), bool)
    matrix[:size] = True
    classes = prepare_classes(["a"], matrix, np.arange(6000))
    p = np.array([enrichment(random.standard_cauchy(6000), classes).p[0] for _ in range(400)])
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(p < 0.05) < 0.09


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("digits", [110, 1000])
@pytest.mark.parametrize("V", [50_000, 150_000])
def test_digits_have_the_smallest_corrected_p_in_large_vocabularies(V, digits, shift):
    """A perfect small class against large ones, which a direction of digits also moves a little."""
    random = np.random.default_rng(V + digits)
    names = ["digits", "leading_space", "capitalised", "function_words"]
    matrix = np.zeros((V, 4), bool)
    matrix[:digits, 0] = True
    matrix[digits:, 1] = random.random(V - digits) < 0.5
    matrix[digits:, 2] = random.random(V - digits) < 0.25
    matrix[digits : digits + 300, 3] = True
    effects = random.standard_normal(V) + shift * matrix[:, 1] - shift * matrix[:, 2]
    effects[:digits] += 16
    table = enrichment(effects, prepare_classes(names, matrix, np.arange(V)))
    corrected = false_discovery_rates(np.log(10) * table.log10_p)
    assert table.auc[0] == 1 and corrected[0] < corrected[1:].min()
    assert np.exp(corrected[0]) < np.exp(corrected[1:]).min()


def test_constant_effects_are_not_enriched(tested):
    *_, classes = tested
    table = enrichment(np.ones(5000), classes)
    assert (table.score == 0).all() and (table.p == 1).all() and (table.auc == 0.5).all()


def test_examples_are_the_strongest_of_the_class(tested):
    effects, _, _, classes = tested
    up = examples(effects, classes, "many", True, 3)
    members = classes.ids[classes.members[2]]
    assert up.tolist() == members[np.argsort(-effects[members], kind="stable")[:3]].tolist()
    assert effects[examples(effects, classes, "many", False, 1)[0]] == effects[members].min()


@pytest.fixture(scope="module")
def cards():
    random = np.random.default_rng(4)
    words = [f" word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(600)]
    texts = ["<s>", *map(str, range(60)), *words, ",", "(", ")", "The", "they"]
    tokens = token_classes(texts, texts, {0})
    W_U = random.standard_normal((len(texts), 32))
    digits = W_U[tokens.digits].mean(0) * 3
    W_U[tokens.digits] += digits
    vectors = np.stack([digits, random.standard_normal(32), W_U[400]], axis=1)
    readout = Readout(torch.from_numpy(W_U).float(), False)
    names, matrix = class_matrix(tokens)
    classes = prepare_classes(names, matrix, np.arange(1, len(texts)))
    block = NeuronBlock(2, None, "", "down", torch.from_numpy(vectors).float())
    selected = pd.DataFrame({"layer": 2, "expert": pd.array([None] * 3, "Int64"), "component": "", "neuron": [0, 1, 2],
                             "label": "unclear", "norm": 1.0, "selected_by": "configured"})  # fmt: skip
    selected["super_weights"] = [[], [{"layer": 2, "row": 5, "column": 1, "expert_id": None}], []]
    made = [card for card, _ in neuron_cards(readout, [block], selected, tokens, classes, k=6)]
    return correct_cards(made), W_U, vectors


def test_a_direction_of_digits_is_enriched_for_digits(cards):
    made, *_ = cards
    records = {record["class"]: record for record in made[0]["enrichment"]}
    assert records["digits"]["p_adjusted"] == min(record["p_adjusted"] for record in records.values()) < 0.05
    others = [record["log10_p_adjusted"] for name, record in records.items() if name != "digits"]
    assert records["digits"]["log10_p_adjusted"] < min(others)
    assert made[0]["enrichment"][0]["class"] == "digits" and records["digits"]["auc"] > 0.95
    assert all(example.isdigit() for example in records["digits"]["examples"])


def test_cards_have_the_known_fields(cards):
    made, W_U, vectors = cards
    assert {
        "layer",
        "neuron",
        "moments",
        "moments_cos",
        "top_tokens_up",
        "top_tokens_down",
        "enrichment",
        "label",
    } <= set(made[0])
    assert {"var", "skew", "kurt"} <= set(made[0]["moments"])
    top = made[2]["top_tokens_up"]
    effects = W_U.astype(np.float32) @ vectors[:, 2].astype(np.float32)
    assert list(top[0]) == ["id", "tok", "str", "effect"]
    assert [token["id"] for token in top] == np.argsort(-effects)[:6].tolist()
    assert top[0]["id"] == 400
    weight = made[1]["super_weights"][0]
    assert weight["weight"] == pytest.approx(vectors[5, 1])
    assert weight["top_tokens_up"][0]["effect"] == pytest.approx((W_U[1:, 5] * vectors[5, 1]).max())
    table = cards_table([{"model": "m", **card} for card in made])
    assert table.top_tokens_up[2] == [token["str"] for token in top]
    assert table.top_class[0] == "digits" and table.super_weight_rows.tolist() == ["", "5", ""]
    json.dumps(made)


def test_a_large_vocabulary_is_sorted_once_for_all_classes(monkeypatch):
    """By what is called, which no other load on the machine changes."""
    random, sorts = np.random.default_rng(0), []
    sizes = (1100, 300, 60, 7000, 4500, 120, 3000, 500)
    argsort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda values: sorts.append(len(values)) or argsort(values))

    def calls(V: int) -> int:
        matrix = np.zeros((V, 8), bool)
        for column, size in enumerate(sizes):
            matrix[random.choice(V, size, replace=False), column] = True
        classes = prepare_classes(list("abcdefgh"), matrix, np.arange(V))
        profile, effects = cProfile.Profile(), random.standard_normal(V)
        sorts.clear()
        assert len(profile.runcall(enrichment, effects, classes)) == 8
        assert sorts == [V]
        return sum(entry.callcount for entry in profile.getstats())

    calls(15_000)  # imports, and what is kept
    assert calls(60_000) < 1.1 * calls(15_000)
