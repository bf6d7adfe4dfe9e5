"""What a failed run leaves as pages: what there is, marked incomplete, with the cause, and older than any input."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.pages.unfinished import (
    LONG_AGO,
    last_words,
    unfinished,
    write_unfinished_overview,
    write_unfinished_page,
)


class Named(dict):
    """Stands in for Snakemake's Namedlist: the values by name, and one after the other."""

    def __getattr__(self, name):
        return self[name]

    def __iter__(self):
        return iter(self.values())


class Job:
    """Stands in for Snakemake's job."""

    def __init__(self, rule, model, log, files):
        self.rule = SimpleNamespace(name=rule, params=Named({"step": rule}))
        self.wildcards = Named({"model": model} if model else {})
        self.log, self.input, self.output = (
            [log] if log else [],
            *(Named(files.get(k, {})) for k in ("input", "output")),
        )


class Graph:
    """Stands in for Snakemake's graph of jobs."""

    def __init__(self):
        self.dependencies, self.done = {}, set()

    def job(self, rule, after=(), model="m", log=None, **files):
        job = Job(rule, model, log, files)
        self.dependencies[job] = {other: set(other.output) for other in after}
        return job

    def toposorted(self):
        return [[job] for job in self.dependencies]

    def finished(self, job):
        return job in self.done

    def needrun(self, job):
        return True


def places(results, folder, kind, name):
    """Where a page is written: as Markdown and for a browser."""
    browser = results / "atlas" / kind / f"{name}.html"
    return {"page": results / folder / f"{name}.md", "browser": browser, "data": browser.with_suffix("")}


@pytest.fixture
def run(tmp_path):
    """A run of one model in which `ranks` is made, `tails` failed, and `views` waits for it."""
    graph, results = Graph(), tmp_path / "results"
    captions = [tmp_path / f"{name}.rst" for name in ("ranks", "tails", "views")]
    for caption in captions:
        caption.write_text("How to read it.\n")
    tables = {name: results / name / "m.csv" for name in ("ranks", "tails", "views")}
    write_table(tables["ranks"], pd.DataFrame({"x": [1]}))
    stated = results / "ranks/m.json"
    write_json(stated, {"findings": [{"grade": "notable", "text": "of what there is"}]})
    log = tmp_path / "tails.log"
    log.write_text("reading\nerror: the shard <b>is</b> cut\n  where: x\n  what to do: fetch it\n")
    ranks = graph.job("ranks", output={"table": str(tables["ranks"]), "stated": str(stated)})
    tails = graph.job("tails", log=str(log), output={"table": str(tables["tails"])})
    views = graph.job("views", [tails], output={"table": str(tables["views"])})
    inputs = {"products": [str(path) for path in (*tables.values(), stated)], "captions": captions}
    outputs = {**places(results, "atlas", "models", "m"), "summary": results / "atlas/m.json"}
    atlas = graph.job("atlas", [ranks, tails, views], input=inputs, output=outputs)
    inputs = {"summaries": str(outputs["summary"]), "products": [], "captions": []}
    outputs = {**places(results, "overview", "", "models"), "browser": results / "atlas/index.html"}
    overview = graph.job("overview", [atlas], model=None, input=inputs, output=outputs)
    graph.done.add(ranks)
    return SimpleNamespace(graph=graph, atlas=atlas, overview=overview, tails=tails, tables=tables, results=results)


def test_the_page_shows_what_there_is_and_says_what_failed_and_with_which_words(run):
    write_json(run.atlas.output.summary, {"headline": ["of an earlier run"]})
    assert unfinished(run.graph, ("atlas", "overview")) == [run.atlas, run.overview]
    summaries = {}
    write_unfinished_page(run.graph, {run.tails}, run.atlas, summaries)
    page = run.atlas.output.page.read_text()
    assert page.startswith(
        "# Atlas of m\n\n**This page is incomplete.** The next run makes it again.\n\n- tails of m failed: "
    )
    assert "error: the shard \\<b\\>is\\</b\\> cut; where: x; what to do: fetch it\n" in page
    assert "[ranks/m.csv](../ranks/m.csv)" in page
    assert "## Tails\n\nMissing: tails of m failed" in page
    assert "## Views\n\nMissing: views of m waits for tails of m, which failed" in page
    assert "\n- **notable**: of what there is\n  - Evidence: [ranks/m.json](../ranks/m.json)\n" in page
    assert run.atlas.output.page.stat().st_mtime == run.atlas.output.browser.stat().st_mtime == LONG_AGO
    assert "<b>is" not in run.atlas.output.browser.read_text()
    assert not run.atlas.output.summary.exists()
    write_unfinished_overview(run.graph, {run.tails}, run.overview, summaries)
    overview = run.overview.output.page.read_text()
    assert "**This page is incomplete.**" in overview and "- tails of m failed: error:" in overview
    assert "[m](../atlas/m.md) (incomplete)" in overview
    index = run.overview.output.browser
    assert "(incomplete)" in index.read_text() and "tails of m failed: error:" in index.read_text()
    assert run.overview.output.page.stat().st_mtime == index.stat().st_mtime == LONG_AGO


def test_files_of_an_earlier_run_whose_step_did_not_run_again_are_not_shown(run):
    write_table(run.tables["views"], pd.DataFrame({"x": [2]}))
    write_unfinished_page(run.graph, {run.tails}, run.atlas, {})
    page = run.atlas.output.page.read_text()
    assert "(../views/m.csv)" not in page and "Missing: views of m waits for" in page


def test_a_page_that_nothing_failed_for_says_what_stopped_the_run(run):
    other = run.graph.job("fetch_checkpoint", model="other", log="nowhere.log")
    write_unfinished_page(run.graph, {other}, run.atlas, {})
    page = run.atlas.output.page.read_text()
    assert "- the run was stopped, since fetch_checkpoint of other failed: it left no log\n" in page
    assert "Missing: tails of m has not run" in page


def test_the_page_of_a_vector_whose_step_failed_is_linked_as_incomplete(run):
    paths = {**places(run.results, "vector_page", "vectors", "v"), "summary": run.results / "vector_page/v.json"}
    captions = list(run.atlas.input.captions)
    inputs = {"products": [str(path) for path in run.tables.values()], "captions": captions}
    vector = run.graph.job("vector_page", list(run.graph.dependencies)[:3], model="v", input=inputs, output=paths)
    assert unfinished(run.graph, ("vector_page",)) == [vector]
    summaries = {}
    write_unfinished_page(run.graph, {run.tails}, vector, summaries)
    assert paths["page"].read_text().startswith("# Atlas of v\n\n**This page is incomplete.**")
    run.overview.input["vectors"] = str(paths["summary"])
    write_unfinished_overview(run.graph, {run.tails}, run.overview, summaries)
    overview = run.overview.output.page.read_text()
    assert "\n\n| vector " in overview and "[v](../vector_page/v.md) (incomplete)" in overview


def test_what_cannot_be_read_costs_its_own_section_only(run):
    run.graph.done |= {run.tails}
    run.tables["tails"].parent.mkdir()
    run.tables["tails"].write_bytes(b"\xff\xfe,\x00")
    write_unfinished_page(run.graph, {run.atlas}, run.atlas, {})
    page = run.atlas.output.page.read_text()
    assert "## Tails\n\nMissing: it cannot be read: " in page and "(../ranks/m.csv)" in page


def test_an_overview_whose_summaries_are_broken_is_written_all_the_same(run):
    run.graph.done.add(run.atlas)
    run.atlas.output.summary.parent.mkdir()
    run.atlas.output.summary.write_text("{")
    write_unfinished_overview(run.graph, {run.overview}, run.overview, {})
    overview = run.overview.output.page.read_text()
    assert "overview failed: it left no log" in overview and "m (incomplete)" in overview


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("a\nTraceback (most recent call last):\n  File x\nValueError: \x1b[31mbad\n\n", "ValueError: \x1b[31mbad"),
        ("error: one\n  where: x\nmore\nerror: two\n  what to do: y\n", "error: two; what to do: y"),
        ("10%\r100%\rkilled", "killed"),
        ("", "its log is empty"),
        ("x" * 3000, "x" * 1000 + "..."),
        ("error: early\n" + "line of progress\n" * 10_000, "line of progress"),
    ],
)
def test_last_words_are_the_message_or_the_last_line(tmp_path, log, words):
    path = tmp_path / "step.log"
    path.write_text(log)
    assert last_words(path) == words


def test_a_step_without_a_log_has_no_last_words(tmp_path):
    assert last_words(None) == last_words(tmp_path / "none.log") == last_words(Path(tmp_path)) == "it left no log"
