"""The whole default run, as a newcomer starts it."""

import json
import subprocess
import sys

import in_process
import pandas as pd
import pytest
import yaml
from project import ROOT, digests

from weight_atlas.digest_records import OWN_FOLDER
from weight_atlas.not_applicable import reason_of

pytestmark = pytest.mark.slow

PLANTED = {"layer": 1, "row": 7, "column": 11}


def test_the_planted_super_weight_is_found(finished):
    found = json.loads((finished.folder / "results/super_weights/demo.json").read_text())["super_weights"]
    assert [{key: weight[key] for key in PLANTED} for weight in found] == [PLANTED]


def test_its_removal_ruins_the_model_and_random_weights_do_not(finished):
    table = pd.read_csv(finished.folder / "results/ablation_perplexity/demo.csv")
    assert table[table.kind == "zero"].ratio.item() > 10
    controls = table[table.kind == "random"].ratio
    assert len(controls) and controls.max() < 1.1


def test_no_step_asks_anything_of_the_network(finished):
    lines = (finished.folder / "network.log").read_text().splitlines()
    assert lines.count("started") >= 2, "the guard is in the workflow and in the process that its steps are forks of"
    assert set(lines) == {"started"}


def test_every_figure_and_table_has_content(finished):
    results = finished.folder / "results"
    # Records have signs without content beside them.
    files = [path for path in results.rglob("*") if path.is_file() and OWN_FOLDER not in path.parts]
    assert {path.suffix for path in files} >= {".png", ".csv", ".json", ".parquet", ".md"}
    # A table may have no rows, where there is nothing to report; it has a head all the same.
    least = {".png": 5000, "": 0}  # no suffix: a marker of Snakemake's
    assert not [path for path in files if path.stat().st_size < least.get(path.suffix, 10)]
    assert not [path for path in files if "partial" in path.name]


def test_the_page_shows_every_figure(finished):
    page = finished.folder / "results/atlas/demo.md"
    text = page.read_text()
    figures = [path.relative_to(finished.folder / "results") for path in (finished.folder / "results").rglob("*.png")]
    # The pages of the browser hold copies.
    apart = [figure for figure in figures if figure.parts[0] != "atlas"]
    own = [figure for figure in apart if any(part.startswith("demo") for part in figure.parts)]
    assert len(own) > 30
    for relative in own:
        shown = reason_of(finished.folder / "results" / relative) is None
        assert (f"../{relative.as_posix()}" in text) == shown, relative


def test_a_second_run_has_nothing_to_do(finished):
    done = finished.snakemake("--resources", "gpu=1")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert finished.would_run() == set()


def test_two_runs_write_the_same_bytes_also_elsewhere_and_with_fewer_cores(finished, tmp_path):
    """The second one in a single process, on one core, of the clone's own files."""
    assert in_process.run(tmp_path, yaml.safe_load((ROOT / "config/config.yaml").read_text())) == {}
    first, second = (digests(folder / "results") for folder in (finished.folder, tmp_path))
    marks = {name for name in first if name.endswith("/.snakemake_timestamp")}  # of folders; Snakemake's own
    assert second == {name: digest for name, digest in first.items() if name not in marks}


def test_a_step_on_the_command_line_writes_the_same_bytes(finished, tmp_path):
    results = finished.folder / "results"
    outputs = {"table": "demo.csv", "statistics": "demo/statistics.csv", "layers": "demo/layers.csv"}
    outputs |= {"phase_statistics": "demo/phases.csv", "trends": "demo/trends.csv", "figure": "demo.png"}
    views = {"view": "demo.csv", "components": "demo/components.csv", "view_figure": "demo.png"}
    command = [sys.executable, finished.folder / "scripts/effective_rank.py"]
    command += ["--singular-values", results / "singular_values/demo.parquet"]
    for folder, written in (("effective_rank", outputs), ("spectrum_view", views)):
        for option, name in written.items():
            command += [f"--{option.replace('_', '-')}", tmp_path / folder / name]
    subprocess.run(command, check=True, env=finished.environment)
    for folder in ("effective_rank", "spectrum_view"):
        assert digests(tmp_path / folder) == digests(results / folder)


def test_collect_targets_make_one_product(finished):
    for target in ("effective_ranks", "weight_cdfs", "atlases"):
        assert "Nothing to be done" in finished.snakemake(target).stderr


def test_report_bundles_figures_offline(finished, tmp_path):
    report = tmp_path / "report.html"
    finished.snakemake("--report", report)
    text = report.read_text()
    for part in ("Spectra", "Super weights", "image/png"):
        assert part in text
