"""The options that all commands on models share."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators

from weight_atlas.command.engine import Running
from weight_atlas.command.project import Project

RUN = Group("Running", sort_key=10)
SHOW = Group("What is shown", sort_key=11)
ONE_OR_MORE, NONE_OR_MORE = validators.Number(gte=1), validators.Number(gte=0)
Grade = Literal["critical", "notable", "info"]

Models = Annotated[
    list[str],
    Parameter(
        name=["--models", "--model"],
        consume_multiple=True,
        help="Models: organisation/name of the hub (with @revision), a folder, a checkpoint file, bundled:demo, or a "
        "name in weight-atlas.yaml.",
    ),
]
OneModel = Annotated[
    str,
    Parameter(
        name=["--model"],
        help="A model: organisation/name of the hub (with @revision), a folder, a checkpoint file, bundled:demo, or a "
        "name in weight-atlas.yaml.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Where and how a command runs, and what it leaves."""

    directory: Annotated[
        Path,
        Parameter(
            name=["--directory", "--output-dir", "--results-dir"],
            group=RUN,
            help="Folder of weight-atlas.yaml, results/ and logs/; it is made.",
        ),
    ] = Path()
    workers: Annotated[
        int | None,
        Parameter(
            name=["--workers", "--num-workers", "--cores"],
            group=RUN,
            validator=ONE_OR_MORE,
            help="CPU cores; all by itself.",
        ),
    ] = None
    profile: Annotated[
        str | None, Parameter(group=RUN, help="Snakemake profile: slurm, or a folder with a profile.")
    ] = None
    dry_run: Annotated[
        bool, Parameter(name=["--dry-run", "-n"], negative=(), group=RUN, help="Say what would run, and run nothing.")
    ] = False
    settings: Annotated[
        list[str],
        Parameter(
            name="--set",
            group=RUN,
            help="A key of the configuration, written to weight-atlas.yaml: --set effective_rank.phases=4.",
        ),
    ] = field(default_factory=list)
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative=(), group=SHOW, help="Headline and findings only.")
    ] = False
    verbose: Annotated[
        bool, Parameter(name=["--verbose", "-v"], negative=(), group=SHOW, help="All that Snakemake says, too.")
    ] = False
    json: Annotated[bool, Parameter(negative=(), group=SHOW, help="One JSON document on standard output.")] = False
    output: Annotated[
        list[Path],
        Parameter(
            group=SHOW,
            help="Write a file too, as its name ends: .json, .xml (JUnit), .sarif, .html, .svg (the screen).",
        ),
    ] = field(default_factory=list)
    fail_on: Annotated[
        Grade | None, Parameter(group=SHOW, help="Exit with code 2 for findings of this grade or a graver one.")
    ] = None
    thresholds: Annotated[
        Path | None, Parameter(group=SHOW, help="File of limits for numbers, and of findings that are accepted.")
    ] = None

    def project(self) -> Project:
        """The project of the directory, which is made if it is not there.

        What is wrong with the thresholds is said before.
        """
        from weight_atlas.command.thresholds import read_thresholds
        from weight_atlas.errors import AtlasError, explained

        if self.thresholds is not None:
            read_thresholds(self.thresholds)

        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "name a folder, or a place where one can be made"
            refused = AtlasError(f"cannot be made: {error.strerror}", where=self.directory, remedy=remedy)
            raise explained(error, self.directory) or refused from error
        return Project(self.directory)

    def running(self) -> Running:
        """How to run the workflow."""
        return Running(
            cores=self.workers, profile=self.profile, dry_run=self.dry_run, quiet=self.quiet or self.json,
            verbose=self.verbose,
        )  # fmt: skip


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


DEFAULTS = Options()
