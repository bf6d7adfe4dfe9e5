"""The registry of metrics: what it says, how it is read, and that it says nothing wrong."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from weight_atlas import metrics
from weight_atlas.errors import AtlasError
from weight_atlas.metrics.document import document
from weight_atlas.metrics.metric import Metric
from weight_atlas.metrics.registry import FOLDER, PARTS, read_tables
from weight_atlas.super_weights.agreement import COLUMNS as AGREEMENT_COLUMNS
from weight_atlas.super_weights.artifact import COLUMNS as WEIGHT_COLUMNS
from weight_atlas.super_weights.expert_table import COLUMNS as EXPERT_COLUMNS
from weight_atlas.super_weights.expert_table import expert_findings
from weight_atlas.super_weights.verification import COLUMNS as VERDICT_COLUMNS

ROOT = Path(__file__).parents[2]


def test_a_metric_is_found_by_its_table_and_column():
    erank = metrics.metric("effective_rank.erank_relative")
    assert (erank.title, erank.unit, erank.level) == ("effective rank, share of a Gaussian matrix's", "ratio", "tensor")
    assert (erank.null, erank.direction, erank.column) == (1, "lower", "erank_relative")
    assert metrics.metric("effective_rank.trends.slope").interval == ("slope_low", "slope_high")
    assert metrics.metric("vocabulary_summary.strongest_ci_2.5").unit == "nats per token"
    assert metrics.of("effective_rank").by_column["erank"].id == "effective_rank.erank"
    with pytest.raises(AtlasError, match=r"did you mean effective_rank\.erank\?"):
        metrics.metric("effective_rank.eranc")
    with pytest.raises(AtlasError, match="no table is called effective_ranks"):
        metrics.of("effective_ranks")


def test_entries_that_are_alike_are_written_once():
    share = metrics.metric("effective_rank.n95_share")
    assert share.title == "components for 95 % of the energy, share of the full rank"
    assert (share.null, share.definition) == ("n95_null", "n95 / r")
    assert metrics.metric("weight_statistics.p99_9").title == "99.9 % quantile"
    assert metrics.metric("super_weight_cards.null_p_topk_margin").definition.startswith("(1 + draws")
    units = {name: metrics.metric(f"super_weight_cards.no_op_delta_{name}").unit for name in ("loss", "topk_margin")}
    assert units == {"loss": "nats per token", "topk_margin": "number"}


def test_a_table_like_another_has_its_columns_under_its_own_name():
    view, ranks = metrics.of("spectrum_view"), metrics.of("effective_rank")
    assert view.columns == ranks.columns and view.map == ranks.map == ("role", "layer")
    assert {each.id for each in view.metrics} == {f"spectrum_view.{column}" for column in ranks.by_column}
    assert "sigma" not in ranks.columns and "sigma" in metrics.of("singular_values").lists


def test_labels_have_the_unit_where_there_is_one():
    assert metrics.metric("ablation_perplexity.delta_nll").label == "rise of the loss (nats per token)"
    assert metrics.metric("effective_rank.erank").label == "effective rank"
    assert metrics.metric("tensor_inventory.bytes").label == "stored bytes (bytes)"


def test_numbers_are_written_as_a_sentence_has_them():
    assert metrics.metric("super_weight_verification.delta_nll_low").said(0.01234) == "0.0123 nats per token"
    assert metrics.metric("token_counts.summary.tokens").written(1234567) == "1,234,567"
    assert metrics.metric("expert_routing.p_active").written(0.0312) == "3.1%"
    assert metrics.metric("heavy_tail.alpha").written(math.nan) == "missing"
    half = metrics.metric("token_counts.summary.coverage_rank.50%")
    assert half.value_in({"coverage_rank": {"50%": 7}}) == 7


ROWS = pd.DataFrame({"x": [2.0, None, 0.5, 8.0], "x_null": [2.0, 2.0, 1.0, 2.0]}, index=[4, 3, 2, 1])


@pytest.mark.parametrize(
    ("more", "order"),
    [
        ({"direction": "higher"}, [1, 4, 2, 3]),
        ({"direction": "lower"}, [2, 4, 1, 3]),
        ({"direction": "both", "null": "x_null"}, [1, 2, 4, 3]),
        ({"direction": "both", "null": 4.0, "scale": "log"}, [2, 4, 1, 3]),
        ({"direction": "both", "null": 4.0}, [1, 2, 4, 3]),
        ({}, [4, 3, 2, 1]),
    ],
)
def test_rows_are_ranked_by_what_is_unusual(more, order):
    metric = Metric(id="t.x", column="x", title="x", unit="number", level="tensor", **more)
    assert metric.ranked(ROWS).index.tolist() == order


def test_the_null_of_every_row():
    of = {null: Metric("t.x", "x", "x", "number", "tensor", null=null).null_of(ROWS) for null in ("x_null", 3, None)}
    assert of["x_null"].tolist() == [2.0, 2.0, 1.0, 2.0] and of[3].tolist() == [3.0] * 4 and of[None] is None


def test_a_file_of_the_results_is_one_table():
    for path, name in {
        "effective_rank/m.csv": "effective_rank",
        "effective_rank/m/trends.csv": "effective_rank.trends",
        "super_weights/a.b.csv": "super_weights",
        "super_weights/m.steps.csv": "super_weights.steps",
        "interventions/m.changes.parquet": "interventions.changes",
        "token_counts/m/text.json": "token_counts.summary",
    }.items():
        assert metrics.table_of(path).name == name
    assert metrics.table_of("effective_rank/m.png") is None and metrics.table_of("mine/m.csv") is None


def test_columns_are_those_that_the_steps_write():
    """Also where the default model has no such rows, as of experts."""
    left = ("residual_before", "residual_after", "residual_after_all", "found_by")
    for name, columns in {
        "super_weights": WEIGHT_COLUMNS,
        "super_weights.agreement": AGREEMENT_COLUMNS,
        "super_weight_verification": (*VERDICT_COLUMNS, *left),
        "expert_routing": (*EXPERT_COLUMNS, "impact_natural", "impact_interventional"),
    }.items():
        assert metrics.of(name).columns == set(columns)


def test_pages_choose_as_many_columns_as_fit():
    pages = {name: table.page for name, table in metrics.tables().items() if table.page}
    assert {"super_weights", "super_weight_verification", "expert_routing"} <= set(pages)
    assert all(len(page.columns) <= 16 for page in pages.values())


GOOD = """
t:
  file: t/{model}.csv
  rows: a thing
  level: tensor
  keys: [id]
  metrics:
    x: {title: x, unit: count, definition: a count}
    y: {title: y, unit: share, definition: a share}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit: share", "unit: shares", "unknown unit 'shares'"),
        ("unit: share", "unit: share, nulls: 1", "t.metrics.y.nulls: Extra inputs"),
        ("unit: share", 'unit: share, "null": z', "t has no column z"),
        ("unit: share", 'unit: share, "null": x', "t.y and x differ in unit"),
        ("unit: share", 'unit: share, "null": id', "t.y and id differ in unit"),
        ("unit: share", "unit: share, interval: [x, x]", "t.y and x differ in unit"),
        ("unit: share", "unit: share, direction: both", "far from the null"),
        ("definition: a share", 'definition: ""', "t.metrics.y.definition"),
        ("    y:", "    x:", "the key x stands twice"),
        ("keys: [id]", "keys: [id, {layer: x}]", "x stands twice"),
        ("keys: [id]", "keys: [name]", "t.keys"),
        ("level: tensor", "level: matrix", "t.level"),
        ("  keys: [id]", "  keys: [id]\n  page: {columns: [z]}", "t has no column z"),
        ("  keys: [id]", "  keys: [id]\n  page: {columns: [id], by: id}", "t has no column id"),
        ("  keys: [id]", "  keys: [id]\n  like: u", "no table is called u"),
        ("  keys: [id]", "  keys: [id]\n  without: [z]", "t has no column z"),
    ],
)
def test_what_the_registry_may_not_say(tmp_path, old, new, message):
    path = tmp_path / "part.yaml"
    path.write_text(GOOD)
    assert [each.format for each in read_tables(path)["t"].metrics] == [",", ".4g"]
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(AtlasError, match=re.escape(message)):
        read_tables(path)


def test_every_file_of_the_registry_is_read():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(PARTS)


def test_the_page_of_metrics_is_up_to_date():
    text = (ROOT / "docs/metrics.md").read_text()
    assert document(text) == text, "python -m weight_atlas.metrics.document docs/metrics.md"


def test_the_page_of_metrics_has_each_table_once():
    text = (ROOT / "docs/metrics.md").read_text()
    block = text[text.index("<!-- table cascade -->") :].partition("<!-- end -->")
    for wrong in (text + block[0] + block[1], text.replace("table cascade -->", "table cascades -->")):
        with pytest.raises(AtlasError, match="table cascade"):
            document(wrong)
    changed = text.replace("what the layer says", "").replace("mean KL(baseline", "KL(baseline")
    assert document(changed) == text != changed


def test_reading_the_registry_is_light():
    """Pages are written by the workflow itself where a run fails: it must not load what only steps need."""
    code = (
        "import sys; from weight_atlas import metrics; metrics.tables(); print({'pandas', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_findings_speak_as_the_registry_does():
    """Steps that compute do not read it, so that a better definition runs none of them again."""
    row = {**dict.fromkeys(EXPERT_COLUMNS, 1), "p_active": 0.0312, "max_output": 12345.678,
           "contribution_ratio": 1234.5, "super_expert": True, "candidate": True}  # fmt: skip
    (finding,) = expert_findings(pd.DataFrame([row]))
    table = metrics.of("expert_routing").by_column
    for name in ("p_active", "max_output", "contribution_ratio"):
        assert table[name].written(row[name]) in finding["text"]
