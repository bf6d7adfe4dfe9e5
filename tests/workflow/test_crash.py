"""Whatever is killed, the plain command goes on and ends with the same bytes."""

import os
import signal
import subprocess
import time

import psutil
import pytest
from project import SMALL, SNAKEMAKE, Project, digests

pytestmark = pytest.mark.slow


def start(project):
    """Start a run; return once its first job has finished, so that it holds the lock and has something to lose."""
    command = [SNAKEMAKE, "--cores", "4", "--resources", "gpu=1", *SMALL]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=project.folder, env=project.environment, **quiet)
    deadline = time.monotonic() + 120
    while not list((project.folder / "results").glob("*/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return process


def finish(project):
    project.snakemake("--resources", "gpu=1", *SMALL)
    return digests(project.folder / "results")


@pytest.mark.parametrize("seconds", [1, 5, 9])
def test_kill_9_and_go_on(small, tmp_path, seconds):
    project = Project.copy(tmp_path / "project")
    process = start(project)
    time.sleep(seconds)
    jobs = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(jobs, timeout=60)  # one that still imports its libraries notices when it is done
    assert not alive, "jobs outlive their workflow"
    assert finish(project) == digests(small.folder / "results")


def test_interrupt_and_go_on(small, tmp_path):
    project = Project.copy(tmp_path / "project")
    process = start(project)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    assert finish(project) == digests(small.folder / "results")


def test_two_runs_in_one_directory(tmp_path):
    project = Project.copy(tmp_path / "project")
    first = start(project)
    second = project.snakemake(*SMALL, check=False)
    assert second.returncode == 1
    assert "another run is at work in this directory" in second.stderr
    assert "Traceback" not in second.stderr
    assert project.snakemake("--dry-run", *SMALL).returncode == 0
    first.kill()
    first.wait()
