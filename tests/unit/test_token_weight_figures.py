"""Figures of token weights: they draw what is in the tables, of odd vectors too."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from weight_atlas.figures.token_weight_frequency import cdfs, count_cdf, six_panels
from weight_atlas.figures.token_weights import evolution_panels, weight_histogram
from weight_atlas.settings.token_weights import Counted
from weight_atlas.token_weights.beside_counts import beside_counts
from weight_atlas.token_weights.evolution import evolution, most_moved
from weight_atlas.token_weights.token_table import token_table


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def panels(weights, counts):
    table = token_table(np.asarray(weights, float), None, None).assign(token="a$b\n<i>")
    found = beside_counts(table, np.asarray(counts), Counted())
    figure = six_panels(found, 10)
    return figure, found


def test_six_panels_show_the_tables():
    random = np.random.default_rng(0)
    counts = random.zipf(1.5, 300) - 1
    figure, found = panels(random.normal(size=300), counts)
    scatter, _, coverage, bins, _, _ = figure.axes[:6]
    drawn = sum(len(line.get_xdata()) for line in scatter.lines[:2])
    assert drawn == 300 and [axis.get_title() for axis in figure.axes[:6]][4].startswith("High weight")
    np.testing.assert_allclose(coverage.lines[0].get_ydata(), np.sort(counts)[::-1].cumsum() / counts.sum())
    heights = [bar.get_height() for bar in bins.patches]
    assert heights == pytest.approx(found.bins["mean"].dropna().tolist())
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([-1e300, 0, 1e300], [1, 2, 3]), ([np.nan, 1, 2], [1, 2, 3]),
        pytest.param([1, 1, 1], [0, 1, 50], marks=pytest.mark.slow),
        pytest.param([1e-300, 2, 9], [5, 5, 5], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_odd_vectors_are_drawn(weights, counts):
    panels(weights, counts)[0].draw_without_rendering()
    weight_histogram(np.asarray(weights, float), "weight").draw_without_rendering()


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        (np.full(60, 1.0), np.arange(40, 100)),
        pytest.param(np.linspace(2, 9, 60), np.full(60, 7), marks=pytest.mark.slow),
        pytest.param(np.r_[np.ones(59), 1 + 1e-7], np.arange(60) % 4, marks=pytest.mark.slow),
        pytest.param(np.linspace(1e-5, 4e-5, 60), np.arange(60), marks=pytest.mark.slow),
    ],
    ids=["constant", "below a decade", "all but constant", "small"],
)
def test_labels_of_ticks_stand_apart_and_are_whole_numbers_of_the_axis(weights, counts):
    for figure in (panels(weights, counts)[0], weight_histogram(weights, "weight")):
        figure.draw_without_rendering()
        panel_axes = [each for axis in figure.axes for each in (axis, *axis.child_axes)]
        for axis in (each for panel in panel_axes if panel.axison for each in (panel.xaxis, panel.yaxis)):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            labels = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()]
            boxes = [label.get_window_extent() for label in labels]
            assert len(labels) >= 2 and not any(
                first.overlaps(second) for first, second in itertools.combinations(boxes, 2)
            ), [label.get_text() for label in labels]
            assert "+" not in axis.get_offset_text().get_text()


def test_nothing_to_draw_is_a_message():
    assert "no occurrences" in panels([1, 2], [0, 0])[0].axes[0].texts[0].get_text()
    assert "no weight" in weight_histogram(np.array([np.nan]), "weight").axes[0].texts[0].get_text()
    assert "no tokens" in count_cdf(np.zeros(3)).axes[0].texts[0].get_text()


def test_counts_beside_weights():
    found = panels([1, 2, 3], [0, 10, 200])[1]
    left, right = cdfs(found.cdf, found.tokens["count"].to_numpy(), "weight").axes
    assert left.lines[0].get_ydata().tolist() == [0, 10, 210] and right.lines[0].get_xdata()[[0, -1]].tolist() == [1, 3]
    left, right = count_cdf(np.array([1, 0, 3])).axes
    assert right.lines[0].get_ydata().tolist() == [0, 0.25, 1]


def test_courses_are_drawn():
    vectors = [np.arange(5.0) * step for step in range(1, 4)]
    course = evolution(vectors, ["a", "b", "c"], None)
    figure = evolution_panels(course, most_moved(vectors, np.arange(5), ["<b>"] * 5, ["a", "b", "c"], 2), "weight")
    assert figure.axes[3].lines[0].get_ydata().tolist() == [4, 8, 12]
    figure.draw_without_rendering()
