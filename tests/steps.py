"""A script's command line, run in this process: no import of torch and its like for each."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def step(name: str, *arguments: object) -> None:
    """Do what `python scripts/NAME.py ARGUMENTS` does; where that ends with an error, so does the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
