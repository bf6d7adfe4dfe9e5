"""Fixtures of the workflow tests: runs that are made once, whichever worker of pytest asks for them first."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from project import SMALL, Project


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id) -> Callable[[str, Callable[[Path], object]], Project]:
    """once(name, make): the project that make(folder) leaves there, the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def once(name: str, make: Callable[[Path], object]) -> Project:
        folder, made = base / name, base / f"{name}.made"
        with FileLock(f"{folder}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                made.touch()
        return Project(folder)

    return once


@pytest.fixture(scope="session")
def finished(once) -> Project:
    """The whole default run, each job a process of its own; what they ask of the network is written to network.log."""

    def make(folder: Path) -> None:
        project = Project.copy(folder)
        project.watch_network()
        project.start_snakemake("--resources", "gpu=1")

    return once("finished", make)


@pytest.fixture(scope="session")
def small(once) -> Project:
    """A quick run with steps of every kind: what an undisturbed run of SMALL leaves."""
    return once("small", lambda folder: Project.small(folder).snakemake("--resources", "gpu=1", *SMALL))
