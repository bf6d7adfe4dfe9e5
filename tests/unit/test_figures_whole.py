"""Nothing that a figure says is cut off: titles, legends, labels beside markers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from weight_atlas.figures.ablation_impact import impact_panels, model_panels
from weight_atlas.figures.architecture import parameter_shares
from weight_atlas.figures.heavy_tail import alpha_by_layer
from weight_atlas.figures.style import save_figure, subplots
from weight_atlas.figures.super_weights import spike_places
from weight_atlas.figures.weights import cdf_by_role
from weight_atlas.weights.cdf import PROBABILITIES


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def slow(*cases):
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


def inside(box, whole):
    return whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1


def drawn(figure):
    """The figure's own texts and legends, laid out."""
    figure.draw_without_rendering()
    return [artist.get_window_extent() for artist in (*figure.texts, *figure.legends)]


def impact_rows(tasks):
    rows = pd.DataFrame(
        [("baseline", "baseline", 40.0), ("super_weights", "zero", 2000.0), ("super_weights", "random", 40.1)],
        columns=["ablation", "kind", "value"],
    )
    rows = rows.assign(variant="", metric="word_perplexity", filter="none", ratio=rows.value / 40, severity="severe")
    rows = rows.assign(
        low=rows.value * 0.9, high=rows.value * 1.1, baseline=40.0, chance=np.nan, drop=np.nan, note=None
    )
    return pd.concat([rows.assign(task=f"task_{number}") for number in range(tasks)], ignore_index=True)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_titles_are_whole_however_few_panels_there_are(tasks):
    rows = impact_rows(tasks)
    for figure in (impact_panels(rows), model_panels(rows.assign(model="a_model_v2"))):
        assert all(inside(box, figure.bbox) for box in drawn(figure)), figure.get_suptitle()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["a_model_v2"]


def test_a_long_title_is_broken_into_lines_that_cover_no_panel():
    figure, axis = subplots(width=2.5, height=2)
    figure.suptitle("a title of many words that is far too long for so small a figure as this one")
    axis.set_title("panel")
    (title,) = drawn(figure)
    assert inside(title, figure.bbox) and title.y0 >= axis.title.get_window_extent().y1 - 1


@pytest.mark.parametrize("longest", ["token embedding", "norms and biases"])
def test_the_legend_of_shares_is_whole_and_in_columns(longest):
    table = pd.DataFrame({"category": [longest, "attention", "other"], "parameters": [31_104, 1_234_567_890, 7]})
    figure = parameter_shares(table)
    (box,) = drawn(figure)
    assert inside(box, figure.bbox)
    texts = figure.legends[0].get_texts()
    assert len({text.get_window_extent().x1.round(1) for text in texts}) == 1
    lines = [text.get_text() for text in texts]
    assert lines[0].split() == ["part", "parameters", "share"] and len({len(line) for line in lines}) == 1
    assert lines[2].split("  ")[0] == longest


@pytest.mark.parametrize("place", [(234.6, 2362.9), (5.0, 5.2), *slow((5.0, 2000.0), (200.0, 5.2), (40.0, 80.0))])
@pytest.mark.parametrize("count", [1, 6])
def test_labels_of_stars_are_whole_and_beside_them(place, count):
    spikes = pd.DataFrame({"iteration": 1, "layer": range(4), "row": 0, "col": 0, "expert": pd.NA})
    spikes = spikes.assign(input_value=[6.4, 5.0, 9.0, 234.6], output_value=[5.2, 13.0, 14.0, 2362.9])
    found = pd.DataFrame({"layer": 1, "row": 1234, "column": 56789, "expert_id": 117}, index=range(count))
    figure = spike_places(spikes, found.assign(input_value=place[0], output_value=place[1]))
    figure.draw_without_rendering()
    axis = figure.axes[0]
    (label,) = [text for text in axis.texts if text.get_text().startswith("L1 expert 117")]
    box = label.get_window_extent()
    x = axis.transData.transform(place)[0]
    reach = 15 / 2 * figure.dpi / 72
    assert inside(box, axis.bbox)
    assert box.x0 >= x + reach or box.x1 <= x - reach


@pytest.mark.parametrize("length", [12, *slow(20, 21, 28), 80])
def test_titles_of_neighbouring_panels_do_not_run_into_each_other(length):
    # A tensor without a role is named by its place in the checkpoint.
    names = [f"{'language_model.embeddings.' * 4}{number}.weight"[-length:] for number in range(4)]
    rows = [pd.DataFrame({"probability": PROBABILITIES, "value": PROBABILITIES, "tensor": name}) for name in names]
    table = pd.concat(rows, ignore_index=True).assign(stack="other", role="other", layer=pd.NA, n=9)
    figure = cdf_by_role(table)
    figure.draw_without_rendering()
    boxes = [axis.title.get_window_extent() for axis in figure.axes if axis.get_visible()]
    assert len(boxes) == 8 and all(inside(box, figure.bbox) for box in boxes)
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_exponents_that_are_not_there_are_not_drawn():
    rows = pd.DataFrame({"role": "W_Q", "stack": "decoder", "layer": pd.array([0, 1], "Int64"), "alpha": [3.0, np.nan]})
    figure = alpha_by_layer(rows.assign(status=["ok", "degenerate"], alpha_null=5.0))
    assert list(figure.axes[0].lines[1].get_xdata()) == [0]


def test_a_saved_figure_is_drawn_once_and_as_matplotlib_saves_it_by_itself(tmp_path, monkeypatch):
    def made():
        figure, axes = subplots(1, 2, width=2.5, height=2)
        for axis, scale in zip(axes, ("linear", "log"), strict=True):
            axis.plot([1, 2, 3], [10, 2000, 30_000], label="a line")
            axis.set(yscale=scale, title="a panel", xlabel="layer", ylabel="size")
        figure.legend(loc="outside lower center")
        figure.suptitle("a title that is broken into lines since it is too long for so small a figure")
        return figure

    with plt.rc_context({"axes.titley": None}):
        made().savefig(tmp_path / "expected.png", dpi=150)
    draw, drawn_figures = Figure.draw, []
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: (drawn_figures.append(self), draw(self, renderer)))
    save_figure(tmp_path / "saved.png", made())
    assert len(drawn_figures) == 1
    assert np.array_equal(plt.imread(tmp_path / "saved.png"), plt.imread(tmp_path / "expected.png"))
