"""`weight-atlas scan`, and what all commands share that run the workflow on models and show the results."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from weight_atlas.command import engine
from weight_atlas.command.engine import INTERRUPTED, Outcome
from weight_atlas.command.formats import as_json, check_outputs, write_outputs
from weight_atlas.command.options import DEFAULTS, NONE_OR_MORE, Models, Options
from weight_atlas.command.project import Project
from weight_atlas.command.results import Extract, Result, exceeded, product_of, result_of
from weight_atlas.command.screen import console, print_failures, print_lines, print_result
from weight_atlas.command.thresholds import held_to, read_thresholds
from weight_atlas.errors import AtlasError
from weight_atlas.settings.methods import ALL, DEFAULT, METHODS, analyses_of

FAILED, FOUND = 1, 2
TOP = 10
Methods = Annotated[
    list[str],
    Parameter(
        consume_multiple=True,
        help=f"What to look at: {', '.join(METHODS)}, {ALL} of these, or analyses by name.",
    ),
]
TopIssues = Annotated[int, Parameter(validator=NONE_OR_MORE, help="Rows of each table.")]
Beside = Callable[[Project, list[str]], Iterable[str]]
More = Callable[[Project, str], list[Extract]]


def scan(
    models: Models,
    *,
    methods: Methods = list(DEFAULT),  # noqa: B006 - read only
    top_issues: TopIssues = TOP,
    options: Options = DEFAULTS,
) -> None:
    """Scan the weights of models: findings by grade, and the worst of each table beside its null.

    Nothing but the weights is read. The first scan of a model computes, further ones show what is there; results lie in
    results/, and what was asked for in weight-atlas.yaml.

    ```
    weight-atlas scan bundled:demo
    weight-atlas scan openai-community/gpt2 --methods all --output report.json
    weight-atlas scan ./my-model --fail-on critical --output report.sarif
    ```
    """
    show(models, analyses_of(methods), options, most=top_issues)


def show(
    models: Sequence[str],
    analyses: Sequence[str],
    options: Options,
    *,
    most: int = TOP,
    prepare: Callable[[Project], None] | None = None,
    beside: Beside = lambda project, names: (),
    more: More | None = None,
    judged: bool = True,
) -> None:
    """Run analyses of models and show what they found; ends the process with an exit code that says how it went.

    prepare: changes of the project before its models are asked for. beside: further files to make, below the results.
    more: what a command shows of a model beside its findings and tables. judged: whether findings are asked for.
    """
    if not models:
        raise AtlasError("no model", remedy="name one: weight-atlas scan bundled:demo")
    check_outputs(options.output)
    project = options.project()
    names = ask(project, models, analyses, options, prepare)
    outcome = make(project, names, targets(project, names, analyses, beside(project, names), judged), options)
    results = [result_of(project, name, analyses, most) for name in names if project.arrived(name)]
    results = [replace(each, judged=judged, extracts=more(project, each.name) if more else []) for each in results]
    conclude(project, results, outcome, options)


def make(project: Project, names: Iterable[str], files: Sequence[str], options: Options) -> Outcome:
    """Have the workflow make files; a dry run, and an interrupted one, end here."""
    try:
        outcome = engine.run(project, files, options.running())
    except AtlasError:  # it could not begin
        project.take_back()
        raise
    if options.dry_run or (outcome.code and not all(map(project.arrived, names))):
        project.take_back()
    print_failures(outcome.failures)
    if outcome.interrupted:
        end_interrupted()
    if options.dry_run:
        if options.json:
            sys.stdout.write(as_json([], outcome.failures))
        sys.exit(FAILED if outcome.code else 0)
    return outcome


def conclude(project: Project, results: Sequence[Result], outcome: Outcome, options: Options) -> None:
    """Hold results to the thresholds, print them, write them, and end with the code that tells how it went."""
    if options.thresholds is not None:
        thresholds = read_thresholds(options.thresholds)
        results = [held_to(thresholds, result, project) for result in results]
    # Before anything is printed: whoever reads that may leave, and an error is to be the one document of --json.
    write_outputs(options.output, results, outcome.failures)
    if options.json:
        sys.stdout.write(as_json(results, outcome.failures))
    else:
        for result in results:
            print_result(result, quiet=options.quiet)
        if results and not options.quiet:
            print_lines([f"{project.results}: all numbers and figures; {project.path}: what was asked for"])
    if outcome.code:
        sys.exit(FAILED)
    if any(exceeded(result.worst, options.fail_on) for result in results):
        sys.exit(FOUND)


def ask(
    project: Project,
    models: Sequence[str],
    analyses: Sequence[str],
    options: Options,
    prepare: Callable[[Project], None] | None = None,
) -> list[str]:
    """Write to the project what is asked for, and return the models' names; AtlasError where it cannot be."""
    if prepare is not None:
        prepare(project)
    for setting in options.settings:
        set_key(project, setting)
    names = list(dict.fromkeys(project.model(text) for text in models))
    for name in names:
        project.ask(name, analyses)
    if project.changes():
        project.configured()
    project.write()
    return names


def targets(
    project: Project, names: Sequence[str], analyses: Sequence[str], more: Iterable[str], judged: bool
) -> list[str]:
    """What Snakemake is to make: tables of analyses, the findings in them, and more files below the results."""
    wanted = [product_of(analysis, name) for name in names for analysis in analyses]
    wanted += [f"findings/{name}.json" for name in names if judged and project.models[name].get("analyses") is not None]
    return [f"{project.folder('results')}/{each}" for each in [*wanted, *more]]


def set_key(project: Project, setting: str) -> None:
    """Set a key as --set has it: section.key=value, the value in YAML."""
    import yaml

    key, equals, text = setting.partition("=")
    if not equals or "." not in key:
        raise AtlasError(f"no setting: {setting}", where="--set", remedy="write section.key=value")
    try:
        project.set_key(key, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise AtlasError(f"no YAML: {text}", where="--set", remedy="write section.key=value") from error


def end_interrupted() -> None:
    """Say that a run was stopped and can go on, and end as a process does that was interrupted."""
    console(error=True).print(
        "interrupted: what was finished is kept; the same command again goes on from there", style="yellow"
    )
    sys.exit(INTERRUPTED)
