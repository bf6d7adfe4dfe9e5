"""What a scan found as JSON, JUnit XML and SARIF, on the screen, and held to thresholds; on results made by hand."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from weight_atlas.command.engine import Failure
from weight_atlas.command.formats import as_json, as_junit, as_sarif, check_outputs, write_outputs
from weight_atlas.command.project import Project
from weight_atlas.command.results import Extract, Result, exceeded, product_of, result_of
from weight_atlas.command.screen import print_extract, print_failures, print_result
from weight_atlas.command.thresholds import held_to, read_thresholds
from weight_atlas.errors import AtlasError
from weight_atlas.metrics import metric, tables
from weight_atlas.metrics.ranked import RANKED
from weight_atlas.settings.analyses import ANALYSES
from weight_atlas.settings.methods import METHODS, NOT_ONE_TABLE, analyses_of

HOSTILE = "\x1b[2J[red]</failure>\u202e"
RANKS = """\
id,tensor,role,layer,r,cols,erank,erank_relative,condition,condition_null,stable_rank,n90
model.layers.0.q.weight,t,W_Q,0,64,64,40,0.8,100,300,2,30
model.layers.1.q.weight,t,W_Q,1,64,64,4,0.1,1e9,300,2,3
model.layers.1.norm.weight,t,norm,1,64,,1,0.01,1e12,300,2,3
model.layers.2.o.weight,t,W_O,2,64,64,50,0.9,200,300,2,40
"""


def finding(name, grade, text="it is so", **more):
    found = {
        "id": name, "grade": grade, "analysis": "effective_rank", "place": "model.layers.1.q.weight", "text": text,
        "places": ["model.layers.1.q.weight"], "remedy": "mend it", "count": 1, "looked_at": 3, "value": 1e9,
        "null_value": 300.0, "effect": None, "evidence": {"file": "effective_rank/m.csv", "rows": [1]},
    }  # fmt: skip
    return {**found, **more}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "effective_rank/m.csv": RANKS,
        "heavy_tail/m.csv": "not_applicable\nno matrices here\n",
        "checkpoints/m.json": '{"revision": null, "files": [{"size": 1500}, {"size": 500}]}',
        "findings/m.json": json.dumps(
            {"findings": [finding("ill_conditioned", "critical", HOSTILE), finding("low_effective_rank", "info")]}
        ),
    }
    for name, content in files.items():
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    project = Project(Path())
    project.document = {"models": {"m": {"source": "bundled:demo", "analyses": ["effective_rank", "heavy_tail"]}}}
    return project


@pytest.fixture
def result(project):
    return result_of(project, "m", ["effective_rank", "heavy_tail"], 2)


def test_the_worst_rows_as_the_registry_ranks_them(project, result):
    import pandas as pd

    table = pd.read_csv(io.StringIO(RANKS)).query("cols == cols")
    assert [each.metric.id for each in result.tables] == ["effective_rank.condition", "effective_rank.erank_relative"]
    for shown in result.tables:
        assert [row["id"] for row in shown.rows] == shown.metric.ranked(table)["id"].tolist()[:2]
        assert shown.of == 3, "a vector is left out"
    assert result.skipped == {"heavy_tail": "no matrices here"}
    assert result.facts == {"revision": None, "files": 2, "bytes": 2000}


def test_json_holds_each_number_beside_its_null(result):
    content = json.loads(as_json([result], [Failure("it broke", "heavy_tail m", ["a.log"])]))
    (model,) = content["models"]
    worst = model["tables"][0]["rows"][0]
    assert worst["condition"] == 1e9 and worst["null"] == 300
    assert model["tables"][1]["rows"][0]["null"] == metric("effective_rank.erank_relative").null
    assert [each["grade"] for each in model["findings"]] == ["critical", "info"]
    assert content["failures"][0]["step"] == "heavy_tail m"


def test_junit_fails_what_is_critical(result):
    root = ElementTree.fromstring(as_junit([result], [Failure("it broke", "heavy_tail m")]))
    (first, second), (third,) = (suite.findall("testcase") for suite in root)
    assert first.find("failure").get("type") == "critical" and second.find("failure") is None
    assert third.find("error").get("message") == "it broke"
    assert root[0].attrib == {"name": "m", "tests": "2", "failures": "1", "errors": "0"}
    assert "[red]</failure>" in first.find("failure").get("message")


def test_sarif_has_a_level_for_each_grade_and_a_place_in_a_file(result):
    content = json.loads(as_sarif([result], []))
    (run,) = content["runs"]
    assert content["version"] == "2.1.0"
    assert [each["level"] for each in run["results"]] == ["error", "note"]
    rules = [each["id"] for each in run["tool"]["driver"]["rules"]]
    assert [rules[each["ruleIndex"]] for each in run["results"]] == [each["ruleId"] for each in run["results"]]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    # The second row of the table stands in the third line of the file, below its header.
    assert place == {"artifactLocation": {"uri": "results/effective_rank/m.csv"}, "region": {"startLine": 3}}


def test_no_text_of_others_reaches_the_terminal_as_more_than_text(result, capsys):
    screen = Console(file=io.StringIO(), width=100, force_terminal=True, highlight=False)
    print_result(result, screen=screen)
    shown = screen.file.getvalue()
    assert "\x1b[2J" not in shown and "\u202e" not in shown
    assert r"\x1b[2J[red]</failure>\u202e" in shown
    print_failures([Failure(HOSTILE, HOSTILE, [HOSTILE])])
    assert "\x1b" not in capsys.readouterr().err


def test_long_names_in_findings_are_whole_on_narrow_screens():
    name = "model.layers.11.self_attn.q_proj.weight_of_some_length"
    screen = Console(file=io.StringIO(), width=40, highlight=False)
    print_result(Result("m", "m", {}, [{"grade": "info", "text": f"{name} differs."}], []), screen=screen)
    shown = screen.file.getvalue()
    assert "…" not in shown and name in re.sub(r"\s", "", shown)


def test_the_screen_says_what_is_worst_and_what_chance_gives(result):
    screen = Console(file=io.StringIO(), width=100, highlight=False)
    print_result(result, screen=screen)
    text = screen.file.getvalue()
    for said in (
        "m  bundled:demo, 2 kB  1 critical  1 info",
        "condition number: highest 2 of 3",
        "by chance",
        "layers.1.q ",
        "heavy_tail does not apply: no matrices here",
        "effective_rank/m.csv; by chance 1",
    ):
        assert said in text, said
    assert "\x1b" not in text, "no colour where there is no terminal"


def test_a_narrow_screen_shows_whole_numbers_beside_their_nulls_and_says_what_it_leaves_out():
    row = {"checkpoint": "pythia-70m@step143000", "first_value": 63.12345, "equal": 0.4567, "equal_null": 0.00123}
    row |= {"row_norms": 0.98, "名": "x"}
    found = Extract("Pairs", "pairs.csv", list(row), [row])
    shown = {}
    for width in (40, 52, 120):
        screen = Console(file=io.StringIO(), width=width, highlight=False)
        print_extract(found, screen)
        shown[width] = screen.file.getvalue()
        assert all(len(line.rstrip()) <= width for line in shown[width].splitlines()[:-1])
        assert "63.12" in shown[width]
    assert "0.4567" not in shown[40] and "also equal, equal_null, row_norms, 名" in shown[40]
    assert "0.4567" in shown[52] and "0.00123" in shown[52] and "also row_norms, 名" in shown[52]
    assert "also" not in shown[120] and "pythia-70m@step143000" in shown[120]


def test_thresholds_accept_grade_and_limit(project, result, tmp_path):
    path = tmp_path / "thresholds.yaml"
    path.write_text(
        "ignore: [low_effective_rank]\ngrades: {ill_conditioned: notable}\n"
        "limits:\n  effective_rank.condition: {most: 150, roles: [W_Q]}\n  effective_rank.erank: {least: 0.5}\n"
        "  sparsity.gini: {most: 1, grade: info}\n"
    )
    held = held_to(read_thresholds(path), result, project)
    assert [(each["id"], each["grade"]) for each in held.findings] == [
        ("threshold.effective_rank.condition", "critical"),
        ("ill_conditioned", "notable"),
        ("threshold.sparsity.gini", "info"),
    ]
    broken, _, missing = held.findings
    assert broken["places"] == ["model.layers.1.q.weight"] and broken["looked_at"] == 2
    ranks = tmp_path / "results/effective_rank/m.csv"
    ranks.write_text(ranks.read_text().replace("W_Q", "W_K", 1))
    (broken, *_) = held_to(read_thresholds(path), result, project).findings
    assert broken["evidence"]["rows"] == [1] and broken["looked_at"] == 1, "the row of the file"
    assert (broken["value"], broken["null_value"]) == (1e9, 150)
    assert "there is no sparsity/{model}.csv" in missing["text"]
    assert exceeded(held.worst, "critical") and not exceeded("notable", "critical") and exceeded("notable", "info")


@pytest.mark.parametrize(
    ("numbers", "ids", "grade"),
    [
        ([100, "", 200], ["no_number"], "info"),
        (["nan", 100, 200], ["no_number"], "info"),
        ([1e9, "nan", ""], ["condition", "no_number"], "critical"),
        (["inf", 100, 200], ["condition"], "critical"),
        (["", "nan", ""], ["no_number"], "critical"),
        ([100, 200, 300], [], None),
    ],
)
def test_rows_without_a_number_pass_no_limit_unsaid(project, result, tmp_path, numbers, ids, grade):
    path = tmp_path / "thresholds.yaml"
    path.write_text("limits: {effective_rank.condition: {most: 1000, least: 1}}")
    rows = "".join(f"t{row},W_Q,{number}\n" for row, number in enumerate(numbers))
    (tmp_path / "results/effective_rank/m.csv").write_text(f"id,role,condition\n{rows}")
    held = held_to(read_thresholds(path), replace(result, findings=[]), project)
    assert [each["id"].rpartition(".")[2] for each in held.findings] == ids and held.worst == grade
    assert len(json.loads(as_json([held], []))["models"][0]["findings"]) == len(ids)
    if "no_number" in ids:
        told = next(each for each in held.findings if each["id"].endswith("no_number"))
        without = [row for row, number in enumerate(numbers) if number in ("", "nan")]
        assert told["evidence"]["rows"] == without and told["places"] == [f"t{row}" for row in without]
        assert f"{len(without)} of 3 have no number, and are held to no limit: t{without[0]}" in told["text"]


def test_a_limit_that_holds_nothing_says_why(project, result, tmp_path):
    path = tmp_path / "thresholds.yaml"
    path.write_text("limits: {heavy_tail.alpha: {least: 2}, effective_rank.erank: {least: 1, roles: [W_down]}}")
    texts = [each["text"] for each in held_to(read_thresholds(path), replace(result, findings=[]), project).findings]
    assert "does not apply: no matrices here" in texts[0] and "has no row of W_down" in texts[1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("limits: {effective_rank.kondition: {most: 1}}", "no metric is called"),
        ("limits: {effective_rank.condition: {}}", "A limit needs|a limit needs"),
        ("limit: {}", "unknown key 'limit'"),
        ("a: [", "not valid YAML"),
        ("limits: {effective_rank.condition: {mots: 1}}", "did you mean 'most'"),
        ("limits: {effective_rank.condition: {most: 1, roles: [W_Qu]}}", "unknown role 'W_Qu'"),
        ("ignore: [ill_conditoined]", "did you mean 'ill_conditioned'"),
        ("grades: {ill_conditoined: info}", "did you mean 'ill_conditioned'"),
        ("ignore: [no_step.1]", "unknown finding"),
    ],
)
def test_a_wrong_file_of_thresholds_is_one_message(tmp_path, text, what):
    path = tmp_path / "thresholds.yaml"
    path.write_text(text)
    with pytest.raises(AtlasError) as error:
        read_thresholds(path)
    assert re.search(what, str(error.value))


def test_names_of_findings_and_roles_that_there_are_pass(tmp_path):
    path = tmp_path / "thresholds.yaml"
    path.write_text(
        "ignore: [ill_conditioned, comparison.2]\n"
        "limits: {effective_rank.condition: {most: 1, roles: [W_Q+W_K, W_Q.bias]}}"
    )
    assert read_thresholds(path).ignore == ["ill_conditioned", "comparison.2"]


def test_limits_of_a_pair_hold_a_pair_and_no_model(project, result, tmp_path):
    path = tmp_path / "thresholds.yaml"
    path.write_text("limits: {comparison.relative: {most: 0.01}, lineage.sign_distance: {most: 0.1}}")
    thresholds = read_thresholds(path)
    for file, text in {
        "comparison/a-vs-b.csv": "id_a,role,relative\nq,W_Q,0.5\n", "lineage/models.csv": "a,b,sign_distance\nx,y,0.5\n"
    }.items():  # fmt: skip
        (project.results / file).parent.mkdir(parents=True, exist_ok=True)
        (project.results / file).write_text(text)
    pair = held_to(thresholds, Result("a-vs-b", "a -> b", {}, [], [], folder=project.results, of="pair"), project)
    assert [(each["value"], each["places"]) for each in pair.findings] == [(0.5, ["q"]), (0.5, ["x and y"])]
    (first,) = [each for each in held_to(thresholds, result, project).findings if "comparison" in each["id"]]
    assert first["remedy"] == "it is of a pair: hold one to it, and not a model"


def test_files_are_written_as_their_names_end(project, result, tmp_path):
    paths = [tmp_path / f"out/report{suffix}" for suffix in (".json", ".xml", ".sarif", ".html", ".svg")]
    check_outputs(paths)
    write_outputs(paths, [result], [])
    first = [path.read_bytes() for path in paths]
    write_outputs(paths, [result], [])
    assert first == [path.read_bytes() for path in paths], "the same bytes again"
    assert b"condition number" in first[3] and b"&#160;" in first[4]
    with pytest.raises(AtlasError, match="no format"):
        check_outputs([tmp_path / "report.pdf"])


def test_methods_are_analyses_of_the_weights_alone_with_tables_that_are_there():
    files = {table.file for table in tables().values()}
    for names in METHODS.values():
        assert {*names} <= {*ANALYSES}
    for name in analyses_of(name for name in ANALYSES if name not in NOT_ONE_TABLE):
        assert product_of(name, "{model}") in files
    for each in RANKED:
        table = tables()[each.metric.rpartition(".")[0]]
        assert {*each.beside} <= table.columns, each
        assert metric(each.metric).direction != "none"
    assert analyses_of(["ranks", "effective_rank", "all"])[0] == "weight_statistics"
    with pytest.raises(AtlasError, match="did you mean 'spectral'"):
        analyses_of(["spectrl"])
