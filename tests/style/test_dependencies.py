"""What the project needs is pinned, and pinned once."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_every_dependency_is_pinned_in_the_lock():
    lock = {name_of(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    needed = {name_of(requirement) for requirement in [*PROJECT["dependencies"], *extras]}
    assert needed - lock - {name_of(PROJECT["name"])} == set()


def test_hooks_use_the_tools_of_the_environment():
    """A hook from elsewhere would bring a version of its own."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert all(".venv/bin/" in hook["entry"] for hook in repository["hooks"])
