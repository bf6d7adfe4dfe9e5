"""The pages of the atlas as files: what they hold is what the tables hold, and texts of others stay texts."""

import base64
import json
import re
import zlib

import html5lib
import numpy as np
import pandas as pd
import pytest
from atlas_results import HOSTILE, findings_of, inventory, write_atlas, write_results

from weight_atlas import metrics
from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.findings.gather import stated
from weight_atlas.not_applicable import write_not_applicable
from weight_atlas.pages.html.encoding import in_chunks, json_text, packed
from weight_atlas.pages.html.evidence import strip
from weight_atlas.pages.html.grids import tensor_grid
from weight_atlas.pages.html.index_page import write_index
from weight_atlas.pages.html.marks import marks_of
from weight_atlas.pages.html.measures import changes, measures
from weight_atlas.pages.html.sources import changes_against
from weight_atlas.pages.step_costs import write_step_costs


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_atlas(tmp_path_factory.mktemp("pages") / "results", "m", experts=4)


def map_of(page):
    """The data of the map in a page."""
    (found,) = re.findall(r'<script type="application/json" id="page">(.*?)</script>', page.read_text(), flags=re.S)
    return json.loads(found)


def chunk(path):
    """The value that a chunk hands over."""
    value = json.loads(re.fullmatch(r'atlas\.take\("[^"]*",(.*?)(,true)?\);\n', path.read_text(), flags=re.S)[1])
    return json.loads(zlib.decompress(base64.b64decode(value))) if isinstance(value, str) else value


def unpacked(packed):
    return np.frombuffer(base64.b64decode(packed["data"]), dtype=f"<{packed['type']}")


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.5, np.nan, np.inf], "f4"), ([1.0, 16_777_215.0], "f4"), ([1.0, 16_777_217.0], "f8"), ([1e300, 0.5], "f8")],
)
def test_packed_numbers_come_back(values, kind):
    sent = packed(np.array(values))
    assert sent["type"] == kind
    np.testing.assert_allclose(unpacked(sent), values, rtol=6e-8)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_page_is_plain_letters(text):
    written = json_text({"x": text})
    assert json.loads(written) == {"x": text} and written.isascii() and not set("<>&'") & set(written)


def test_chunks_are_filled_in_order():
    assert in_chunks([4, 5, 2, 20, 1], 10) == [0, 0, 1, 2, 3]


def test_the_map_has_each_tensor_once_where_it_is_in_the_model():
    tensors = inventory(3, experts=4)
    grid = tensor_grid(tensors)
    cells = grid["cells"]
    assert sorted(cells["id"]) == sorted(tensors["id"])
    place = {name: (cells["row"][i], grid["columns"][cells["column"][i]]) for i, name in enumerate(cells["id"])}
    assert place["embed"][1] == "in" and place["head"][1] == "out" == place["norm"][1]
    assert [place[f"layers.{layer}.W_Q"] for layer in range(3)] == [
        (place["layers.0.W_Q"][0], str(i)) for i in range(3)
    ]
    assert len({place[f"layers.1.experts.{expert}.W_up"] for expert in range(4)}) == 1
    labels = [row["label"] for row in grid["rows"]]
    assert labels.index("W_Q") < labels.index("bias of W_Q") < labels.index("W_K") < labels.index("W_gate")
    assert labels.index("pre attention norm") < labels.index("W_Q") and labels[-2:] == ["final norm", "W_U"]


def test_all_numbers_of_the_map_are_those_of_the_tables(page):
    data, tensors = map_of(page), read_table(page.parents[2] / "weight_statistics/m.csv").set_index("id")
    ids = data["grids"][0]["cells"]["id"]
    seen = set()
    for metric in data["metrics"]:
        if metric["step"] == "weight_statistics":
            values = chunk(page.with_suffix("") / f"metrics/{metric['chunk']}.js")[f"tensor/{metric['id']}"]
            column = metric["id"].rpartition(".")[2]
            np.testing.assert_allclose(unpacked(values["v"]), tensors.loc[ids, column], rtol=6e-8)
            seen.add(column)
            assert column != "dynamic_range" or values["n"] == 5.0
    assert seen == {"kurtosis", "std", "dynamic_range"}, "nulls and sizes are no metrics by themselves"
    heads = [metric["id"] for metric in data["metrics"] if metric["grid"] == "head"]
    assert heads == ["attention_head.erank:QK", "attention_head.erank:OV"]


def test_super_weights_and_findings_are_marks_on_their_cells(page):
    data = map_of(page)
    ids = data["grids"][0]["cells"]["id"]
    (star,) = data["stars"]
    assert ids[star["cell"]] == "layers.0.experts.0.W_down" and (star["row"], star["column"]) == (3, 5)
    marks = {ids[mark["cell"]]: mark for mark in data["marks"]}
    tensors = inventory(3, experts=4)
    assert marks[tensors["id"].iloc[9]]["grade"] == "notable"
    assert marks["layers.0.experts.0.W_down"] == {"cell": star["cell"], "grade": "critical", "findings": [1]}


def test_a_finding_links_the_cell_of_its_gravest_place(tmp_path, monkeypatch):
    """Not of the one that comes first in the model."""

    def in_two_places(tensors, text):
        (first, *others) = findings_of(tensors, text)
        places = ["layers.0.W_Q", "layers.2.W_Q"]
        return [{**first, "place": places[1], "places": places, "count": 2}, *others]

    monkeypatch.setattr("atlas_results.findings_of", in_two_places)
    text = write_atlas(tmp_path / "results").read_text()
    assert 'data-cell="layers.2.W_Q">layers.2.W_Q</a> and 1 more' in text


def test_the_chart_of_a_finding_has_all_that_was_looked_at():
    tensors = inventory(3)
    table = pd.DataFrame(
        {"id": tensors["id"], "rows": 16, "cols": 16, "absmax": 1.0, "role": "W_Q", "dynamic_range": 5.0, "std": 1.0,
         "dynamic_range_null": 5.0, "zeros": 0, "n": 256, "max": 1.0, "min": -1.0, "rms": 1.0}
    )  # fmt: skip
    table.loc[9, "dynamic_range"] = 400.0
    finding = {**findings_of(tensors, "x")[0], "id": "outlier_weight"}
    chart = strip(finding, {"weight_statistics/m.csv": table})
    assert len(chart["dots"]) == len(table) and sum(hit for *_, hit in chart["dots"]) == 1
    assert max(x for x, _, hit in chart["dots"] if not hit) < next(x for x, _, hit in chart["dots"] if hit)
    assert strip({**finding, "value": None}, {}) is None


def test_places_that_verification_states_are_marked_on_the_map():
    names = [
        f"model.layers.{layer}.{name}"
        for layer in (2, 12)
        for name in ("norm_1.weight", "a.v_proj.weight", "a.v_proj.bias")
    ]
    grid = {"cells": {"id": names}}
    for place, cell in {
        "Layer 2 norm norm_1 [7]": 0, "layer 12 W_V a.v_proj [:, 7]": 4, "Layer 2 W_V.bias a.v_proj [3]": 2,
        "Layer 2 W_Q a.q_proj [3, 1]": None, "Layer 3 norm norm_1 [7]": None, "Layer 2 W_up [1, 2]": None,
    }.items():  # fmt: skip
        marks = marks_of([grid], [{"places": [place], "grade": "critical"}], [])
        assert [mark["cell"] for mark in marks] == ([] if cell is None else [cell]), place


def test_the_chart_of_a_stated_number_says_what_it_is():
    said = {"grade": "info", "text": "", "value": 3.0, "null_value": 1.0}
    for name in ("super_weight_verification.delta_nll", "massive_activations.ratio", "massive_activations.heads.share"):
        assert strip(stated("any", 0, {**said, "metric": name}, "a.json"), {})["title"] == metrics.metric(name).label
    assert strip(stated("any", 0, said, "a.json"), {})["title"] == "value"


@pytest.mark.parametrize("texts", [("a", "b"), HOSTILE])
def test_pages_are_valid_html_and_texts_stay_texts(tmp_path, texts):
    page = write_atlas(tmp_path / "results", "m", texts=texts)
    index = tmp_path / "results/atlas/index.html"
    write_index(index, index.parent / "index", [read_json(tmp_path / "results/atlas/m.json")], [], [], {})
    for file in (page, index):
        tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(file.read_text())
        assert [each for each in tree.iter("img") if each.get("src") == "x"] == []
        assert all(each.get("src") or each.get("type") == "application/json" for each in tree.iter("script"))
    chunks = "".join(path.read_text() for path in page.with_suffix("").rglob("*.js"))
    assert chunks.isascii() and "<" not in chunks


def test_a_page_is_written_twice_with_the_same_bytes(tmp_path):
    pages = [write_atlas(tmp_path / each / "results", "m") for each in "ab"]
    files = [sorted(path for path in page.parents[1].rglob("*") if path.is_file()) for page in pages]
    assert len(files[0]) > 10
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_a_model_without_tensors_on_record_has_a_page_without_a_map(tmp_path):
    from weight_atlas.pages.html.model_page import write_model_page
    from weight_atlas.pages.html.sources import Artifacts
    from weight_atlas.pages.page import Product

    write_results(tmp_path / "results", "m")
    page = tmp_path / "results/atlas/models/m.html"
    products = [(Product("token_counts", "How to read it.", not_applicable="no tokenizer"), {})]
    write_model_page(page, page.with_suffix(""), "m", products, [], [], Artifacts(), [("x", "<b>")])
    text = page.read_text()
    assert '<canvas id="canvas"' not in text and "no tokenizer" in text and "&lt;b&gt;" in text
    html5lib.HTMLParser(strict=True).parse(text)


def test_of_tables_with_the_same_metrics_the_fuller_one_colours_the_map():
    """spectrum_view has the columns of effective_rank for a few matrices, and comes later."""
    grid = tensor_grid(inventory(2))
    ranks = pd.DataFrame({"id": grid["cells"]["id"], "erank_relative": 0.5})
    found = measures(grid, {"effective_rank": ranks, "spectrum_view": ranks.head(3)})
    assert [each.id for each in found] == ["effective_rank.erank_relative"]


@pytest.mark.parametrize(("model", "other", "side"), [("tuned", "base", "b"), ("base", "tuned", "a")])
def test_what_tells_a_model_from_another_colours_its_own_map(tmp_path, model, other, side):
    write_json(tmp_path / "pair.json", {"a": "base", "b": "tuned"})
    both = {
        "id_a": ["x.W_Q", "gone"],
        "id_b": ["y.W_Q", "new"],
        "relative": [0.25, 1.0],
        "relative_null": 1.4,
        "n": 256,
    }
    write_table(tmp_path / "pair.csv", pd.DataFrame(both))
    write_not_applicable(tmp_path / "none.csv", "nothing in common")
    tables = [tmp_path / "pair.csv", tmp_path / "none.csv"]
    found = changes_against(model, tables, [tmp_path / "pair.json", tmp_path / "pair.json"])
    grid = tensor_grid(inventory(1))
    own = {"a": "x", "b": "y"}[side]
    grid["cells"]["id"] = [f"{own}.W_Q" if name == "layers.0.W_Q" else name for name in grid["cells"]["id"]]
    (change,) = changes(grid, found)
    assert change.about["title"] == f"relative change · against {other}"
    (cell,) = np.flatnonzero(np.isfinite(change.values))
    assert grid["cells"]["id"][cell] == f"{own}.W_Q" and (change.values[cell], change.nulls[cell]) == (0.25, 1.4)


def test_what_steps_took_is_written_beside_pages_only(tmp_path):
    (tmp_path / "benchmarks/heavy_tail").mkdir(parents=True)
    (tmp_path / "benchmarks/heavy_tail/m.tsv").write_text("s\tcpu_time\tmax_rss\n1.5\tNA\t7")
    write_step_costs(tmp_path / "benchmarks", tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()
    (tmp_path / "atlas/assets").mkdir(parents=True)
    write_step_costs(tmp_path / "benchmarks", tmp_path / "atlas")
    assert chunk(tmp_path / "atlas/steps.js")["cells"] == [["heavy_tail"], ["m"], [1.5], [None], [7.0]]


def test_the_index_links_the_pages_of_token_weights(tmp_path):
    index = tmp_path / "atlas/index.html"
    vector = {"model": "norms <b>", "href": "vectors/norms #1.html", "findings": [], "headline": [["mean", "1.5"]]}
    write_index(index, index.parent / "index", [], [], [], {"token weights": [vector]})
    tree = html5lib.HTMLParser(namespaceHTMLElements=False).parse(index.read_text())
    (part,) = (each for each in tree.iter("section") if each.get("id") == "token-weights")
    assert [(each.get("href"), each.text) for each in part.iter("a")] == [("vectors/norms%20%231.html", "norms <b>")]
    assert "mean: 1.5" in "".join(part.itertext())
