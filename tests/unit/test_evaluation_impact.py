"""Impact tables: pairing by item, every metric in its own way, groups, and their figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from weight_atlas.evaluation.impact import (
    by_factor,
    headline_metric,
    headlines,
    impact_table,
    item_impact,
    window_impact,
)
from weight_atlas.evaluation.quantization_errors import scheme_table
from weight_atlas.evaluation.quantizers import Scheme
from weight_atlas.evaluation.variants import Variant
from weight_atlas.figures.evaluation_impact import impact_panels, model_panels, readable
from weight_atlas.figures.evaluation_quantization import plain_against_sparing
from weight_atlas.figures.evaluation_scaling import scaling_curves
from weight_atlas.lm.anatomy import Coordinate


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


def windows(variant, nats):
    return pd.DataFrame({"variant": variant, "window": range(len(nats)), "tokens": 10, "nll": np.array(nats) * 10.0})


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
        assert "No super weights" in texts(figure)
    plt.close("all")


def test_schemes_pair_the_error_with_the_cost():
    place = Coordinate(1, 2, 3)
    plain = Variant("q: int4 per tensor", "quantize", scheme=Scheme("int4"))
    sparing = Variant("q: int4 per tensor, sparing", "quantize", scheme=Scheme("int4", clip=3.0), spared=(place,))
    errors = pd.DataFrame(
        {
            "variant": [plain.name] * 2 + [sparing.name] * 2, "relative_error": [0.5, 0.1, 0.2, 0.1], "bits": 4.0,
            "squared_error": [9.0, 1.0, 4.0, 0.0], "energy": [36.0, 64.0] * 2,
        }
    )  # fmt: skip
    text = windows("baseline", [2.0, 3.0, 4.0])
    records = [{"variant": v.name, "kind": "quantize", "factor": None} for v in (plain, sparing)]
    costs = pd.concat([windows(plain.name, [3.0, 4.0, 5.0]), windows(sparing.name, [2.1, 3.0, 4.0])])
    table = scheme_table(errors, impact_table([window_impact("text", costs, text)], "q", records), [plain, sparing])
    assert table.relative_error.tolist() == pytest.approx([0.1**0.5, 0.2])
    assert table.worst_matrix.tolist() == [0.5, 0.2] and table.sparing.tolist() == [False, True]
    assert set(table.plain) == {"int4 per tensor"}
    figure = plain_against_sparing(table)
    assert f"{readable(np.exp(4))} → " in texts(figure) and "0.316 → 0.200" in texts(figure)
    plt.close("all")


def test_readable_numbers():
    assert [readable(x) for x in (1.0, 48.625, 9999, 863518.5, 2.8e10)] == ["1", "48.62", "9,999", "863,518", "2.8e+10"]


def test_an_ablation_without_variants_has_a_table_without_rows(tmp_path):
    from weight_atlas.tables import read_table, write_table

    empty = impact_table([window_impact("text", windows("a", [1.0]).iloc[:0], windows("baseline", [1.0]))], "sw", [])
    write_table(tmp_path / "empty.csv", empty)
    read = read_table(tmp_path / "empty.csv")
    assert read.empty and list(read) == list(full_table())
    assert headlines(read).empty and by_factor(read).empty
