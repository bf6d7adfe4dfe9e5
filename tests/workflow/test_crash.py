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
    """Start a run; return once it has finished a job, so that it holds the lock and has something to lose."""
    command = [SNAKEMAKE, "--cores", "4", "--resources", "gpu=1", *SMALL]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    before = results(project)
    process = subprocess.Popen(command, cwd=project.folder, env=project.environment, **quiet)
    deadline = time.monotonic() + 600
    while not results(project) - before:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    return process


def results(project):
    return set((project.folder / "results").glob("[!.]*/*"))


def test_whatever_is_killed_the_run_goes_on_and_ends_with_the_same_bytes(small, tmp_path):
    """Killed three times, each time further on, and then interrupted, always with jobs at work."""
    project = Project.small(tmp_path / "project")
    for seconds in (0, 0.5, 1):
        process = start(project)
        time.sleep(seconds)
        jobs = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(jobs, timeout=300)  # one that still imports its libraries notices when it is done
        assert not alive, "jobs outlive their workflow"
    process = start(project)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=300)
    project.start_snakemake("--resources", "gpu=1", *SMALL)
    assert digests(project.folder / "results") == digests(small.folder / "results")


def test_two_runs_in_one_directory(tmp_path):
    project = Project.small(tmp_path / "project")
    first = start(project)
    second = project.snakemake(*SMALL, check=False)
    assert second.returncode == 1
    assert "another run is at work in this directory" in second.stderr
    assert "Traceback" not in second.stderr
    assert project.snakemake("--dry-run", *SMALL).returncode == 0
    first.kill()
    first.wait()
