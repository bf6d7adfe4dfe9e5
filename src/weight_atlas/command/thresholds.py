"""Hold a model to the thresholds of a file: findings that are accepted or graded otherwise, and limits of numbers."""

import re
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any

from weight_atlas import metrics
from weight_atlas.command.project import Project
from weight_atlas.command.results import GRADES, Result, Row, read_rows
from weight_atlas.errors import located, unknown_name
from weight_atlas.families.roles import Role
from weight_atlas.findings.rules import rules
from weight_atlas.settings.messages import checked
from weight_atlas.settings.thresholds import Limit, Thresholds
from weight_atlas.yaml_file import read_yaml

_NAMED = 3


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
    broken = [_broken(name, limit, result, project) for name, limit in thresholds.limits.items()]
    found = [*graded, *(each for each in broken if each)]
    return replace(result, findings=sorted(found, key=lambda each: GRADES.index(each["grade"])))


def _broken(name: str, limit: Limit, result: Result, project: Project) -> Row | None:
    """The finding for a limit that rows of a table break, or whose table is missing."""
    metric = metrics.metric(name)
    table = metrics.of(name.removesuffix(f".{metric.column}"))
    wildcards = [field for _, field, _, _ in Formatter().parse(table.file) if field]
    file = table.file.format(**{result.of: result.name}) if wildcards in ([result.of], []) else ""
    path = project.results / file
    if not file.endswith(".csv") or not path.exists():
        remedy = f"scan with --methods {table.step}" if file.endswith(".csv") else "choose a metric of a CSV table"
        if table.file.endswith(".csv") and not file and len(wildcards) == 1:
            remedy = f"it is of a {wildcards[0]}: hold one to it, and not a {result.of}"
        return _finding(name, limit, f"{metric.title} cannot be held to its limit: there is no {table.file}", remedy)
    rows = enumerate(read_rows(path))
    looked_at = [(number, row) for number, row in rows if limit.roles is None or row.get("role") in limit.roles]
    bad = [(number, row) for number, row in looked_at if _breaks(row.get(metric.column), limit)]
    if not bad:
        return None
    keys = [table.keys[key] for key in ("id", "tensor") if key in table.keys] or list(table.keys.values())
    places = keys[:1] or [column for column in ("a", "b") if column in bad[0][1]] or list(bad[0][1])[:1]
    worst = max(bad, key=lambda each: abs(each[1][metric.column] - _bound(each[1][metric.column], limit)))[1]
    named = ", ".join(f"{_place(row, places)} ({row[metric.column]:.4g})" for _, row in bad[:_NAMED])
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    text = f"{metric.title}: {len(bad)} of {len(looked_at)} break the limit {_said(limit)}: {named}{more}."
    return _finding(name, limit, text, "look at them, or change the limit in the file of thresholds") | {
        "place": _place(worst, places),
        "places": [_place(row, places) for _, row in bad],
        "count": len(bad),
        "looked_at": len(looked_at),
        "value": worst[metric.column],
        "null_value": _bound(worst[metric.column], limit),
        "evidence": {"file": file, "rows": [number for number, _ in bad]},
    }


def _place(row: Row, columns: list[str]) -> str:
    return " and ".join(str(row[column]) for column in columns)


def _finding(name: str, limit: Limit, text: str, remedy: str) -> Row:
    nothing: Row = {"place": "", "places": [], "count": 0, "looked_at": None, "value": None, "null_value": None}
    return {
        "id": f"threshold.{name}", "grade": limit.grade, "analysis": name.split(".")[0], "text": text,
        "remedy": remedy, "effect": None, "evidence": {"file": "", "rows": []}, **nothing,
    }  # fmt: skip


def _breaks(value: Any, limit: Limit) -> bool:
    if not isinstance(value, int | float):
        return False
    return (limit.least is not None and value < limit.least) or (limit.most is not None and value > limit.most)


def _bound(value: float, limit: Limit) -> float:
    if limit.least is not None and value < limit.least:
        return limit.least
    return limit.most if limit.most is not None else value


def _said(limit: Limit) -> str:
    parts = [("at least", limit.least), ("at most", limit.most)]
    return " and ".join(f"{word} {bound:g}" for word, bound in parts if bound is not None)
