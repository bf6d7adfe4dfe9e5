"""The jobs of a workflow, run one after the other in this process: no process and no import of torch for each."""

import os
import runpy
import sys
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from parsed_workflow import another_workflow
from project import ROOT
from snakemake.settings.types import ConfigSettings, DAGSettings, ResourceSettings

from weight_atlas.workflow import step


def run(folder: Path, config: dict, targets: tuple[str, ...] = ()) -> dict[str, int]:
    """Run all jobs that a configuration asks for in a folder; return each failed job's exit code, by its log."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return {log: code for log, code in _ran(jobs_of(folder, targets)) if code}


def outcome(folder: Path, config: dict, target: str) -> tuple[int, str]:
    """Run the jobs of a target up to the first that fails: its exit code and what it printed; 0 if none does."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with closing(jobs_of(folder, (target,))) as jobs:
        for log, code in _ran(jobs):
            if code:
                return code, Path(log).read_text()
    return 0, ""


def jobs_of(folder: Path, targets: tuple[str, ...] = ()):
    """Yield the jobs of a workflow that have to run, in an order in which they can, the working directory the folder.

    Nothing is recorded of jobs that ran here: they have to where an output is missing or older than an input.
    """
    with _inside(folder), another_workflow() as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[folder / "config.yaml"]),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        workflow.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
        dag = workflow._workflow_store.dag
        yield from (
            job for level in dag.toposorted() for job in sorted(level, key=str) if job.rule.script and dag.needrun(job)
        )


def _ran(jobs):
    for job in jobs:
        for path in [*job.output, *job.log]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield job.log[0], _run(job)


def _run(job) -> int:
    with _printing_to(job.log[0]), pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        for name in ("_capture_output", "_die_with_workflow", "_limit_threads"):
            patch.setattr(step, name, lambda *_: None)
        script = ROOT / f"scripts/{job.rule.name}.py"
        try:
            runpy.run_path(str(script), {"snakemake": job}, run_name="__main__")
        except SystemExit as exit_:
            return int(exit_.code or 0)
    return 0


@contextmanager
def _printing_to(path):
    with Path(path).open("w") as file, redirect_stdout(file), redirect_stderr(file):
        yield


@contextmanager
def _inside(folder: Path):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = list(dict.fromkeys(sys.path))
