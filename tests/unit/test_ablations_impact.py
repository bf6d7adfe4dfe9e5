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
from weight_atlas.ablations.quantization_errors import scheme_table
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.ablation_axes import log_axis, readable, style_of
from weight_atlas.figures.ablation_impact import impact_panels, model_panels
from weight_atlas.figures.ablation_quantization import plain_against_sparing
from weight_atlas.figures.ablation_scaling import knee, scaling_curves
from weight_atlas.interventions.changes import Quantized
from weight_atlas.live.anatomy import Coordinate
from weight_atlas.quantization.quantizers import Scheme
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


def texts(figure):
    return " | ".join(text.get_text() for axis in figure.axes for text in axis.texts)


def test_figures_show_every_ablation_and_its_worst_value():
    table = headlines(full_table())
    figure = impact_panels(table)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["text", "t"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["sw: random instead", "sw: zeroed", "unchanged"]
    assert "0.400" in texts(figure) and "0.850" in texts(figure) and "0.900" in texts(figure)
    figure = scaling_curves(by_factor(table[table.ablation == "scaling_sweep"]))
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]
    figure = model_panels(pd.concat([table.assign(model="a"), table.assign(model="b")]))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    plt.close("all")


def test_figures_of_models_without_super_weights_say_so():
    table = headlines(full_table())
    nothing = table[table.kind == "baseline"]
    for figure in (impact_panels(nothing), scaling_curves(nothing.iloc[:0]), model_panels(nothing.assign(model="a"))):
        assert "o super weights were detected" in texts(figure)
    plt.close("all")


def test_schemes_pair_the_error_with_the_cost():
    place = Coordinate(1, 2, 3)
    plain, sparing = "q: int4 per tensor", "q: int4 per tensor, sparing"
    schemes = {
        plain: Quantized(Scheme("int4"), (), "all"),
        sparing: Quantized(Scheme("int4", clip=3.0), (place,), "all"),
    }
    errors = pd.DataFrame(
        {
            "variant": [plain] * 2 + [sparing] * 2, "relative_error": [0.5, 0.1, 0.2, 0.1], "bits": 4.0,
            "squared_error": [9.0, 1.0, 4.0, 0.0], "energy": [36.0, 64.0] * 2,
        }
    )  # fmt: skip
    text = windows("baseline", [2.0, 3.0, 4.0])
    records = [{"variant": name, "kind": "quantize", "factor": None} for name in schemes]
    costs = pd.concat([windows(plain, [3.0, 4.0, 5.0]), windows(sparing, [2.1, 3.0, 4.0])])
    table = scheme_table(errors, impact_table([window_impact("text", costs, text)], "q", records), schemes)
    assert table.relative_error.tolist() == pytest.approx([0.1**0.5, 0.2])
    assert table.worst_matrix.tolist() == [0.5, 0.2] and table.sparing.tolist() == [False, True]
    assert set(table.plain) == {"int4 per tensor"}
    figure = plain_against_sparing(table)
    assert f"{readable(np.exp(4))} → " in texts(figure) and "0.316 → 0.200" in texts(figure)
    plt.close("all")


def test_readable_numbers():
    numbers = (1.0, 48.625, 9999, 863518.5, 2.8e10, np.inf, np.nan)
    expected = ["1", "48.62", "9,999", "863,518", "2.8·10$^{10}$", "infinite", "not finite"]
    assert [readable(x) for x in numbers] == expected
    assert len({style_of(number) for number in range(56)}) == 56


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


def test_not_finite_and_impossible_variants_are_shown(tmp_path):
    text = windows("baseline", [2.0, 3.0, 4.0])
    records = [{"variant": f"sw: x {f}", "kind": "scale", "factor": f} for f in (0.5, np.inf)]
    scores = pd.concat([windows("sw: x 0.5", [2.5, 3.0, 4.0]), windows("sw: x inf", [np.inf] * 3)])
    reason = {"variant": "sw: experts", "kind": "experts", "reason": "none lies in an expert"}
    mine = impact_table([window_impact("text", scores, text)], "sw", records, [reason, reason])
    assert mine.severity.tolist() == ["mild", "not finite", "no variants"]
    assert mine.note.tolist()[2] == "none lies in an expert" and mine.ablation.unique().tolist() == ["sw"]
    base = impact_table(
        [window_impact("text", text, text)], "baseline", [{"variant": "baseline", "kind": "baseline", "factor": None}]
    )
    write_table(tmp_path / "t.csv", pd.concat([base, mine], ignore_index=True))
    table = headlines(read_table(tmp_path / "t.csv"))
    shown = texts(impact_panels(table))
    assert "not finite, worst of 2" in shown and "no variants" in shown
    assert "not finite" in texts(model_panels(table.assign(model="m")))
    alone = impact_table([], "sw", [], [reason])
    nothing = impact_panels(headlines(pd.concat([base, alone], ignore_index=True)))
    assert "none lies in an expert" in texts(nothing)
    assert by_factor(mine).factor.tolist() == [0.5, np.inf]
    scaling_curves(by_factor(mine))
    plt.close("all")


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


def test_the_knee_is_the_last_factor_of_an_unbroken_run_near_the_unchanged_model():
    curve = pd.DataFrame({"factor": [0, 0.2, 0.4, 0.5, 1, 2], "ratio": [9.0, 1.05, 1.3, 1.08, 1.0, 5.0]})
    assert knee(curve).factor == 0.5
    assert knee(curve[curve.factor > 1]) is None
    assert knee(curve.assign(ratio=2.0)) is None


def test_every_curve_is_drawn_with_its_interval():
    row = {"value": 0.5, "low": 0.4, "high": 0.6, "baseline": 0.5, "chance": 0.25, "filter": "none"}
    table = pd.DataFrame(
        [{"task": f"t{n}", "metric": "acc", "factor": f, "ratio": np.nan, **row} for n in range(12) for f in (0, 1)]
        + [
            {"task": f"p{n}", "metric": "perplexity", "factor": f, "ratio": 1.0, **row}
            for n in range(9)
            for f in (0, 1)
        ]
    )
    left, right = scaling_curves(table).axes
    assert len(left.get_legend().texts) == len(left.collections) == 9
    assert len(right.get_legend().texts) == len(right.collections) == 12
    plt.close("all")


@pytest.mark.parametrize("factors", [[np.inf], [-1.0, np.inf], [0.0, 1.0, -np.inf], [3.0]])
def test_curves_without_finite_factors_ratios_or_intervals_are_drawn(factors):
    """A window without end, an overflow: what an infinite factor gives, on a text of one window."""
    row = {"task": "p", "metric": "perplexity", "filter": "windows", "low": np.nan, "high": np.nan, "chance": np.nan}
    rows = [{**row, "factor": factor, "value": np.inf, "baseline": 20.0, "ratio": np.inf} for factor in factors]
    (axis,) = scaling_curves(pd.DataFrame(rows)).axes
    assert np.isfinite([axis.get_xlim(), axis.get_ylim()]).all()
    assert f"infinite at × {factors[0]:g}" in axis.get_legend().texts[0].get_text()
    axis.figure.draw_without_rendering()
    plt.close("all")


def test_many_ablations_can_be_told_apart():
    base = headlines(full_table())
    base = base[base.ablation.isin(["baseline", "sw"])]
    many = [base[base.ablation == "sw"].assign(ablation=f"a{n}") for n in range(8)]
    table = pd.concat([base[base.ablation == "baseline"], *many])
    figure = model_panels(pd.concat([table.assign(model="x"), table.assign(model="y")]))
    (legend,) = figure.legends
    looks = {(str(h.get_facecolor()), h.get_paths()[0].vertices.tobytes()) for h in legend.legend_handles}
    assert len(legend.texts) == len(looks) == 16
    plt.close("all")


def schemes_over_sizes():
    sizes, rows = (16384, 65536), []
    for size in sizes:
        for sparing in (False, True):
            row = {"plain": f"int4 per block {size}", "format": "int4", "granularity": f"block:{size}", "block": size}
            common = {
                "sparing": sparing,
                "inputs": "",
                "keeping": False,
                "relative_error": 0.1,
                "subtask": "",
                "variant": f"{size} {sparing}",
            }
            value = np.nan if size == 65536 and not sparing else 1e9 if size == 65536 else 30.0
            perplexity = {
                "task": "text",
                "metric": "perplexity",
                "filter": "windows",
                "ratio": value / 20,
                "value": value,
            }
            accuracy = {
                "task": "order",
                "metric": "acc",
                "filter": "none",
                "ratio": np.nan,
                "value": 0.4 + 0.1 * sparing,
            }
            rows += [{**row, **common, "baseline": 20.0, **perplexity}, {**row, **common, "baseline": 0.6, **accuracy}]
    return pd.DataFrame(rows)


def test_quantization_shows_tasks_and_sizes_of_blocks():
    figure = plain_against_sparing(schemes_over_sizes())
    assert [axis.get_title(loc="left") for axis in figure.axes[:3]] == ["text", "order", "Weights alone"]
    assert (
        len(figure.axes) == 6 and [axis.get_xlabel() for axis in figure.axes[3:]] == ["weights that share a scale"] * 3
    )
    assert "not finite → 1.0·10$^{9}$" in texts(figure) and "0.400 → 0.500" in texts(figure)
    # What is broken is drawn at the edge and leaves the others their room.
    assert figure.axes[0].get_xlim()[1] < 20 * 60
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[4].get_lines()}
    assert lines["int4 per block, plain"] == [0.4, 0.4] and lines["int4 per block, super weights spared"] == [0.5, 0.5]
    single = schemes_over_sizes()
    assert len(plain_against_sparing(single[single.block == 16384]).axes) == 3
    plt.close("all")


def drawn_ticks(low, high):
    figure, axis = plt.subplots(figsize=(3, 2))
    log_axis(axis, low, high)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in axis.get_xticklabels() if label.get_text()]
    plt.close(figure)
    return labels


@pytest.mark.parametrize(
    ("low", "high"), [(26, 27), (20, 60), (20, 400), (20, 3000), (20, 3e5), (1e3, 1e12), (0.9, 1.02), (5, 5000)]
)
def test_log_axes_have_a_few_different_ticks_in_one_notation(low, high):
    labels = drawn_ticks(low, high)
    assert 2 <= len(labels) <= 6 and len(set(labels)) == len(labels)
    assert len({"$" in label for label in labels}) == 1


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
