"""Series of checkpoints: scalars and their course, and what is told."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from weight_atlas import metrics
from weight_atlas.artifacts import write_json, write_table
from weight_atlas.figures.series import metric_panels, series_panels
from weight_atlas.not_applicable import write_not_applicable
from weight_atlas.pages.series import about_series, write_series_page
from weight_atlas.series import scalars as scalars_of
from weight_atlas.series.arisen import arisen
from weight_atlas.series.course import course, trends
from weight_atlas.series.scalars import scalars
from weight_atlas.series.tables import of_analyses, series, shown

# Scalars, by the registry of metrics.

TAILS = pd.DataFrame({
    "id": list("abcd"), "role": ["W_Q", "W_Q", "W_Q", "W_K"], "stack": "decoder", "layer": [0, 1, 2, 0],
    "expert": pd.array([pd.NA] * 4, dtype="Int64"), "alpha": [2.0, 3.0, 90.0, 4.0], "alpha_null": [5.0, 6.0, 7.0, 8.0],
    "alpha_error": 0.1, "status": ["ok", "ok", "spurious", "failed"], "mp_spikes": [1, 2, 4, 8],
    "entropy": [0.1, np.inf, 0.3, 0.4],
})  # fmt: skip


def test_scalars_are_medians_by_role_of_what_is_to_be_trusted(tmp_path):
    write_table(tmp_path / "heavy_tail/m.csv", TAILS)
    found = scalars([tmp_path / "heavy_tail/m.csv"], tmp_path).set_index(["metric", "role"])
    alpha = found.loc[("heavy_tail.alpha", "W_Q")]
    assert (alpha["value"], alpha["low"], alpha["high"], alpha["null"]) == (2.5, 2.25, 2.75, 5.5)
    assert (alpha["n"], alpha["rows"]) == (2, 3)
    assert found.loc[("heavy_tail.alpha", "W_K"), "n"] == 0
    assert (
        found.loc[("heavy_tail.mp_spikes", "W_Q"), "value"] == 2
        and found.loc[("heavy_tail.mp_spikes", "W_Q"), "n"] == 3
    )
    assert found.loc[("heavy_tail.entropy", "W_Q"), "n"] == 2  # an infinity is no median
    assert not {"heavy_tail.alpha_null", "heavy_tail.alpha_error"} & set(found.index.get_level_values(0))
    assert set(found["stack"]) == {"decoder"} and set(found["of"]) == {""}


def test_scalars_tell_apart_what_keys_and_file_names_tell(tmp_path):
    column = metrics.of("ablation_perplexity").keys
    rows = pd.DataFrame({column["corpus"]: ["x", "x"], column["ablation"]: ["baseline", "a"],
                         column["variant"]: ["baseline", "a: 0"], column["kind"]: ["baseline", "zero"],
                         "perplexity": [3.0, 4.0]})  # fmt: skip
    write_table(tmp_path / "ablation_perplexity/m.csv", rows)
    summary = {each.column: 1.0 for each in metrics.of("token_counts.summary").metrics if "." not in each.column}
    known = [each.column for each in metrics.of("token_counts.summary").metrics if "." in each.column]
    for name in known:
        outer, inner = name.split(".")
        summary.setdefault(outer, {})[inner] = 2.0
    write_json(tmp_path / "token_counts/m/text.json", summary)
    write_not_applicable(tmp_path / "expert_routing/m.csv", "no experts")
    (tmp_path / "mine.json").write_text("{}")
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    found = scalars(paths, tmp_path)
    told = found[found["metric"] == "ablation_perplexity.perplexity"].set_index("of")["value"].to_dict()
    assert told == {"kind=baseline, corpus=x, ablation=baseline, variant=baseline": 3.0,
                    "kind=zero, corpus=x, ablation=a, variant=a: 0": 4.0}  # fmt: skip
    counts = found[found["metric"].str.startswith("token_counts.summary.")]
    assert set(counts["of"]) == {"corpus=text"} and len(counts) == len(metrics.of("token_counts.summary").metrics)
    assert set(found["metric"].str.split(".").str[0]) == {"ablation_perplexity", "token_counts"}
    assert scalars([], tmp_path).empty


def test_the_text_of_a_place_is_made_once_for_all_its_rows(tmp_path, monkeypatch):
    random = np.random.default_rng(4)
    table = pd.DataFrame({"stack": "decoder", "kind": random.choice(["Q", "K", "V"], 900), "score": random.random(900)})
    table["stack"] = table["stack"].where(random.random(900) < 0.8, None)
    write_table(tmp_path / "head_composition" / "m.parquet", table.assign(null=0.1))
    told = []
    monkeypatch.setattr(scalars_of, "_text", lambda value: told.append(value) or ("" if pd.isna(value) else value))
    found = scalars([tmp_path / "head_composition" / "m.parquet"], tmp_path).set_index(["stack", "of"])
    assert len(told) == 2 * 6 == 2 * len(found) and found["rows"].sum() == 900
    for (stack, kind), rows in table.fillna("").groupby(["stack", "kind"]):
        assert found.loc[(stack, f"kind={kind}"), "value"] == rows["score"].median()


def at(values, metric="heavy_tail.alpha", role="W_Q", of="", null=6.0):
    """A checkpoint's scalars: one of value `values`."""
    row = {"metric": metric, "stack": "decoder", "role": role, "of": of, "level": "tensor", "rows": 2, "n": 2}
    return pd.DataFrame([{**row, "value": value, "low": value, "high": value, "null": null} for value in [values]])


VALUES = [5.0, 4.0, 4.5, 3.0, 2.5]


def test_trends_are_those_of_the_definitions():
    steps = [0, 10, 20, 30, 40]
    table = course([at(value) for value in VALUES], list("abcde"), steps)
    assert table["number"].tolist() == [0, 1, 2, 3, 4] and table["step"].tolist() == steps
    (row,) = trends(table).to_dict("records")
    changes = np.diff(VALUES)
    assert (row["first"], row["last"], row["change"], row["relative_change"]) == (5.0, 2.5, -2.5, -0.5)
    assert row["tau"] == pytest.approx(stats.kendalltau(steps, VALUES).statistic)
    assert row["steadiness"] == pytest.approx(2.5 / np.abs(changes).sum())
    assert (row["sharpest"], row["sharpest_at"], row["null_last"], row["checkpoints"]) == (-1.5, "d", 6.0, 5)
    # What random signs give, by brute force: the formula is the Gaussian one, a little below for few changes.
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    assert row["steadiness_null"] == pytest.approx(np.abs(changes @ signs).mean() / np.abs(changes).sum(), rel=0.1)


def test_trends_leave_out_checkpoints_without_a_value():
    (row,) = trends(course([at(1.0), at(math.nan), at(2.0)], list("abc"), [])).to_dict("records")
    assert (row["checkpoints"], row["change"], row["tau"], row["steadiness"]) == (2, 1.0, 1.0, 1.0)
    (row,) = trends(course([at(math.nan)], ["a"], [])).to_dict("records")
    assert row["checkpoints"] == 0 and math.isnan(row["first"])
    (row,) = trends(course([at(2.0), at(2.0)], list("ab"), [])).to_dict("records")
    assert (row["change"], row["tau"]) == (0, 0) and math.isnan(row["steadiness"])
    assert trends(course([at(1.0).iloc[:0]], ["a"], [])).empty


# Super weights.


def found_weights(*weights):
    return pd.DataFrame(
        [{"layer": layer, "component": "mlp.down_proj", "expert_id": math.nan, "row": row, "column": 1,
          "original_value": w} for layer, row, w in weights],
        columns=["layer", "component", "expert_id", "row", "column", "original_value"],
    )  # fmt: skip


def verdicts(*rows):
    return pd.DataFrame(
        [{"layer": layer, "component": "mlp.down_proj", "expert": math.nan, "row": row, "column": 1, "ratio": ratio,
          "verdict": verdict} for layer, row, ratio, verdict in rows]
    )  # fmt: skip


def test_when_super_weights_arise():
    detected = [found_weights(), None, found_weights((1, 7, 2.0)), found_weights((1, 7, 3.0), (2, 0, 5.0))]
    verified = [None, None, None, verdicts((1, 7, 40.0, "critical"), (3, 3, 2.0, "mild"), (3, 4, 1.0, "inert"))]
    table = arisen(detected, verified, list("abcd"), [0, 1, 2, 3])
    assert table[["layer", "row", "first_checkpoint", "last_checkpoint", "found", "searched"]].values.tolist() == [
        [1, 7, "c", "d", 2, 3], [2, 0, "d", "d", 1, 3], [3, 3, "d", "d", 1, 3],
    ]  # fmt: skip
    first = table.iloc[0]
    assert (first["first_step"], first["first_weight"], first["last_weight"]) == (2, 2.0, 3.0)
    assert (first["last_ratio"], first["last_verdict"]) == (40.0, "critical") and pd.isna(first["expert"])
    assert arisen([None], [None], ["a"], []).empty


# What is told.


def moved(change=0.1, equal=0.0, not_finite=0, note="", role="W_Q"):
    row = {"id": "x", "role": role, "stack": "decoder", "layer": 0, "expert": pd.NA, "elements": 10,
           "not_finite": not_finite, "norm": 2.0, "note": note}  # fmt: skip
    for other in ("previous", "first"):
        row |= {f"norm_{other}": 2.0, f"distance_{other}": 2 * change, f"change_{other}": change}
        row |= {f"cosine_{other}": 0.9, f"equal_{other}": equal}
    return pd.DataFrame([row])


def told(drifts, steps=(), detected=None):
    """The series of as many checkpoints."""
    number = len(drifts) + 1
    names = [f"run-{each}" for each in range(number)]
    return series([at(4.0 - each) for each in range(number)], drifts, detected or [None] * number, [None] * number,
                  names, list(steps))  # fmt: skip


@pytest.mark.parametrize(
    ("drifts", "grade", "words"),
    [
        ([moved(not_finite=3)], "critical", "3 weights are NaN or infinite in checkpoint 1"),
        ([moved(), moved(0.0, equal=1.0)], "notable", "checkpoint 2 holds the same weights as the one before it"),
        ([moved(note="not in the first checkpoint")], "notable", "other tensors: x is not in the first checkpoint"),
        (
            [moved(), moved(), moved(0.9), moved()],
            "notable",
            "checkpoint 3 the weights moved by 0.9 of their norm, 9.0",
        ),
        ([pd.concat([moved(), moved(0.0, 1.0, role="W_E")])], "info", "never changes while others do: W_E"),
    ],
)
def test_findings_name_what_is_planted(drifts, grade, words):
    (finding,) = told(drifts, range(len(drifts) + 1)).summary["findings"]
    assert finding["grade"] == grade and words in finding["text"]


def test_nothing_is_found_where_nothing_is_planted():
    assert told([moved()] * 4, range(5)).summary["findings"] == []
    uneven = told([moved(), moved(), moved(0.9), moved()], [0, 1, 2, 100, 101])
    assert uneven.summary["findings"] == []  # a long way takes many steps


def test_a_super_weight_that_arises_is_told():
    found = told([moved(), moved()], detected=[found_weights(), found_weights(), found_weights((1, 7, 2.0))])
    (finding,) = found.summary["findings"]
    assert finding["text"] == "a super weight arises: layer 1 mlp.down_proj [7, 1] from checkpoint 2 on"
    rows = dict(found.summary["headline"])
    assert rows["checkpoints"] == "3: 0 to 2"
    assert rows["power-law exponent alpha"].startswith("W_Q 4.00 to 2.00 (random: 6.00)")


def test_a_single_checkpoint_is_a_series():
    alone = told([])
    assert alone.summary["findings"] == [] and alone.drift.empty and len(alone.course) == 1
    assert dict(alone.summary["headline"])["checkpoints"] == "1: run-0"


def test_figures_have_a_panel_a_metric_and_a_line_a_role():
    number = 3
    parts = [pd.concat([at(3.0 - n), at(2.0 + n, role="W_K"), at(10.0 * 9**n, "ablation_perplexity.perplexity", "",
             "corpus=text, variant=baseline", math.nan), at(5.0, "ablation_perplexity.perplexity", "", "variant=zero")],
             ignore_index=True) for n in range(number)]  # fmt: skip
    names = ["a-1", "a-10", "a-1000"]
    found = series(parts, [moved(), moved()], [None] * number, [None] * number, names, [1, 10, 1000])
    figure = series_panels(shown(found), found.drift, found.names, [1, 10, 1000])
    axes = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert {"power-law exponent alpha", "perplexity"} < set(axes) and len(axes) == 4
    lines = {line.get_label(): line for line in axes["power-law exponent alpha"].lines}
    assert lines["W_Q"].get_xdata().tolist() == [1, 10, 1000] and lines["W_K"].get_ydata().tolist() == [2, 3, 4]
    assert axes["perplexity"].get_yscale() == "log" and axes["perplexity"].get_xscale() == "symlog"
    assert len(axes["perplexity"].lines) == 1  # of the unchanged model
    assert set(of_analyses(found)) == {"heavy_tail", "ablation_perplexity"}
    for name, courses in of_analyses(found).items():
        assert metric_panels(courses, found.names, []).axes, name
    assert "single checkpoint" in series_panels([], found.drift, ["a"], []).axes[0].texts[0].get_text()


def test_the_page_links_what_is_there(tmp_path):
    """Links lead from two folders below the results; names are shown as they are."""
    found = told([moved(not_finite=1)])
    folder = tmp_path / "series"
    write_table(folder / "run/trends.csv", found.trends)
    write_json(folder / "run.json", {**found.summary, "findings": [{"grade": "info", "text": "<b> & *x*"}]})
    write_not_applicable(folder / "run.png", "nothing to draw")
    caption = tmp_path / "series.rst"
    caption.write_text("How to read it.\n")
    page = tmp_path / "atlas/series/run.md"
    products = [folder / "run/trends.csv", folder / "run.json", folder / "run.png"]
    write_series_page(page, page.with_suffix(".html"), page.with_suffix(""), "run", caption, products)
    html = page.with_suffix(".html").read_text()
    assert "&lt;b&gt; &amp; *x*" in html and '<a href="../models/run-0.html">run-0</a>' in html
    assert all(value in html for _, value in json.loads((folder / "run.json").read_text())["headline"])
    text = page.read_text()
    assert "# Series run" in text and "[run-0](../run-0.md)" in text and "How to read it." in text
    assert "\\<b\\> \\& \\*x\\*" in text
    for link in ("../../series/run/trends.csv", "../../series/run.json"):
        assert f"({link})" in text and (page.parent / link).exists()
    (about,) = about_series([folder / "run.json"], tmp_path).values()
    assert (
        about["page"] == "../atlas/series/run.md"
        and about["headline"] == json.loads((folder / "run.json").read_text())["headline"]
    )


def test_a_metric_may_say_which_rows_are_to_be_trusted():
    trusted = {each.id for table in metrics.tables().values() for each in table.metrics if each.trusted}
    assert trusted == {f"heavy_tail.{name}" for name in ("alpha", "alpha_weighted", "log_alpha_norm")}
    for name in trusted:
        assert len(TAILS.query(metrics.metric(name).trusted)) == 2
