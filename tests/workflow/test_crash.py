"""Whatever is killed, the plain command goes on and ends with the same bytes."""

import os
import signal
import subprocess
import time

import psutil
import pytest
from test_default_run import digests
from conftest import SNAKEMAKE, Project

pytestmark = pytest.mark.slow


def jobs_of(process):
    """Processes that run a step of the workflow."""
    return [child for child in process.children(recursive=True) if any("/scripts/" in word or "tmp" in word for word in child.cmdline())]


def start(project):
    command = [SNAKEMAKE, "--cores", "2", "--resources", "gpu=1"]
    return subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("seconds", [6, 12, 18])
def test_kill_9_and_go_on(finished, tmp_path, seconds):
    project = Project.copy(tmp_path / "project")
    process = start(project)
    time.sleep(seconds)
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "jobs outlive their workflow"
    project.snakemake("--resources", "gpu=1")
    assert digests(project.folder / "results") == digests(finished.folder / "results")


def test_interrupt_and_go_on(finished, tmp_path):
    project = Project.copy(tmp_path / "project")
    process = start(project)
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    project.snakemake("--resources", "gpu=1")
    assert digests(project.folder / "results") == digests(finished.folder / "results")


def test_two_runs_in_one_directory(tmp_path):
    project = Project.copy(tmp_path / "project")
    first = start(project)
    lock = project.folder / ".snakemake/weight-atlas.lock"
    deadline = time.monotonic() + 60
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    second = project.snakemake(check=False)
    assert second.returncode == 1
    assert "another run is at work in this directory" in second.stderr
    assert project.snakemake("--dry-run").returncode == 0
    first.kill()
    first.wait()
