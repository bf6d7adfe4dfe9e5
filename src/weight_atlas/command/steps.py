"""Every step of the workflow as a command: `weight-atlas run STEP` is `python scripts/STEP.py`."""

import ast
import runpy
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from weight_atlas.workflow.location import workflow_folder


def step_scripts() -> dict[str, Path]:
    """The scripts of all steps, by the steps' names."""
    return {path.stem: path for path in sorted((workflow_folder() / "scripts").glob("*.py"))}


def description_of(script: Path) -> str:
    """What a step does, in the first line of its script, which is read and not run."""
    return (ast.get_docstring(ast.parse(script.read_bytes())) or "").partition("\n")[0]


def run_step_script(name: str, script: Path, arguments: tuple[str, ...]) -> None:
    """Run a step in this process, with a command line of its own: a script reads its options from sys.argv."""
    sys.argv = [f"weight-atlas run {name}", *arguments]
    runpy.run_path(str(script), run_name="__main__")


def run_app() -> App:
    """The command `run`, with every step as a subcommand."""
    app = App(name="run", help="Run one step, with its own options: `weight-atlas run STEP --help` shows them.")
    for name, script in step_scripts().items():
        app.command(_step_app(name, script))
    return app


def _step_app(name: str, script: Path) -> App:
    # All that follows the name is the step's own to read, its --help and a -- included.
    step = App(name=name, help=description_of(script), help_flags=[], version_flags=[], end_of_options_delimiter="\0")

    @step.default
    def run(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
        run_step_script(name, script, arguments)

    return step


app = run_app()
