"""Fixtures of the workflow tests."""

import pytest
from project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The whole default run, once for all tests that only look at it."""
    project = Project.copy(tmp_path_factory.mktemp("finished") / "project")
    project.snakemake("--resources", "gpu=1")
    return project
