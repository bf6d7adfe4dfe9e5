"""The command `weight-atlas estimate`: what the steps of a configuration that run models will cost."""

import os
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import Parameter

from weight_atlas.errors import AtlasError
from weight_atlas.settings.base import Effort


def estimate(
    configuration: Annotated[Path | None, Parameter(help="A configuration; without one, the embedded default.")] = None,
    *,
    cores: Annotated[int, Parameter(help="Cores that a run may use.")] = os.cpu_count() or 1,
    effort: Annotated[Effort | None, Parameter(help="In place of the configuration's own, for all models.")] = None,
) -> None:
    """Estimate what running the models costs, step by step, in CPU seconds and in time on some cores; nothing runs.

    ```
    weight-atlas estimate my.yaml --cores 2
    weight-atlas estimate my.yaml --effort quick
    ```
    """
    from weight_atlas.costs.estimate import as_text, duration, estimates, least
    from weight_atlas.costs.machine import probe

    if cores < 1:
        raise AtlasError(f"{cores} cores cannot run anything", where="--cores", remedy="give 1 or more")
    path, values = _read(configuration)
    machine = probe(cores)
    found = estimates(_complete(values, effort, path), lambda: machine)
    if not found:
        print("No step of this configuration runs a model.")
        return
    print(as_text(found, machine))
    totals = {}
    for other in get_args(Effort):
        others = estimates(_complete(values, other, path), lambda: machine)
        totals[other] = sum(max(least(each, machine)[:2]) for each in others if each.sizes)
    if any(totals.values()):
        said = ", ".join(f"{name} {duration(seconds)}" for name, seconds in totals.items())
        print(f"\nAll models by effort, with one super weight each, on {cores} cores: {said}.")


def _read(configuration: Path | None) -> tuple[Path, dict[str, Any]]:
    from weight_atlas.workflow.location import workflow_folder
    from weight_atlas.yaml_file import read_yaml

    path = configuration or workflow_folder() / "config/config.yaml"
    return path, read_yaml(path)


def _complete(values: dict[str, Any], effort: str | None, path: Path) -> dict[str, Any]:
    """The configuration with all defaults; an effort, if one is given, replaces its own and its models'."""
    from weight_atlas.workflow.configuration import check_paths, configured

    complete = configured(values, str(path))  # what is wrong is said of what is written
    if effort is not None:
        own = {section: _without_effort(values[section]) for section in ("models", "series") if values.get(section)}
        complete = configured({**values, **own, "effort": effort}, str(path))
    check_paths(complete, str(path))
    return complete


def _without_effort(entries: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in (entry or {}).items() if key != "effort"} for name, entry in entries.items()
    }
