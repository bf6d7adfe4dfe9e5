"""Run the workflow as a child process: Snakemake decides what is stale, runs it, and keeps what is finished.

The library imports nothing of Snakemake. The live view is the plugin snakemake_logger_plugin_weight_atlas, which writes
to this process's standard error, so that standard output is the command's own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weight_atlas.command.project import Project
from weight_atlas.errors import AtlasError, explained
from weight_atlas.workflow.location import workflow_folder

INTERRUPTED = 130


@dataclass(frozen=True)
class Running:
    """How to run the workflow: what the options of a command say."""

    cores: int | None = None
    profile: str | None = None
    dry_run: bool = False
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Failure:
    """What went wrong: a message, and the step and its logs where one failed."""

    message: str
    step: str = ""
    logs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. interrupted: by the user."""

    code: int
    failures: list[Failure]
    interrupted: bool = False


def run(project: Project, targets: Sequence[str], how: Running) -> Outcome:
    """Have Snakemake make files of the results, those that are missing or stale."""
    with tempfile.TemporaryDirectory(prefix="weight-atlas-") as folder:
        failures, said = Path(folder) / "failures", Path(folder) / "said"
        code, interrupted = _ended(_arguments(project, targets, how, failures), project, said, how.verbose)
        found = [Failure(**json.loads(line)) for line in failures.open()] if failures.exists() else []
        if code and not found and not interrupted:
            found = [_unsaid(said.read_text(errors="replace") if said.exists() else "", code)]
        return Outcome(code, found, interrupted)


def _arguments(project: Project, targets: Sequence[str], how: Running, failures: Path) -> list[str]:
    arguments = [sys.executable, "-m", "snakemake", *targets, "--snakefile", str(workflow_folder() / "Snakefile")]
    arguments += ["--directory", str(project.directory), "--configfile", str(project.path)]
    arguments += ["--resources", "gpu=1"]
    if how.profile is not None:
        arguments += ["--workflow-profile", _profile(how.profile)]
    if how.profile is None or how.cores is not None:
        arguments += ["--cores", str(how.cores or "all")]
    if how.dry_run:
        arguments.append("--dry-run")
    if not how.verbose:
        arguments += ["--logger", "weight-atlas", "--logger-weight-atlas-failures", str(failures)]
        if how.quiet:
            arguments.append("--logger-weight-atlas-silent")
    return arguments


def _profile(name: str) -> str:
    own = workflow_folder() / "profiles" / name
    found = own if own.is_dir() else Path(name)
    if not found.is_dir():
        known = sorted(path.name for path in own.parent.iterdir() if path.is_dir())
        raise AtlasError(f"no such profile: {name}", remedy=f"give a folder, or one of {', '.join(known)}")
    return str(found)


def _ended(arguments: list[str], project: Project, said: Path, verbose: bool) -> tuple[int, bool]:
    """Run to the end. An interrupt of this process also interrupts the run, which then ends its own steps."""
    with said.open("wb") as file:
        try:
            # The screen is the child's standard output; what it writes to its standard error is no part of the view.
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=2, stderr=None if verbose else file, env=_environment()
            )
        except OSError as error:
            raise explained(error, project.directory) or error from error
        interrupted = False
        while True:
            try:
                return process.wait(), interrupted
            except KeyboardInterrupt:
                if interrupted:  # twice: no waiting for steps that do not end
                    process.send_signal(signal.SIGKILL)
                interrupted = True


def _environment() -> Mapping[str, str]:
    # So that a fork of this interpreter finds the same library, wherever it was imported from.
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _unsaid(text: str, code: int) -> Failure:
    """The last line of standard error of a run that ended without a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else f"it ended with code {code}"
    if "No space left on device" in text:
        last = "no space left on the device: free some room there, then run the same command again"
    return Failure(f"Snakemake could not run: {last}")


def described(failure: Failure) -> dict[str, Any]:
    """A failure as JSON has it."""
    return {"message": failure.message, "step": failure.step, "logs": failure.logs}
