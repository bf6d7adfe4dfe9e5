"""Labels at their thresholds, of populations and percentiles; token classes of a tokenizer."""

import numpy as np
import pandas as pd
import pytest
from live_models import word_tokenizer

from weight_atlas.errors import AtlasError
from weight_atlas.settings.vocabulary import NeuronLabels
from weight_atlas.vocabulary.labels import label_neurons, percentile_of, threshold_value
from weight_atlas.vocabulary.token_classes import read_token_classes, rows_with_tokens, text_tokens, token_classes

PLAIN = {"layer": 0, "skew": 0.0, "kurt": 3.0, "cos_var": 0.0, "norm": 1.0}
NEVER = {"entropy_cosine_variance": -1.0}


def labels(rows, n_layers=8, d_model=10_000, population=None, **thresholds):
    table = pd.DataFrame([{**PLAIN, **row} for row in rows])
    return label_neurons(
        table, NeuronLabels(**thresholds), n_layers=n_layers, d_model=d_model, population=population
    ).tolist()


def test_kurtosis_must_exceed_and_skew_decides():
    rows = [{"kurt": 10.0, "skew": 1.0}, {"kurt": 10.01, "skew": 1.0}, {"kurt": 10.01, "skew": -1.0}, {"kurt": 11.0}]
    assert labels(rows, **NEVER) == ["unclear", "prediction", "suppression", "suppression"]
    assert labels(rows, kurtosis=9.0, **NEVER)[0] == "prediction"
    # Kurtosis comes before cosines.
    assert labels([{"kurt": 11.0, "cos_var": 1.0}], **NEVER) == ["suppression"]


def test_partition_needs_twice_a_random_directions_variance():
    rows = [{"cos_var": 0.005}, {"cos_var": 0.0051}]
    assert labels(rows, **NEVER) == ["unclear", "partition"]
    assert labels([{"cos_var": 0.019}, {"cos_var": 0.021}], d_model=100, **NEVER) == ["unclear", "partition"]


def test_entropy_neurons_are_late_quiet_and_long():
    settings = {"entropy_cosine_variance": 0.001, "entropy_norm": 5.0}
    rows = [{"layer": layer, "cos_var": 0.001, "norm": 5.0} for layer in range(8)]
    assert labels(rows, **settings) == ["unclear"] * 6 + ["entropy"] * 2
    assert labels(rows, entropy_layers=0.5, **settings).count("entropy") == 4
    assert labels(rows, entropy_layers=0.01, **settings).count("entropy") == 1
    assert labels([{**rows[7], "norm": 4.9}], **settings) == ["unclear"]
    assert labels([{**rows[7], "cos_var": 0.0011}], **settings) == ["unclear"]


def test_norms_are_compared_within_their_layer():
    random = np.random.default_rng(0)
    rows = [{"layer": layer, "norm": (1 + 10 * layer) * norm} for layer in (6, 7) for norm in random.random(100)]
    found = np.array(labels(rows, entropy_cosine_variance=1.0))
    for layer in (slice(0, 100), slice(100, 200)):
        assert (found[layer] == "entropy").sum() == 5
        long = np.argsort([row["norm"] for row in rows[layer]])[-5:]
        assert (found[layer][long] == "entropy").all()


def test_percentiles_are_of_the_population():
    population = pd.DataFrame([{**PLAIN, "kurt": float(kurt)} for kurt in (*range(101), np.nan)])
    assert threshold_value("kurtosis", "p90", population) == 90
    row = [{"kurt": 50.0, "skew": 1.0}]
    assert labels(row, population=population, kurtosis="p90", **NEVER) == ["unclear"]
    assert labels(row, population=population, kurtosis="p40", **NEVER) == ["prediction"]
    # Without a population a neuron is compared with those given, and does not exceed itself.
    assert labels(row, kurtosis="p40", **NEVER) == ["unclear"]
    # A layer that the population does not have has no limit that could be reached.
    late = [{"layer": 7, "norm": 1e9}]
    assert labels(late, population=population, entropy_cosine_variance=1.0) == ["unclear"]
    assert labels(late, entropy_cosine_variance=1.0) == ["entropy"]


@pytest.mark.parametrize("threshold", ["p101", "p-1", "90", "px", "high"])
def test_what_is_no_percentile(threshold):
    with pytest.raises(AtlasError, match="no threshold"):
        percentile_of("kurtosis", threshold)


def test_the_ends_of_percentiles():
    assert [percentile_of("kurtosis", each) for each in ("p0", "p99.5", "p100", 7.0)] == [0.0, 99.5, 100.0, None]


def test_special_tokens_of_a_tokenizer_are_in_no_class():
    tokenizer = word_tokenizer(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["9999"]})
    tokenizer.add_tokens(["1234"])
    texts = [*(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))), "", ""]
    table = read_token_classes(tokenizer, texts)
    assert set(table.token[table.special]) == {"<pad>", "<s>", "</s>", "<unk>", "9999"}
    assert table.token[table.digits].tolist() == ["1234"]
    # Ids that pad an embedding have no token, and are neither tested nor listed.
    n = len(tokenizer)
    assert rows_with_tokens(table, n + 2).tolist() == list(range(n))
    assert rows_with_tokens(table, 7).tolist() == list(range(7))
    listed = text_tokens(table)
    assert not listed[[0, 1, 2, 3, n, n + 1]].any() and listed.sum() == n - 5
    # A vocabulary larger than the model's leaves the rest out.
    assert len(read_token_classes(tokenizer, texts[:6])) == 6


def test_edges_of_classes():
    words = ["1700", "2050", "01999", "199", "ǅ", " ", "\tx", "THE", "He", "€", "(a)", "12"]
    table = token_classes(words, [*words[:-1], None], set())
    members = {name: set(table.text[table[name]]) for name in ("years", "capitalised", "leading_space", "punctuation")}
    assert members["years"] == {"1700", "2050"}
    assert members["capitalised"] == {"ǅ", "THE", "He"}
    assert members["leading_space"] == set() and members["punctuation"] == {"€"}
    assert table.text[table.pronouns].tolist() == ["He"] and table.text[table.function_words].tolist() == ["THE", "He"]
    assert not table.iloc[-1, 4:].any()


def test_untrained_tokens_are_in_no_list_unless_all_are():
    words = ["a", "b", "c", "d"]
    table = token_classes(words, [*words[:-1], None], {0}, {1, 3})
    assert table["untrained"].tolist() == [False, True, False, True]
    assert rows_with_tokens(table, 4).tolist() == [0, 2] and text_tokens(table).tolist() == [False, False, True, False]
    whole = token_classes(words, list(words), {0}, {1, 2, 3})
    assert not whole["untrained"].any() and rows_with_tokens(whole, 4).tolist() == [0, 1, 2, 3]
