"""What does not apply leaves artifacts that say why, and what builds on them does not apply either."""

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from weight_atlas.ablations.impact_files import Measured, impact_of
from weight_atlas.artifacts import read_json, read_table, write_json, write_table, write_text
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.figures.style import message, save_figure
from weight_atlas.not_applicable import applicable, if_applicable, left_without, reason_of, write_not_applicable
from weight_atlas.pages.pages import Places, write_overview, write_page
from weight_atlas.settings.ablations import AblationImpact
from weight_atlas.workflow.step import run_step

ROOT = Path(__file__).parents[2]
REASON = "BertForMaskedLM has no causal $head_1$ | <b>, ünï"
NAMES = ["a.csv", "a.parquet", "a.jsonl", "a.json", "a.md", "a.png"]


def step(tmp_path, main, inputs=None, outputs=None, options=None, monkeypatch=None):
    """Run a main() as a job."""
    monkeypatch.setattr("weight_atlas.workflow.step._die_with_workflow", lambda: None)
    monkeypatch.setattr("weight_atlas.workflow.step._limit_threads", lambda threads: None)
    fields = {"input": inputs or {}, "output": outputs or {}, "params": {"options": options or {}}, "wildcards": {}}
    run_step(main, {"snakemake": SimpleNamespace(rule="step", threads=1, log=[], resources={}, **fields)})


def test_a_step_that_does_not_apply_leaves_every_output_with_the_reason_and_succeeds(tmp_path, monkeypatch, capfd):
    def main(a: Path, *, csv: Path, parquet: Path, jsonl: Path, json: Path, md: Path, png: Path, folder: Path) -> None:
        write_table(csv, pd.DataFrame({"half": [1]}))
        raise NotApplicable(REASON, where="model", remedy="nothing")

    outputs = {name.partition(".")[2]: tmp_path / "x" / name for name in NAMES} | {"folder": tmp_path / "x/figures"}
    step(tmp_path, main, {"a": "a"}, {name: str(path) for name, path in outputs.items()}, monkeypatch=monkeypatch)
    assert f"not applicable: {REASON}" in capfd.readouterr().out
    assert {path.name for path in (tmp_path / "x").iterdir()} == {*NAMES, "figures"}
    assert {name: reason_of(tmp_path / "x" / name) for name in NAMES} == dict.fromkeys(NAMES, REASON)
    for name in NAMES[:3]:
        with pytest.raises(NotApplicable) as raised:
            read_table(tmp_path / "x" / name)
        assert raised.value.what == REASON
    with pytest.raises(NotApplicable):
        read_json(tmp_path / "x/a.json")


def test_what_reads_such_an_artifact_does_not_apply_either(tmp_path, monkeypatch):
    def main(found: Path, *, table: Path) -> None:
        write_table(table, pd.DataFrame(read_json(found)["rows"]))

    write_not_applicable(tmp_path / "found.json", REASON)
    step(tmp_path, main, {"found": tmp_path / "found.json"}, {"table": tmp_path / "t.csv"}, monkeypatch=monkeypatch)
    assert reason_of(tmp_path / "t.csv") == REASON


def test_the_same_from_the_command_line(tmp_path):
    write_not_applicable(tmp_path / "sigma.parquet", REASON)
    outputs = {"--table": "t.csv", "--summary": "s.json", "--figure": "f.png", "--densities": "d.png"}
    options = {"--singular-values": "sigma.parquet", **outputs}
    command = [sys.executable, ROOT / "scripts/heavy_tail.py", *(part for pair in options.items() for part in pair)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"not applicable: {REASON}" in done.stdout
    assert [reason_of(tmp_path / name) for name in outputs.values()] == [REASON] * 4


def test_the_artifacts_have_the_same_bytes_each_time(tmp_path):
    for name in NAMES:
        write_not_applicable(tmp_path / name, REASON)
        first = (tmp_path / name).read_bytes()
        write_not_applicable(tmp_path / name, REASON)
        assert (tmp_path / name).read_bytes() == first, name


def test_artifacts_that_hold_something_have_no_reason(tmp_path):
    write_table(tmp_path / "a.csv", pd.DataFrame({"not_applicable": [1], "x": [2]}))
    write_table(tmp_path / "a.parquet", pd.DataFrame({"x": []}))
    write_table(tmp_path / "a.jsonl", pd.DataFrame({"x": [1]}))
    write_json(tmp_path / "a.json", {"not_applicable": {}, "headline": []})
    write_text(tmp_path / "a.md", "# Not applicable: no\n")
    save_figure(tmp_path / "a.png", message("x"))
    assert [reason_of(tmp_path / name) for name in NAMES] == [None] * 6
    assert len(read_table(tmp_path / "a.csv")) == 1 and "headline" in read_json(tmp_path / "a.json")


def test_several_models_go_on_without_those_it_does_not_apply_to(tmp_path, capsys):
    write_not_applicable(tmp_path / "a.csv", "one")
    write_not_applicable(tmp_path / "c.csv", "two")
    write_table(tmp_path / "b.csv", pd.DataFrame({"x": [1]}))
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    assert list(applicable(paths)) == [tmp_path / "b.csv"]
    assert "a.csv: one" in capsys.readouterr().out
    with pytest.raises(NotApplicable, match=r"^one; two$"):
        applicable([paths[0], paths[2], paths[0]])
    assert applicable([]) == {} and if_applicable(paths[0]) is None


def test_it_crosses_processes_as_what_it_is():
    error = pickle.loads(pickle.dumps(NotApplicable("a", where="b", remedy="c")))
    assert type(error) is NotApplicable and (error.what, error.where, error.remedy) == ("a", "b", "c")
    assert type(pickle.loads(pickle.dumps(AtlasError("a")))) is AtlasError


@pytest.fixture
def impact(tmp_path):
    """The impact of an ablation on a corpus and two tasks, of which some do not apply."""
    windows = pd.DataFrame(
        {"variant": "baseline", "window": [0, 1], "document": [0, 1], "tokens": [4, 4], "nll": [8.0, 9.0]}
    )
    zeroed = windows.assign(variant="mine: zeroed", nll=[9.0, 11.0])
    items = pd.DataFrame({"variant": "mine: zeroed", "task": "t", "doc_id": [0, 1], "metric": "acc", "filter": "none",
                          "value": [1.0, 0.0], "weight": 1.0})  # fmt: skip
    record = {
        "variants": [{"variant": "mine: zeroed", "kind": "zero", "factor": 0.0}],
        "skipped": [],
        "chance": {"t": 0.5},
    }

    def run(corpus: bool, tasks: dict[str, bool]) -> pd.DataFrame:
        evaluated = dict.fromkeys(tasks, (record, items))
        files = {"text": (record, zeroed), **evaluated}
        unchanged = {"text": (record, windows), **{task: (record, items.assign(variant="baseline")) for task in tasks}}
        for folder, contents in (("baseline", unchanged), ("mine", files)):
            for part, (about, rows) in contents.items():
                path = tmp_path / folder / f"{part}.json"
                if {"text": corpus, **tasks}[part]:
                    write_json(path, about)
                    write_table(path.with_suffix(".parquet"), rows)
                else:
                    write_not_applicable(path, f"too long: {part}")
                    write_not_applicable(path.with_suffix(".parquet"), f"too long: {part}")
        found = [
            [tmp_path / folder / f"{part}.{end}" for folder in ("baseline", "mine") for part in parts]
            for parts in (tasks, ["text"])
            for end in ("json", "parquet")
        ]
        return impact_of("mine", Measured(*found), AblationImpact(resamples=100))

    return run


def test_a_task_that_does_not_apply_is_left_out_of_the_impact_with_a_note(impact):
    table = impact(True, {"short": True, "long": False})
    measured = table[table.task.notna()]
    assert list(measured.task) == ["text", "short"]
    assert measured.set_index("task").value["text"] == pytest.approx(np.exp(20 / 8))
    (note,) = table[table.task.isna()].itertuples()
    assert (note.variant, note.kind, note.note) == ("task long", "not applicable", "too long: long")


def test_an_impact_of_which_nothing_applies_does_not_apply(impact):
    with pytest.raises(NotApplicable, match="too long: text; too long: long"):
        impact(False, {"long": False})


def test_the_impact_of_an_ablation_without_measurements_does_not_apply():
    with pytest.raises(NotApplicable, match="nothing was measured of other"):
        impact_of("other", Measured([], [], [], []), AblationImpact(resamples=100))


def test_the_page_has_one_line_for_it_and_no_link_to_a_placeholder(tmp_path):
    results, captions = tmp_path / "results", [tmp_path / f"{name}.rst" for name in ("ranks", "super_weights")]
    for caption in captions:
        caption.write_text("How to read it.\n")
    write_table(results / "ranks/m.csv", pd.DataFrame({"x": [1]}))
    products = [results / "ranks/m.csv", *(results / "super_weights" / f"m{end}" for end in (".csv", ".json", ".png"))]
    for path in products[1:]:
        write_not_applicable(path, "it has no head")
    browser = results / "atlas/models/m.html"
    places = Places(results / "atlas/m.md", browser, browser.with_suffix(""), results / "atlas/m.json")
    write_page(places, "m", captions, products, [])
    text = (results / "atlas/m.md").read_text()
    assert text.endswith("## Super weights\n\nNot applicable: it has no head\n")
    assert "](../super_weights" not in text and text.count("How to read it.") == 1
    index = results / "atlas/index.html"
    write_overview(results / "overview/models.md", index, index.with_suffix(""), [results / "atlas/m.json"], [], [])
    text = (results / "overview/models.md").read_text()
    assert text.endswith("## [m](../atlas/m.md)\n\n- not applicable: Super weights: it has no head\n")


def test_a_part_of_a_step_that_does_not_apply_leaves_its_own_reason(tmp_path, capsys):
    with left_without([tmp_path / "a.csv", tmp_path / "a.png"]):
        raise NotApplicable("no positions")
    assert reason_of(tmp_path / "a.csv") == reason_of(tmp_path / "a.png") == "no positions"
    assert "not applicable: no positions" in capsys.readouterr().out
    with left_without([tmp_path / "b.csv"]):
        pass
    assert not (tmp_path / "b.csv").exists()
    with pytest.raises(ValueError), left_without([tmp_path / "c.csv"]):
        raise ValueError
