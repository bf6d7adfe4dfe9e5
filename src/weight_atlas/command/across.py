"""`weight-atlas series` and `weight-atlas lineage`: several models at once, through the workflow."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from weight_atlas.command.formats import check_outputs
from weight_atlas.command.options import DEFAULTS, Models, Options
from weight_atlas.command.project import Project
from weight_atlas.command.requested import plain_name
from weight_atlas.command.results import Extract, Result, extract, stated
from weight_atlas.command.scan import Methods, ask, conclude, make, targets
from weight_atlas.digest_records import check
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path
from weight_atlas.settings.methods import DEFAULT, analyses_of

_MOST = 20
_TRENDS = ("metric", "role", "of", "first", "last", "null_last", "relative_change", "tau", "sharpest_at")
_DRIFT = ("checkpoint", "role", "change_previous", "cosine_previous", "change_first", "cosine_first")
_ARISEN = ("layer", "component", "row", "column", "first_checkpoint", "last_checkpoint", "found", "last_ratio")
_RELATED = ("a", "b", "relation", "sign_distance", "sign_distance_null", "equal", "equal_null", "row_norms")
Name = Annotated[str, Parameter(help="Name of the series in weight-atlas.yaml and in the results.")]


def series(
    models: Models,
    *,
    name: Name = "run",
    revisions: Annotated[
        list[str] | None, Parameter(consume_multiple=True, help="Revisions of one hub model, a checkpoint each.")
    ] = None,
    methods: Methods = list(DEFAULT),  # noqa: B006 - read only
    options: Options = DEFAULTS,
) -> None:
    """Follow the checkpoints of a training run: every number over steps, drift, and when super weights arise.

    The checkpoints are models by name, one hub model with its revisions, or a pattern of folders such as
    'runs/checkpoint-*', which is looked at anew each time: while a run trains, each new one adds its own steps only.

    ```
    weight-atlas series './runs/checkpoint-*' --name mine
    weight-atlas series EleutherAI/pythia-70m --revisions step1000 step64000 step143000 --name pythia
    ```
    """
    check_outputs(options.output)
    project, analyses = options.project(), analyses_of(methods)
    names: list[str] = []
    if revisions or any("*" in text for text in models):
        _add_source(project, models, name, revisions, analyses)
        names = ask(project, [], analyses, options)
    else:
        names = ask(project, models, analyses, options)
        project.set_entry("series", name, names)
        project.configured()
        project.write()
    files = [f"series/{name}.json", f"atlas/series/{name}.md"]
    outcome = make(project, names, targets(project, [], [], files, False), options)
    tables = [
        *extract(project, "Numbers that moved", f"series/{name}/trends.csv", _TRENDS, only="shown"),
        *extract(project, "Drift of all weights", f"series/{name}/drift.csv", _DRIFT, where={"role": "all"}),
        *extract(project, "Super weights", f"series/{name}/arisen.csv", _ARISEN),
    ]
    conclude(project, _result(project, name, f"series/{name}.json", "series", tables), outcome, options)


def lineage(models: Models, *, options: Options = DEFAULTS) -> None:
    """Tell which models are fine-tunes, copies or merges of which, with the evidence, and which are unrelated.

    ```
    weight-atlas lineage ./base ./tuned ./other --output lineage.json
    ```
    """
    check_outputs(options.output)
    if len(models) < 2:
        raise AtlasError("one model has no relations", remedy="name two or more")
    project = options.project()
    names = ask(project, models, [], options)
    if len(names) < 2:
        project.take_back()
        raise AtlasError("one model has no relations", where=names[0], remedy="name two or more")
    known = (project.document.get("lineage") or {}).get("models")
    if known != "all" and not {*names} <= {*(known or ())}:
        project.set_key("lineage.models", [*(known or ()), *(each for each in names if each not in (known or ()))])
        project.configured()
        project.write()
    outcome = make(project, names, targets(project, [], [], ["lineage/models.csv"], False), options)
    tables = extract(project, "Pairs of models", "lineage/models.csv", _RELATED)
    conclude(project, _result(project, "lineage", "lineage/models.json", "lineage", tables), outcome, options)


def _add_source(
    project: Project, models: Sequence[str], name: str, revisions: list[str] | None, analyses: list[str]
) -> None:
    """Add a series to the project by its source; an existing entry keeps its other keys."""
    from weight_atlas.checkpoint.source import parse_source

    if len(models) != 1:
        raise AtlasError("a series has one source", where=", ".join(models), remedy="give one pattern or one hub model")
    (text,) = models
    # A pattern is relative to where it was typed, as the paths of models are.
    source = text if project.is_here else user_path(text).absolute().as_posix()
    if revisions:
        source = parse_source(text if ":" in text else f"hf://{text}").text
    known: dict[str, Any] = (project.document.get("series") or {}).get(name) or {}
    entry = {**known, "source": source, "analyses": analyses} | ({"revisions": revisions} if revisions else {})
    project.set_entry("series", plain_name(name), entry)


def _result(project: Project, name: str, file: str, analysis: str, tables: list[Extract]) -> list[Result]:
    path = project.results / file
    if not path.exists():
        return []
    check(path)
    summary = json.loads(path.read_text(encoding="utf-8"))
    about = f"{len(summary['models'])} checkpoints" if "models" in summary else "relations of models"
    findings = stated(summary["findings"], analysis, file)
    return [Result(name, about, {}, findings, [], extracts=tables, folder=project.results, of=analysis)]
