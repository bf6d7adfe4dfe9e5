"""Steps run in this process: no import of torch and its like for each."""

import runpy
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]


def step(name: str, *arguments: object) -> None:
    """Do what `python scripts/NAME.py ARGUMENTS` does; where that ends with an error, so does the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")


@contextmanager
def empty_figures():
    """Figures are made and their files are empty: for tests of the tables beside them, and of nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).touch())
        yield


@contextmanager
def rough_figures():
    """Figures are drawn, but without layout and of few pixels, in half the time: for tests that do not look at them."""
    savefig = Figure.savefig

    def rough(figure, *arguments, **keywords):
        figure.set_layout_engine("none")
        savefig(figure, *arguments, **{**keywords, "dpi": 20})

    Figure.savefig = rough
    try:
        yield
    finally:
        Figure.savefig = savefig
