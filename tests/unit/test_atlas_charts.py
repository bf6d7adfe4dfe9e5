"""What pages draw of tables: the choices in charts.yaml, against the registry, the steps and the rows."""

import pandas as pd
import pytest

from weight_atlas.metrics import of
from weight_atlas.pages.html.charts import charts_of, drawn, faults, pictures
from weight_atlas.settings.analyses import ANALYSES

# Of these a page has tables only: texts, and numbers that other analyses draw.
NOT_DRAWN = {"spectra_report"}


def test_charts_name_columns_that_tables_have():
    assert faults() == []


def test_every_analysis_is_drawn():
    assert set(ANALYSES) - set(drawn()) == NOT_DRAWN
    for analysis, found in drawn().items():
        assert {of(chart.table).step for chart in found.charts} <= {analysis}


@pytest.mark.parametrize(
    ("figure", "stays"),
    [
        ("../weight_profile/m.png", True),  # rows of all matrices, which no table on the page has
        ("../weight_profile/m/windows.png", True),
        ("../weight_profile/m/norms.png", False),
        ("../effective_rank/m.png", False),
    ],
)
def test_figures_that_tables_could_draw_are_left_out(figure, stays):
    assert pictures(figure.split("/")[1], [figure]) == ([figure] if stays else [])


def test_the_figures_of_a_step_that_is_not_known_stay():
    assert pictures("another", ["../another/m.png"]) == ["../another/m.png"]


def ranks(**columns):
    table = pd.DataFrame({"id": ["a", "b"], "role": "W_Q", "layer": [0, 1], "erank_relative": [0.5, 0.7], **columns})
    return {"tables/effective_rank-m.csv": (of("effective_rank"), table)}


def test_a_chart_offers_the_numbers_that_there_are_but_no_nulls():
    (chart,) = charts_of(
        "effective_rank", ranks(condition=[3.0, 4.0], condition_null=5.0, sigma_min=float("nan"), rows=4)
    )
    assert chart == {
        "kind": "lines", "x": "layer", "y": "erank_relative", "by": "role", "split": [],
        "key": "tables/effective_rank-m.csv", "choose": ["condition", "erank_relative"],
    }  # fmt: skip


@pytest.mark.parametrize(("steps", "x"), [([None, None], "number"), ([None, 20.0], "step")])
def test_checkpoints_without_a_step_in_their_names_are_drawn_by_their_number(steps, x):
    table = pd.DataFrame(
        {"number": [0, 1], "step": steps, "role": "W_Q", "stack": "decoder", "change_first": [0.1, 0.2]}
    )
    (chart,) = charts_of("series", {"tables/series-run-drift.csv": (of("series.drift"), table)})
    assert chart["x"] == x and "otherwise" not in chart


@pytest.mark.parametrize("missing", [{"erank_relative": float("nan")}, {"erank_relative": float("inf")}])
def test_a_chart_without_a_number_is_left_out(missing):
    assert charts_of("effective_rank", ranks(**missing)) == []
    assert charts_of("heavy_tail", ranks()) == []
