"""A training run as a series: its numbers are those of the checkpoints' own tables, and feeding it adds what is new."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import jobs_of, run
from project import ROOT
from safetensors.numpy import load_file
from steps import rough_figures

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from streamed_models import hub_of
from watched_browser import looked_through, opened, started

pytestmark = pytest.mark.slow

DEMO = ROOT / "src/weight_atlas/data/demo/model"
CONFIG = {
    "corpora": {"text": {"source": "text.txt"}},
    "series": {"run": {"source": "checkpoint-*", "analyses": ["weight_statistics", "heavy_tail", "effective_rank"]}},
    "heavy_tail": {"bootstrap": 20},
    "singular_values": {"parts": 1},
}


def train(folder: Path, steps: int, every: int) -> None:
    """Train the bundled model on for some steps, on one text, and save it now and then."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    model.model.embed_tokens.requires_grad_(False)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    tokens = torch.randint(3, model.config.vocab_size, (2, 32))
    for step in range(steps + 1):
        if step % every == 0:
            place = folder / f"checkpoint-{step}"
            shutil.copytree(DEMO, place, ignore=shutil.ignore_patterns("*.safetensors"))
            model.save_pretrained(place)
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished run over three checkpoints, and one more checkpoint beside it that the run does not know."""
    folder = tmp_path_factory.mktemp("series")
    train(folder, 9, 3)
    (folder / "checkpoint-9").rename(folder / "later")
    (folder / "text.txt").write_text("Nothing reads this.\n")
    with rough_figures():
        assert run(folder, CONFIG) == {}
    return folder


def tables(folder: Path, name: str) -> list[pd.DataFrame]:
    return [pd.read_csv(folder / f"results/{name}/run-checkpoint-{step}.csv") for step in (0, 3, 6)]


def test_numbers_are_those_of_the_checkpoints_tables(trained):
    course = pd.read_parquet(trained / "results/series/run.parquet").set_index(["metric", "role", "number"])
    assert set(course["step"].unique()) == {0, 3, 6} and set(course["checkpoint"].unique()) == {"0", "3", "6"}
    for number, (tails, ranks) in enumerate(
        zip(*(tables(trained, name) for name in ("heavy_tail", "effective_rank")), strict=True)
    ):
        for role in ("W_Q", "W_down", "W_U"):
            ok = tails[(tails["role"] == role) & (tails["status"] == "ok")]
            row = course.loc[("heavy_tail.alpha", role, number)]
            assert row["n"] == len(ok) and row["rows"] == (tails["role"] == role).sum()
            np.testing.assert_equal(row["value"], ok["alpha"].median() if len(ok) else np.nan)
            np.testing.assert_equal(row["null"], ok["alpha_null"].median() if len(ok) else np.nan)
            value = course.loc[("effective_rank.erank_relative", role, number), "value"]
            assert value == ranks.loc[ranks["role"] == role, "erank_relative"].median()


def test_drift_is_that_of_the_files(trained):
    now, before, first = (load_file(trained / f"checkpoint-{step}/model.safetensors") for step in (6, 3, 0))
    found = pd.read_csv(trained / "results/drift/run/run-checkpoint-6.csv").set_index("id")
    assert set(found.index) == set(now)
    for name, row in found.iterrows():
        for other, tensors in (("previous", before), ("first", first)):
            x, y = now[name].astype(float), tensors[name].astype(float)
            if norm := np.linalg.norm(y):
                assert row[f"change_{other}"] == pytest.approx(np.linalg.norm(x - y) / norm, rel=1e-9)
            assert row[f"equal_{other}"] == (x == y).mean()
    drift = pd.read_csv(trained / "results/series/run/drift.csv").set_index(["number", "role"])
    flat = [np.concatenate([each[name].ravel() for name in sorted(now)]).astype(float) for each in (now, first)]
    whole = drift.loc[(2, "all")]
    assert whole["change_first"] == pytest.approx(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]), rel=1e-9)
    assert drift.loc[(1, "W_E"), "change_previous"] == 0


def test_the_page_and_the_overview_tell_it(trained):
    summary = json.loads((trained / "results/series/run.json").read_text())
    assert {"grade": "info", "text": "never changes while others do: W_E"} in summary["findings"]
    page = (trained / "results/atlas/series/run.md").read_text()
    overview = (trained / "results/overview/models.md").read_text()
    for text in (page, overview):
        assert "3: 0 to 6, steps 0 to 6" in text and "never changes while others do: W_E" in text
    assert "## Series [run](../atlas/series/run.md)" in overview
    assert (trained / "results/series/run/figures/heavy_tail.png").is_file()


def test_a_new_checkpoint_adds_its_own_jobs_and_the_series_is_told_anew(trained):
    assert list(jobs_of(trained)) == []
    (trained / "later").rename(trained / "checkpoint-9")
    try:
        jobs = list(jobs_of(trained))
    finally:
        (trained / "checkpoint-9").rename(trained / "later")
    own = {job.rule.name for job in jobs if job.wildcards.get("model") == "run-checkpoint-9"}
    assert {"fetch_checkpoint", "heavy_tail", "scalars", "drift", "atlas"} <= own
    others = {job.rule.name for job in jobs if job.wildcards.get("model") != "run-checkpoint-9"}
    assert others == {"series", "series_page", "overview", "run_configs"}
    assert len([job for job in jobs if job.rule.name == "drift"]) == 1


def test_revisions_of_a_hub_model_give_the_numbers_of_the_folders(trained, tmp_path, monkeypatch):
    """Each revision has files of its own, under one name."""
    steps = {f"step{step}": trained / f"checkpoint-{step}" for step in (6, 0, 3)}
    branches = {name: {path.name: path.read_bytes() for path in folder.iterdir()} for name, folder in steps.items()}
    entry = {"source": "hf://org/model", "revisions": list(steps), "analyses": ["weight_statistics"]}
    with hub_of({}, monkeypatch, tmp_path / "hub", branches=branches), rough_figures():
        target = ("results/series/run.json",)
        assert run(tmp_path, {**CONFIG, "series": {"run": entry}}, target) == {}
    summary = json.loads((tmp_path / "results/series/run.json").read_text())
    assert summary["models"] == ["run-step0", "run-step3", "run-step6"]
    commits = [json.loads((tmp_path / f"results/checkpoints/run-step{step}.json").read_text()) for step in (0, 3, 6)]
    assert len({each["revision"] for each in commits}) == 3
    course, local = (pd.read_parquet(folder / "results/series/run.parquet") for folder in (tmp_path, trained))
    keys = ["metric", "role", "number"]
    found = course.merge(local, on=keys, suffixes=("", "_local"))
    assert len(found) == len(course) > 0 and set(found["step"]) == {0, 3, 6}
    np.testing.assert_array_equal(found["value"], found["value_local"])
    drift, other = (pd.read_csv(folder / "results/series/run/drift.csv") for folder in (tmp_path, trained))
    pd.testing.assert_frame_equal(drift.drop(columns="checkpoint"), other.drop(columns="checkpoint"))


@pytest.fixture(scope="module")
def browser(trained):
    """After the run in this process: both need the process's event loop."""
    with started() as browser:
        yield browser


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_its_page_and_the_index_are_whole(browser, trained, width, theme):
    results = trained / "results"
    for file, marks in (("series/run.html", 20), ("index.html", 0)):
        with opened(browser, results / "atlas" / file, width=width, theme=theme) as page:
            assert looked_through(page, results) >= marks
