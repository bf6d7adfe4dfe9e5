"""`--sdm conda` with a stand-in for conda: each step runs in the environment that its rule names."""

import os
import shutil
from pathlib import Path

import pytest
from conda_standin import Conda
from parsed_workflow import parsed_steps
from project import ROOT, Project, digests

pytestmark = pytest.mark.slow

FEW = ("--configfile", "few.yaml", "--", "architecture_summaries", "effective_ranks")


def test_each_step_runs_in_its_environment_and_leaves_the_same_bytes(tmp_path):
    project = Project.small(tmp_path / "project")
    shutil.copy2(Path(__file__).with_name("few.yaml"), project.folder)
    project.snakemake(*FEW)
    expected = digests(project.folder / "results")
    shutil.rmtree(project.folder / "results")
    conda = Conda(tmp_path / "conda")
    project.environment["PATH"] = f"{conda.path}:{os.environ['PATH']}"
    project.start_snakemake("--sdm", "conda", *FEW)
    assert digests(project.folder / "results") == expected
    (environment,) = {*conda.activated()}
    ran = [log.parent.relative_to(project.folder / "logs").parts[0] for log in (project.folder / "logs").rglob("*.log")]
    # Each asks the environment for its Python's version, then runs there: none is a fork of the workflow's own Python.
    assert len(conda.activated()) == 2 * len(ran) > 10
    assert {Path(str(parsed_steps()[name].conda_env)).name for name in ran} == {"analysis.yaml"}
    assert (environment / "made-of.yaml").read_bytes() == (ROOT / "envs/analysis.yaml").read_bytes()
    assert (project.folder / "results/.weight-atlas/records/effective_rank/mine.csv.json").is_file()
    assert "Nothing to be done" in project.snakemake("--sdm", "conda", *FEW).stderr
