"""`weight-atlas check`: whether all results are what their steps wrote."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from weight_atlas.command.look import Directory
from weight_atlas.command.options import ONE_OR_MORE, cores
from weight_atlas.command.project import Project
from weight_atlas.command.screen import print_lines
from weight_atlas.command.why import recorded_output
from weight_atlas.workflow.damage import Damage, damage, remove_damaged
from weight_atlas.workflow.run_lock import hold_all, refuse_results_of_another


def check(
    *,
    directory: Directory = Path(),
    results: Annotated[Path | None, Parameter(help="Folder of results, where weight-atlas.yaml names none.")] = None,
    rebuild: Annotated[bool, Parameter(help="Remove what is damaged, so that the next run makes it again.")] = False,
    workers: Annotated[
        int | None, Parameter(validator=ONE_OR_MORE, help="Files that are read at a time; the number of cores.")
    ] = None,
    json_: Annotated[bool, Parameter("--json")] = False,
) -> None:
    """Read all results, and name those that are damaged, missing, or foreign: files that no step recorded.

    What has lost its record counts as damaged, since nothing tells any more whether its bytes are right.
    Ends with exit code 1 where there are any. With --rebuild damaged outputs are removed, and nothing else; then only
    foreign files are left to name, and the exit code is 0.
    """
    project = Project(directory)
    folder = project.results if results is None else results
    if rebuild and folder.is_dir():
        refuse_results_of_another(project.directory, folder)
        hold_all(project.directory, folder)
    found = damage(folder, workers or cores(), lambda path: recorded_output(path, project.directory))
    if rebuild:
        remove_damaged(folder, found)
    print_lines([json.dumps(_values(found, rebuild), indent=2)] if json_ else _lines(found, rebuild))
    if found.found and not rebuild:
        sys.exit(1)


def _values(found: Damage, removed: bool) -> dict[str, Any]:
    return {
        "whole": found.whole,
        "damaged": {str(path): wrong for path, wrong in found.damaged.items()},
        "missing": list(map(str, found.missing)),
        "foreign": list(map(str, found.foreign)),
        "removed": removed,
    }


def _lines(found: Damage, removed: bool) -> Iterator[str]:
    for path, wrong in found.damaged.items():
        yield f"damaged: {_line(path)} ({wrong}){': removed' if removed else ''}"
    yield from (f"missing: {_line(path)}" for path in found.missing)
    yield from (f"foreign: {_line(path)}" for path in found.foreign)
    counts = {"damaged": found.damaged, "missing": found.missing, "foreign": found.foreign}
    yield ", ".join([f"{found.whole} whole", *(f"{len(paths)} {what}" for what, paths in counts.items())])
    if removed and (found.damaged or found.missing):
        yield "what to do: the command that made them makes them again"
    elif found.damaged or found.missing:
        yield "what to do: weight-atlas check --rebuild, then the command that made them, makes them again"


def _line(path: Path) -> str:
    """A path on one line, whatever its name."""
    return str(path).replace("\n", "\\n")
