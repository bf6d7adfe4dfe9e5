"""Hold a model to the thresholds of a file: findings that are accepted or graded otherwise, and limits of numbers."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any

from weight_atlas import metrics
from weight_atlas.command.project import Project
from weight_atlas.command.results import GRADES, Result, Row, read_rows, reason_in
from weight_atlas.errors import located, unknown_name
from weight_atlas.families.roles import Role
from weight_atlas.findings.rules import rules
from weight_atlas.settings.messages import checked
from weight_atlas.settings.thresholds import Limit, Thresholds
from weight_atlas.yaml_file import read_yaml

_NAMED = 3
Numbered = tuple[int, Row]  # a row of a table and its number there


def read_thresholds(path: Path) -> Thresholds:
    """The thresholds of a YAML file; AtlasError where it is invalid, or names an unknown metric, role or finding.

    A name with a slip in it would hold no model to anything.
    """
    content = read_yaml(path)
    thresholds = checked(Thresholds, content or {}, str(path))
    with located(path):
        for name, limit in thresholds.limits.items():
            metrics.metric(name)
            for role in limit.roles or ():
                _check_role(role, f"limits.{name}.roles")
        for key, names in (("ignore", thresholds.ignore), ("grades", thresholds.grades)):
            for name in names:
                _check_finding(name, key)
    return thresholds


def _check_role(role: str, where: str) -> None:
    """Several roles of a fused tensor are joined by +, and a bias is that of a role: W_Q.bias."""
    known = [each.value for each in Role]
    if not all(part in known for part in re.split(r"[+.]", role)):
        raise unknown_name("role", role, known, where)


def _check_finding(name: str, where: str) -> None:
    """Findings are called like their rules, those that analyses state like these with a number."""
    known = list(rules())
    analysis, _, number = name.rpartition(".")
    if name not in known and not (
        number.isdecimal() and analysis in {metrics.of(table).step for table in metrics.tables()}
    ):
        raise unknown_name("finding", name, known, where)


def held_to(thresholds: Thresholds, result: Result, project: Project) -> Result:
    """The result, its findings accepted, graded and added to as the thresholds say."""
    kept = [each for each in result.findings if each["id"] not in thresholds.ignore]
    graded = [{**each, "grade": thresholds.grades.get(each["id"], each["grade"])} for each in kept]
    held = [each for name, limit in thresholds.limits.items() for each in _held(name, limit, result, project)]
    found = [*graded, *held]
    return replace(result, findings=sorted(found, key=lambda each: GRADES.index(each["grade"])))


def _held(name: str, limit: Limit, result: Result, project: Project) -> list[Row]:
    """The findings for a limit: that rows of a table break it, have no number to hold to it, or that there are none."""
    metric = metrics.metric(name)
    table = metrics.of(name.removesuffix(f".{metric.column}"))
    wildcards = [field for _, field, _, _ in Formatter().parse(table.file) if field]
    file = table.file.format(**{result.of: result.name}) if wildcards in ([result.of], []) else ""
    path = project.results / file
    if not file.endswith(".csv") or not path.exists():
        remedy = f"scan with --methods {table.step}" if file.endswith(".csv") else "choose a metric of a CSV table"
        if table.file.endswith(".csv") and not file and len(wildcards) == 1:
            remedy = f"it is of a {wildcards[0]}: hold one to it, and not a {result.of}"
        text = f"{metric.title} cannot be held to its limit: there is no {table.file}"
        return [_finding(name, limit, text, remedy)]
    if (reason := reason_in(path)) is not None:
        text = f"{metric.title} is held to no limit, since it does not apply: {reason}"
        return [_finding(name, limit, text, "") | {"grade": "info"}]
    rows = enumerate(read_rows(path))
    looked_at = [(number, row) for number, row in rows if limit.roles is None or row.get("role") in limit.roles]
    if not looked_at:
        of = f" of {', '.join(limit.roles)}" if limit.roles is not None else ""
        text = f"{metric.title} is held to no limit: {file} has no row{of}"
        return [_finding(name, limit, text, "") | {"grade": "info"}]
    keys = [table.keys[key] for key in ("id", "tensor") if key in table.keys] or list(table.keys.values())
    first = looked_at[0][1]
    places = keys[:1] or [column for column in ("a", "b") if column in first] or list(first)[:1]
    found = []
    if bad := [each for each in looked_at if _breaks(each[1].get(metric.column), limit)]:
        worst = max(bad, key=lambda each: abs(each[1][metric.column] - _bound(each[1][metric.column], limit)))[1]
        named = _listed([f"{_place(row, places)} ({row[metric.column]:.4g})" for _, row in bad])
        text = f"{metric.title}: {len(bad)} of {len(looked_at)} break the limit {_said(limit)}: {named}."
        values = {"value": worst[metric.column], "null_value": _bound(worst[metric.column], limit)}
        remedy = "look at them, or change the limit in the file of thresholds"
        found.append(_finding(name, limit, text, remedy) | _where(bad, looked_at, places, file, worst) | values)
    if unknown := [each for each in looked_at if not _is_number(each[1].get(metric.column))]:
        named = _listed([_place(row, places) for _, row in unknown])
        text = f"{metric.title}: {len(unknown)} of {len(looked_at)} have no number, and are held to no limit: {named}."
        # Some rows have none by their nature; where none has one, the limit holds nothing at all.
        grade = limit.grade if len(unknown) == len(looked_at) else "info"
        made = _finding(name, limit, text, "look why: values that are not finite, or nothing to measure")
        made |= {"id": f"threshold.{name}.no_number", "grade": grade}
        found.append(made | _where(unknown, looked_at, places, file, unknown[0][1]))
    return found


def _where(rows: Sequence[Numbered], looked_at: Sequence[Numbered], places: list[str], file: str, worst: Row) -> Row:
    """Where a finding about some rows of a table is."""
    return {
        "place": _place(worst, places),
        "places": [_place(row, places) for _, row in rows],
        "count": len(rows),
        "looked_at": len(looked_at),
        "evidence": {"file": file, "rows": [number for number, _ in rows]},
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _place(row: Row, columns: list[str]) -> str:
    return " and ".join(str(row[column]) for column in columns)


def _finding(name: str, limit: Limit, text: str, remedy: str) -> Row:
    nothing: Row = {"place": "", "places": [], "count": 0, "looked_at": None, "value": None, "null_value": None}
    return {
        "id": f"threshold.{name}", "grade": limit.grade, "analysis": name.split(".")[0], "text": text,
        "remedy": remedy, "effect": None, "evidence": {"file": "", "rows": []}, **nothing,
    }  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _breaks(value: Any, limit: Limit) -> bool:
    if not _is_number(value):
        return False
    return (limit.least is not None and value < limit.least) or (limit.most is not None and value > limit.most)


def _bound(value: float, limit: Limit) -> float:
    if limit.least is not None and value < limit.least:
        return limit.least
    return limit.most if limit.most is not None else value


def _said(limit: Limit) -> str:
    parts = [("at least", limit.least), ("at most", limit.most)]
    return " and ".join(f"{word} {bound:g}" for word, bound in parts if bound is not None)
