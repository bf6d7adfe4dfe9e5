"""A scan in Python: the numbers of the library and of results that are there, side by side and in a notebook."""

import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import weight_atlas as wa
from weight_atlas.artifacts import write_json, write_table
from weight_atlas.checkpoint.source import bundled
from weight_atlas.metrics import metric

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scope():
    return wa.Scope("bundled:demo")


@pytest.fixture(scope="module")
def scan(scope):
    return scope.scan(methods=["basic_stats", "spectral", "screening"], parallel=True, num_workers=1)


@pytest.fixture(scope="module")
def results(scan, tmp_path_factory):
    """What the workflow would have left of the scan, and of a second model whose ranks are others."""
    folder = tmp_path_factory.mktemp("results")
    for name, source in (("demo", "bundled:demo"), ("other", "hf://org/other")):
        write_json(folder / f"checkpoints/{name}.json", {"source": source})
        for analysis, table in scan.tables.items():
            other = analysis == "effective_rank" and name == "other"
            write_table(folder / analysis / f"{name}.csv", table.assign(erank=table["erank"] + 1) if other else table)
    (folder / "heavy_tail/other.csv").write_text("not_applicable\nno matrices\n")
    for name in ("", "/roles", "/tensors", "/heads", "/tokens", "/alone", "/files"):
        write_table(folder / f"comparison/pair{name}.csv", pd.DataFrame({"id_a": [name]}))
    findings = [{"grade": "notable", "text": "other was made from demo"}]
    write_json(folder / "comparison/pair.json", {"a": "demo", "b": "other", "findings": findings})
    return folder


def test_tables_are_those_of_the_methods(scope, scan):
    assert list(scan.tables) == ["weight_statistics", "effective_rank", "heavy_tail", "super_weight_screening"]
    pd.testing.assert_frame_equal(scan["effective_rank"], scope.model.effective_rank())
    pd.testing.assert_frame_equal(scan["weight_statistics"], scope.model.statistics())
    assert {"outlier_weight", "spikes"} <= set(scan.findings["id"])


def test_results_are_read_and_hold_equal_numbers(scan, results):
    read = wa.Scope("demo", results=results).scan(["basic_stats", "spectral", "screening"])
    for name, table in scan.tables.items():
        numbers = table.select_dtypes("number").columns
        np.testing.assert_array_equal(read[name][numbers].astype(float), table[numbers].astype(float))
    assert read.findings["text"].tolist() == scan.findings["text"].tolist()
    with pytest.raises(wa.AtlasError, match="did you mean 'demo'"):
        wa.Scope("dmeo", results=results)


def test_top_issues_are_ranked_by_the_registry_beside_their_nulls(scan):
    with pytest.raises(wa.AtlasError, match="no number of rows"):
        scan.top_issues(-1)
    issues = scan.top_issues(3)
    assert (issues.groupby("metric").size() <= 3).all()
    first = issues[issues["metric"] == "effective_rank.condition"].iloc[0]
    worst = metric("effective_rank.condition").ranked(scan["effective_rank"]).iloc[0]
    assert (first["place"], first["value"], first["null"]) == (worst["id"], worst["condition"], worst["condition_null"])


def test_two_models_side_by_side(results):
    here = wa.Scope("bundled:demo", results=results)
    both = here.compare_with("org/other", methods=["ranks", "basic_stats"])
    assert (both["effective_rank"]["erank_difference"].round(9) == 1).all()
    assert (both["weight_statistics"]["std_difference"] == 0).all()
    assert len(both["weight_statistics"]) == len(here.scan(["basic_stats"])["weight_statistics"])
    assert both["comparison.heads"]["id_a"].tolist() == ["/heads"]
    assert both["comparison.findings"]["text"].tolist() == ["other was made from demo"]


def test_a_pair_that_no_results_hold_is_compared_here(scope, tmp_path):
    """Its numbers are those of the comparison, and a planted change is found as what it is."""
    shutil.copytree(bundled("demo"), tmp_path / "edited")
    file = next((tmp_path / "edited").glob("*.safetensors"))
    tensors = load_file(file)
    changed = next(name for name in tensors if "down_proj" in name)
    tensors[changed] = tensors[changed] * 2
    save_file(tensors, file, {"format": "pt"})
    both = scope.compare_with(str(tmp_path / "edited"))
    rows = both["comparison"].set_index("id_a")
    assert rows.index[rows["changed"] > 0].tolist() == [changed]
    assert rows.loc[changed, "relative"] == pytest.approx(1) and rows.loc[changed, "cosine"] == pytest.approx(1)
    assert changed in both["comparison.tensors"]["id_a"].tolist()
    assert "effective_rank" not in both and len(both["comparison.findings"])


def test_what_does_not_apply_says_so(results):
    scan = wa.Scope("other", results=results).scan(["spectral"])
    assert scan.not_applicable == {"heavy_tail": "no matrices"}
    with pytest.raises(wa.NotApplicable, match="no matrices"):
        scan["heavy_tail"]
    with pytest.raises(wa.AtlasError, match="unknown analysis"):
        scan["cascade"]
    with pytest.raises(wa.AtlasError, match="is not computed here"):
        wa.Scope("bundled:demo").scan(["cascade"])


def test_a_notebook_shows_findings_and_no_markup_of_others(scan):
    shown = scan._repr_html_()
    assert "notable" in shown and "kurtosis" in shown
    hostile = type(scan)("<script>", {}, scan.findings.assign(text="<img onerror=x>"), {})
    assert "<script>" not in hostile._repr_html_() and "<img" not in hostile._repr_html_()
    assert repr(scan).startswith("<scan of bundled:demo: weight_statistics, effective_rank")
