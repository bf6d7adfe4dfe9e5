"""What the workflow left of a model, as a command shows it: findings, and the tables of the worst.

Read without pandas: a command that finds everything done already should end as soon as Snakemake has said so.
"""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weight_atlas import metrics
from weight_atlas.command.project import Project
from weight_atlas.digest_records import check
from weight_atlas.errors import AtlasError
from weight_atlas.metrics.metric import Metric
from weight_atlas.metrics.ranked import RANKED

GRADES = ("critical", "notable", "info")
Row = dict[str, Any]


# Analyses whose results have no table called {analysis}/{model}.csv.
_ELSEWHERE = {
    "neuron_effects": "neuron_effects/{model}/neurons.csv",
    "super_weight_cards": "super_weight_cards/{model}/super_weights.csv",
}


def product_of(analysis: str, model: str) -> str:
    """The table of an analysis, below the results; making it makes all products of the analysis."""
    return _ELSEWHERE.get(analysis, "{analysis}/{model}.csv").format(analysis=analysis, model=model)


@dataclass(frozen=True)
class Shown:
    """The worst rows of a table by one of its metrics. null: of each row, None where there is none."""

    metric: Metric
    file: str
    columns: list[str]
    rows: list[Row]
    of: int


@dataclass(frozen=True)
class Extract:
    """Some columns of a table, as they stand there; file: below the results."""

    title: str
    file: str
    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Result:
    """What is known of a model.

    skipped: analyses that do not apply to it, with the reason; missing: that failed. judged: whether findings were
    looked for. folder: of results, which files are named below. of: what it is the result of, the wildcard in the names
    of its tables: model, pair or series.
    """

    name: str
    source: str
    facts: Row
    findings: list[Row]
    tables: list[Shown]
    skipped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    extracts: list[Extract] = field(default_factory=list)
    judged: bool = True
    folder: Path = Path("results")
    of: str = "model"

    @property
    def worst(self) -> str | None:
        """The gravest grade of the findings."""
        return next((grade for grade in GRADES if any(each["grade"] == grade for each in self.findings)), None)


def result_of(project: Project, name: str, analyses: Iterable[str], most: int) -> Result:
    """Read what there is of a model: the findings and tables of these analyses. most: rows of a table."""
    analyses = list(analyses)
    skipped, missing, tables = {}, [], []
    for analysis in analyses:
        reason = reason_in(project.results / analysis / f"{name}.csv")
        if reason is not None:
            skipped[analysis] = reason
    for wanted in RANKED:
        table, _, column = wanted.metric.rpartition(".")
        known = metrics.of(table)
        if known.step not in analyses or known.step in skipped:
            continue
        path = project.results / known.file.format(model=name)
        if not path.exists():
            missing.append(known.step)
            continue
        tables.append(_worst(known, column, wanted.beside, path, project, most))
    entry = project.models[name]
    findings = [each for each in _findings(project, name, analyses) if each["analysis"] in analyses]
    return Result(
        name, str(entry["source"]), _facts(project, name), findings, [each for each in tables if each.rows],
        skipped, sorted(set(missing)), folder=project.results,
    )  # fmt: skip


def stated(findings: Iterable[Row], analysis: str, file: str) -> list[Row]:
    """Findings that an analysis states in a JSON file below the results, as records of findings."""
    nothing: Row = {"place": "", "value": None, "null_value": None, "remedy": ""}
    return [
        {
            **nothing, **each, "id": f"{analysis}.{number + 1}", "analysis": analysis,
            "evidence": {"file": file, "rows": [number]},
        }
        for number, each in enumerate(findings)
    ]  # fmt: skip


def extract(
    project: Project, title: str, file: str, columns: Iterable[str], *, only: str = "", where: Row | None = None
) -> list[Extract]:
    """A table below the results, as many of the columns as say something; none where it is not there, or empty.

    only: a boolean column; the rows in which it is true are kept. where: values that rows must have.
    """
    path = project.results / file
    rows = read_rows(path) if path.exists() else []
    rows = [row for row in rows if not only or row[only] == "True"]
    rows = [row for row in rows if all(row[column] == value for column, value in (where or {}).items())]
    columns = [column for column in columns if any(row.get(column) is not None for row in rows)]
    return [Extract(title, file, columns, rows)] if columns else []


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; a cell that is a number as one, an empty one as None."""
    check(path)
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _value(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _value(cell: str) -> Any:
    if cell == "":
        return None
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        return cell


def _findings(project: Project, name: str, analyses: list[str]) -> list[Row]:
    """The findings that the workflow gathered; of a model that asks for all analyses, those of the ones looked at."""
    if project.models[name].get("analyses") is not None:
        path = project.results / "findings" / f"{name}.json"
        check(path)
        return json.loads(path.read_text(encoding="utf-8"))["findings"] if path.exists() else []
    from weight_atlas.findings.gather import gathered
    from weight_atlas.findings.rules import files

    wanted = {project.results / file.format(model=name) for file in files() if file.split("/")[0] in analyses}
    wanted |= {project.results / analysis / f"{name}.json" for analysis in analyses}
    return gathered(sorted(path for path in wanted if path.exists()), project.results)


def _facts(project: Project, name: str) -> Row:
    """What stands at the top: size, commit, from the manifest."""
    path = project.results / "checkpoints" / f"{name}.json"
    if not path.exists():
        return {}
    check(path)
    manifest = json.loads(path.read_text(encoding="utf-8"))
    return {
        "revision": manifest.get("revision"),
        "files": len(manifest["files"]),
        "bytes": sum(file["size"] for file in manifest["files"]),
    }


def reason_in(path: Path) -> str | None:
    """Why an analysis does not apply, if that is all that its table says."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        return next(reader, [""])[0] if next(reader, None) == ["not_applicable"] else None


def _worst(known: Any, column: str, beside: Iterable[str], path: Path, project: Project, most: int) -> Shown:
    metric = known.by_column[column]
    rows = [row for row in read_rows(path) if _number(row.get(column)) is not None and _is_matrix(row)]
    rows.sort(key=lambda row: _unusual(metric, row), reverse=True)
    place = [known.keys[key] for key in ("id", "tensor", "layer", "component") if key in known.keys]
    place = place[:1] if place and place[0] in ("id", "tensor") else place
    null = [metric.null] if isinstance(metric.null, str) else []
    columns = list(dict.fromkeys([*place, column, *null, *beside]))
    file = path.relative_to(project.results).as_posix()
    return Shown(metric, file, columns, [{key: row.get(key) for key in columns} for row in rows[:most]], len(rows))


def _is_matrix(row: Row) -> bool:
    """Whether a row is of a matrix: a handful of norms and biases would rank above all matrices."""
    return "cols" not in row or row["cols"] is not None


def null_of(metric: Metric, row: Row) -> float | None:
    """The value that a metric has by chance in a row; None where it is not known."""
    return _number(row.get(metric.null)) if isinstance(metric.null, str) else metric.null


def _unusual(metric: Metric, row: Row) -> float:
    """How unusual the value of a row is, as Metric.ranked has it: by direction, or the distance from the null."""
    value = float(row[metric.column])
    if metric.direction == "lower":
        return -value
    if metric.direction != "both":
        return value
    null = null_of(metric, row) or 0.0
    if metric.scale == "log" and value > 0 and null > 0:
        return abs(math.log(value / null))
    return abs(value - null)


def _number(value: Any) -> float | None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    return None if number is None or math.isnan(number) else float(number)


def exceeded(worst: str | None, limit: str | None) -> bool:
    """Whether a grade is at least as grave as the one that a run is to fail on."""
    if limit is not None and limit not in GRADES:
        raise AtlasError(f"no such grade: {limit}", where="--fail-on", remedy=f"use one of {', '.join(GRADES)}")
    return limit is not None and worst is not None and GRADES.index(worst) <= GRADES.index(limit)
