"""Impact tables: pairing by item, every metric in its own way, groups, and their figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import ttest_1samp

from weight_atlas.ablations.impact import (
    by_factor,
    headline_metric,
    headlines,
    impact_table,
    item_impact,
    window_impact,
)
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.ablation_impact import impact_panels
from weight_atlas.figures.ablation_scaling import scaling_curves
from weight_atlas.statistics.paired import document_differences, paired_difference, paired_p


def items(variant, values, *, task="t", metric="acc", weight=1.0, filter_="none"):
    values = np.asarray(values, float)
    return pd.DataFrame(
        {
            "variant": variant, "task": task, "filter": filter_, "metric": metric, "doc_id": np.arange(len(values)),
            "value": values, "weight": weight,
        }
    )  # fmt: skip


def impact(own, baseline, chance=None):
    return item_impact("t", own, baseline, chance or {"t": 0.25}, resamples=500, seed=0)


def test_accuracies_are_paired_by_document():
    before = items("baseline", [1] * 16 + [0] * 4)
    after = items("sw", [0] * 10 + [1] * 10).sample(frac=1, random_state=0)
    (row,) = impact(after, before).to_dict("records")
    assert (row["value"], row["baseline"], row["n"]) == (0.5, 0.8, 20)
    assert row["drop"] == pytest.approx(0.3) and row["severity"] == "severe"
    assert row["drop_low"] < 0.3 < row["drop_high"]
    assert (row["low"], row["high"]) == pytest.approx((0.299298, 0.700702), abs=1e-6)
    assert row["chance_corrected_drop"] == pytest.approx(0.3 / 0.55)
    # Ten items were lost and four won: the order of rows must not matter.
    assert row["p_value"] == pytest.approx(2 * sum(_binomial(14, k) for k in range(5)))


def _binomial(n, k):
    from math import comb

    return comb(n, k) / 2**n


def test_likelihoods_become_perplexities_per_word():
    words = np.array([10.0, 30.0, 20.0])
    before = items("baseline", -2.0 * words, metric="word_perplexity", weight=words)
    after = items("sw", -4.0 * words, metric="word_perplexity", weight=words)
    (row,) = impact(after, before).to_dict("records")
    assert row["value"] == pytest.approx(np.exp(4)) and row["baseline"] == pytest.approx(np.exp(2))
    assert row["ratio"] == pytest.approx(np.exp(2)) and row["delta_nll"] == pytest.approx(2)
    assert row["severity"] == "severe"
    (bits,) = impact(after.assign(metric="bits_per_byte"), before.assign(metric="bits_per_byte")).to_dict("records")
    assert bits["value"] == pytest.approx(4 / np.log(2))


def test_other_means_have_no_wilson_interval_and_no_chance():
    (row,) = impact(items("sw", [0.2, 0.4, 0.1], metric="f1"), items("baseline", [0.5, 0.9, 0.3], metric="f1")).to_dict(
        "records"
    )
    assert row["low"] <= row["value"] <= row["high"] and row["drop"] == pytest.approx(1 / 3)
    assert "chance" not in row or np.isnan(row["chance"])


def test_a_group_has_a_row_over_all_and_one_for_each_member():
    before = pd.concat([items("baseline", [1, 1, 1, 1], task="a"), items("baseline", [1, 0], task="b")])
    after = before.assign(variant="sw", value=[0, 1, 1, 1, 1, 0])
    table = impact(after, before, {"a": 0.25, "b": 0.5}).set_index("subtask")
    assert table.value.to_dict() == pytest.approx({"": 4 / 6, "a": 0.75, "b": 0.5})
    assert table.chance.to_dict() == pytest.approx({"": 2 / 6, "a": 0.25, "b": 0.5})
    spoken = headlines(table.reset_index())
    assert spoken.value.tolist() == pytest.approx([4 / 6]) and spoken.n.tolist() == [6]


def windows(variant, nats):
    return pd.DataFrame(
        {
            "variant": variant,
            "window": range(len(nats)),
            "document": range(len(nats)),
            "tokens": 10,
            "nll": np.array(nats) * 10.0,
        }
    )


def test_windows_become_paired_perplexities():
    baseline = windows("baseline", [2.0, 3.0, 4.0])
    table = window_impact("text", pd.concat([windows("a", [3.0, 4.0, 5.0]), windows("b", [2.0, 3.0, 4.0])]), baseline)
    a, b = table.to_dict("records")
    assert a["value"] == pytest.approx(np.exp(4)) and a["ratio"] == pytest.approx(np.e)
    assert (a["delta_nll_low"], a["delta_nll_high"]) == pytest.approx((1, 1))
    assert b["ratio"] == 1 and b["severity"] == "minimal"


def full_table():
    before = items("baseline", [1] * 18 + [0] * 2)
    text = windows("baseline", [2.0, 3.0, 4.0])
    parts = []
    names = [
        ("sw: zeroed", "zero", None, 0.4),
        ("sw: random 1", "random", None, 0.9),
        ("sw: random 2", "random", None, 0.85),
    ]
    names += [(f"scaling_sweep: x {f}", "scale", f, 0.3 + 0.2 * f) for f in (2.0, 0.0, 1.0)]
    for variant, kind, factor, share in names:
        record = [{"variant": variant, "kind": kind, "factor": factor}]
        own = items(variant, [1] * round(20 * share) + [0] * (20 - round(20 * share)))
        both = [window_impact("text", windows(variant, [4.0 - share] * 3), text), impact(own, before)]
        parts.append(impact_table(both, variant.partition(":")[0], record))
    base = [{"variant": "baseline", "kind": "baseline", "factor": None}]
    both = [window_impact("text", text, text), impact(before, before)]
    return pd.concat([impact_table(both, "baseline", base), *parts], ignore_index=True)


def test_headlines_and_curves():
    table = headlines(full_table())
    assert headline_metric(["f1", "acc", "acc_norm"]) == "acc_norm"
    assert set(table.metric) == {"perplexity", "acc"}
    curves = by_factor(table[table.ablation == "scaling_sweep"])
    assert curves.factor.tolist() == [0, 1, 2] * 2 and curves.task.tolist() == ["text"] * 3 + ["t"] * 3


def test_an_ablation_without_variants_has_a_table_without_rows(tmp_path):
    empty = impact_table([window_impact("text", windows("a", [1.0]).iloc[:0], windows("baseline", [1.0]))], "sw", [])
    write_table(tmp_path / "empty.csv", empty)
    read = read_table(tmp_path / "empty.csv")
    assert read.empty and list(read) == list(full_table())
    assert headlines(read).empty and by_factor(read).empty


def test_bounds_of_documents_are_those_of_the_bootstrap_around_the_baseline():
    rng = np.random.default_rng(0)
    words = rng.integers(5, 50, 30).astype(float)
    before, after = -2.0 * words + rng.normal(0, 3, 30), -3.0 * words + rng.normal(0, 3, 30)
    rows = (items(v, x, metric="word_perplexity", weight=words) for v, x in (("sw", after), ("baseline", before)))
    (row,) = impact(*rows).to_dict("records")
    drawn = np.random.default_rng(0).integers(30, size=(500, 30))
    rise = (before - after)[drawn].sum(1) / words[drawn].sum(1)
    low, high = np.quantile(rise, [0.025, 0.975])
    assert (row["delta_nll_low"], row["delta_nll_high"]) == pytest.approx((low, high))
    unchanged = -before.sum() / words.sum()
    assert (row["low"], row["high"]) == pytest.approx((np.exp(unchanged + low), np.exp(unchanged + high)))
    assert row["low"] < row["value"] < row["high"] and row["p_value"] == 1 / 500


def test_bounds_and_p_of_windows_are_students():
    before, after = np.array([2.0, 3.0, 4.0, 2.5]), np.array([2.3, 3.1, 4.6, 2.6])
    (row,) = window_impact("text", windows("a", after), windows("baseline", before)).to_dict("records")
    test = ttest_1samp(after - before, 0)
    interval = test.confidence_interval(0.95)
    assert row["p_value"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(np.exp(before.mean() + np.array([interval.low, interval.high])))
    (same,) = window_impact("text", windows("a", before), windows("baseline", before)).to_dict("records")
    assert same["p_value"] == 1
    tokens = np.array([5, 50, 20, 40])
    uneven = [
        windows(name, 1.0 * nats).assign(tokens=tokens, nll=nats * tokens)
        for name, nats in (("a", after), ("b", before))
    ]
    (row,) = window_impact("text", *uneven).to_dict("records")
    assert row["p_value"] == paired_p(*reversed(uneven)) != pytest.approx(test.pvalue)
    (one,) = window_impact("text", windows("a", [3.0]), windows("baseline", [2.0])).to_dict("records")
    assert np.isnan(one["p_value"])


def test_what_is_not_finite_has_no_value_and_says_so():
    text = windows("baseline", [2.0, 3.0, 4.0])
    (row,) = window_impact("text", windows("a", [2.0, np.inf, 4.0]), text).to_dict("records")
    assert row["severity"] == "not finite" and "value" not in row and row["baseline"] == pytest.approx(np.exp(3))
    before = items("baseline", [1.0, 0.0, 1.0])
    (row,) = impact(items("a", [np.nan] * 3), before).to_dict("records")
    assert row["severity"] == "not finite" and row["baseline"] == pytest.approx(2 / 3) and "drop" not in row
    pages = items("baseline", [-9.0, -8.0], metric="word_perplexity", weight=4.0)
    (row,) = impact(items("a", [np.nan] * 2, metric="word_perplexity", weight=4.0), pages).to_dict("records")
    assert row["severity"] == "not finite" and row["baseline"] == pytest.approx(np.exp(17 / 8)) and "ratio" not in row


def two_filters(variant, strict, lenient):
    shared = {"metric": "exact_match"}
    return pd.concat(
        [items(variant, strict, filter_="strict", **shared), items(variant, lenient, filter_="a", **shared)]
    )


def test_a_task_speaks_by_its_first_filter_alone():
    before = two_filters("baseline", [1, 1, 1, 0], [1, 1, 1, 1])
    baseline = impact_table(
        [impact(before, before)], "baseline", [{"variant": "baseline", "kind": "baseline", "factor": None}]
    )
    parts = []
    for number, factor in enumerate((0.0, 1.0)):
        own = two_filters(f"s: {factor}", [number, number, number, 0], [1, 1, 1, 1])
        record = [{"variant": f"s: {factor}", "kind": "random", "factor": factor}]
        parts.append(impact_table([impact(own, before)], "s", record))
    table = pd.concat([baseline, *parts], ignore_index=True)
    assert len(table) == 6
    spoken = headlines(table)
    assert spoken["filter"].unique().tolist() == ["strict"] and spoken.value.tolist() == [0.75, 0.0, 0.75]
    assert by_factor(pd.concat(parts)).value.tolist() == [0.0, 0.75]
    axis = impact_panels(spoken).axes[0]
    assert axis.get_xlabel().startswith("exact match, strict")
    # The band spans the random draws of the one filter.
    assert axis.patches[-1].get_width() == pytest.approx(0.75 / 1.06 + 0.016, abs=1e-3)
    assert "exact match, strict" in scaling_curves(by_factor(pd.concat(parts))).axes[0].get_legend().texts[0].get_text()
    plt.close("all")


def test_documents_are_what_is_resampled():
    """Windows of one document count once: the interval is that of the documents' means."""
    rng = np.random.default_rng(0)
    by_document = rng.normal(0.3, 0.2, 9)
    before, changes = rng.normal(3, 1, 36), np.repeat(by_document, 4) + rng.normal(0, 0.01, 36)
    pair = [
        windows(name, nats).assign(document=np.repeat(range(9), 4))
        for name, nats in (("baseline", before), ("a", before + changes))
    ]
    delta, low, high = paired_difference(*pair)
    means = changes.reshape(9, 4).mean(1)
    interval = ttest_1samp(means, 0).confidence_interval(0.95)
    assert (delta, low, high) == pytest.approx((means.mean(), interval.low, interval.high))
    alone = paired_difference(*(each.assign(document=range(36)) for each in pair))
    assert high - low > 1.5 * (alone[2] - alone[1])
    assert paired_p(*pair) == pytest.approx(ttest_1samp(means, 0).pvalue)
    differences, tokens = document_differences(*pair, ["nll"])
    assert differences["nll"] == pytest.approx(40 * means) and (tokens == 40).all()
