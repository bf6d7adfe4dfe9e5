"""Figures of ablations: every variant, its worst value, curves with their intervals, and readable axes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from test_ablations_impact import full_table, windows

from weight_atlas.ablations.impact import by_factor, headlines, impact_table, window_impact
from weight_atlas.ablations.quantization_errors import scheme_table
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.figures.ablation_axes import log_axis, readable, style_of
from weight_atlas.figures.ablation_impact import impact_panels, model_panels
from weight_atlas.figures.ablation_quantization import plain_against_sparing
from weight_atlas.figures.ablation_scaling import knee, scaling_curves
from weight_atlas.interventions.changes import Quantized
from weight_atlas.live.anatomy import Coordinate
from weight_atlas.quantization.quantizers import Scheme


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
