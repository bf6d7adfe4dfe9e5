"""The kinds of charts that pages have, drawn from made-up rows in a real browser."""

import pytest
from atlas_results import HOSTILE, write_atlas, write_shared
from watched_browser import opened, plotted, started

pytestmark = pytest.mark.slow

# A chart of made-up rows: what is on its axes, its notes and its colours.
DRAWN = """async ([about, columns]) => {
  const figure = document.body.appendChild(document.createElement("figure"));
  const data = { columns: Object.keys(columns).map(name => ({ name, ...(columns[name].about ?? {}) })),
                 cells: Object.values(columns).map(each => each.cells ?? each) };
  const plot = new Plot(figure, about, data);
  await plot.draw();
  const texts = part => [...figure.querySelectorAll(`${part} text`)].map(each => each.textContent);
  return { labels: texts(".role-axis-label"), legend: texts(".role-legend-label"), note: plot.note.textContent,
           said: plot.legend.textContent,
           rules: figure.querySelectorAll(".mark-rule.role-mark path, .mark-rule.role-mark line").length,
           colours: [...figure.querySelectorAll(".role-mark path")].map(each => each.getAttribute("fill")) };
}"""


@pytest.fixture(scope="module")
def page_of_a_model(tmp_path_factory):
    results = tmp_path_factory.mktemp("plots") / "results"
    page = write_atlas(results)
    write_shared(results)
    return page


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


def drawn(page, about, **columns):
    return page.evaluate(DRAWN, [about, columns])


@pytest.fixture
def plots(browser, page_of_a_model):
    """A page on which charts can be drawn."""
    with opened(browser, page_of_a_model) as page:
        plotted(page.locator("#effective_rank figure.plot"))  # which loads the library
        yield page


def test_tokens_on_an_axis_keep_places_of_their_own(plots):
    about = {"kind": "heat", "x": "layer", "y": "position", "value": "peak", "words": {"y": "token"}}
    rows = {"layer": [0] * 3, "position": [10, 2, 0], "token": ["the", "the", HOSTILE[2]], "peak": [1.0, 2.0, 900.0]}
    found = drawn(plots, about, **rows)
    assert [label for label in found["labels"] if "  " in label] == ["0  U+202Eright to left", "2  the", "10  the"]


def test_bars_are_the_largest_of_each_and_named_by_what_tells_them_apart(plots):
    long = "a task: " + "x" * 50 + "y" * 40
    about = {"kind": "bars", "y": "v", "label": ["name"], "one": ["group"], "by": "good"}
    rows = {"name": [f"{long} 1", f"{long} 2", "a task: b"], "group": [1, 1, 2], "good": [True, False, None]}
    found = drawn(plots, about, **rows, v=[1.0, 3.0, 2.0])
    names = [label for label in found["labels"] if not label.replace(".", "").isdigit()]
    assert len(names) == 2 and names[0].endswith("y 2") and "…" in names[0] and names[1] == "b"
    assert found["note"] == "Of 3, the largest of each group." and found["legend"] == ["yes", "no"]


def test_on_a_phone_names_of_tensors_keep_layer_and_end(browser, page_of_a_model):
    about = {"kind": "bars", "y": "v", "label": ["id", "axis", "channel"]}
    names = ["model.layers.12.mlp.down_proj.weight", "lm_head.weight"]
    with opened(browser, page_of_a_model, width=390) as page:
        plotted(page.locator("#effective_rank figure.plot"))
        found = drawn(page, about, id=names, axis=["col", "row"], channel=[11, 171], v=[2.0, 3.0])
    assert found["labels"][-2:] == [
        "12.mlp.do…col · channel 11",
        "lm_head ·…ow · channel 171",
    ]


def test_points_are_beside_their_null(plots):
    about = {"kind": "points", "x": "layer", "y": "size", "by": "component"}
    size = {"about": {"null": "base"}, "cells": [5.0, 6.0]}
    rows = {"layer": [0, 1], "component": [None, None], "size": size}
    base = {"about": {"title": "largest of Gaussians"}, "cells": [4.0, 4.0]}
    found = drawn(plots, about, **rows, base=base)
    assert found["note"] == "Dashed: the null (largest of Gaussians)." and found["rules"] == 1
    assert drawn(plots, about, **rows, base={**base, "cells": [4.0, 3.0]})["note"].startswith("Ticks: the null")


def test_a_role_has_one_colour_in_all_charts(plots):
    about = {"kind": "points", "x": "layer", "y": "v", "by": "role"}
    one = drawn(plots, about, layer=[0, 1], v=[1.0, 2.0], role=["W_down", "W_Q"])
    other = drawn(plots, about, layer=[0, 1, 2], v=[1.0, 2.0, 3.0], role=["all", "W_Q", "W_down"])
    assert one["legend"] == ["W_Q", "W_down"] and other["legend"] == ["W_Q", "W_down", "all"]
    assert one["colours"] == ["#ee7733", "#4477aa"] and other["colours"][1:] == ["#4477aa", "#ee7733"]


def test_a_few_numbers_near_nothing_do_not_take_the_colours_of_a_log_scale(plots):
    about = {"kind": "heat", "x": "layer", "y": "position", "value": "kl"}
    values = [1e-12, *(1 + place / 10 for place in range(39))]
    found = drawn(plots, about, layer=[0] * 40, position=list(range(40)), kl=values)
    assert found["said"].startswith("≤ 1.1") and "log scale" in found["said"]
