"""Fixtures of the workflow tests."""

import pytest
from project import SMALL, Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The whole default run, once for all tests that only look at it; what it asks of the network is written down."""
    project = Project.copy(tmp_path_factory.mktemp("finished") / "project")
    project.watch_network()
    project.snakemake("--resources", "gpu=1")
    return project


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Project:
    """A quick run with steps of every kind: what an undisturbed run of SMALL leaves."""
    project = Project.copy(tmp_path_factory.mktemp("small") / "project")
    project.snakemake("--resources", "gpu=1", *SMALL)
    return project
