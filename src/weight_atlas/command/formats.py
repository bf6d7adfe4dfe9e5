"""What a scan found as files for other programs: JSON, JUnit XML, SARIF, and the screen as HTML or SVG."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from weight_atlas.atomic_files import write_text
from weight_atlas.command.engine import Failure, described
from weight_atlas.command.results import Result, Row, null_of
from weight_atlas.errors import AtlasError

# SARIF 2.1.0, section 3.27.10; GitHub shows error, warning and note.
LEVELS = {"critical": "error", "notable": "warning", "info": "note"}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_json(results: Sequence[Result], failures: Iterable[Failure]) -> str:
    """All that the screen shows, as one JSON document; a row's null is its own, by the registry."""
    models = [
        {
            "model": result.name,
            "source": result.source,
            **result.facts,
            "findings": [_finite_row(each) for each in result.findings],
            "tables": [_table(table) for table in result.tables],
            "extracts": [
                {"title": each.title, "file": each.file, "rows": [_finite_row(row) for row in each.rows]}
                for each in result.extracts
            ],
            "not_applicable": result.skipped,
            "failed": result.missing,
        }
        for result in results
    ]
    content = {"schema": 1, "models": models, "failures": [described(each) for each in failures]}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _table(table: Any) -> dict[str, Any]:
    metric = table.metric
    rows = [{**row, "null": null_of(metric, row)} for row in table.rows]
    return {
        "metric": metric.id, "title": metric.title, "unit": metric.unit, "direction": metric.direction,
        "definition": metric.definition, "file": table.file, "of": table.of,
        "rows": [_finite_row(row) for row in rows],
    }  # fmt: skip


def _finite_row(row: Row) -> Row:
    return {key: _finite(value) for key, value in row.items()}


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def as_junit(results: Sequence[Result], failures: Iterable[Failure]) -> str:
    """A suite a model, a case a finding: critical ones are failures, the others passed with their text."""
    suites = ElementTree.Element("testsuites", name="weight-atlas")
    for result in results:
        suite = ElementTree.SubElement(suites, "testsuite", name=_xml(result.name))
        for finding in result.findings:
            case = ElementTree.SubElement(
                suite, "testcase", classname=_xml(f"{result.name}.{finding['analysis']}"), name=_xml(finding["id"])
            )
            text = _xml(f"{finding['text']}\n{finding.get('remedy') or ''}".strip())
            if finding["grade"] == "critical":
                ElementTree.SubElement(case, "failure", message=_xml(finding["text"]), type="critical").text = text
            else:
                ElementTree.SubElement(case, "system-out").text = f"{finding['grade']}: {text}"
        if not result.findings:
            ElementTree.SubElement(suite, "testcase", classname=_xml(result.name), name="no findings")
        failed = sum(each["grade"] == "critical" for each in result.findings)
        suite.attrib |= {"tests": str(max(1, len(result.findings))), "failures": str(failed), "errors": "0"}
    broken = list(failures)
    if broken:
        suite = ElementTree.SubElement(
            suites, "testsuite", name="steps", tests=str(len(broken)), failures="0", errors=str(len(broken))
        )
        for each in broken:
            case = ElementTree.SubElement(suite, "testcase", classname="steps", name=_xml(each.step or "run"))
            ElementTree.SubElement(case, "error", message=_xml(each.message))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """A text without the characters that XML 1.0 forbids."""
    return "".join(c if c in "\n\t" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "\ufffd"
                   for c in text)  # fmt: skip


def as_sarif(results: Sequence[Result], failures: Iterable[Failure]) -> str:
    """SARIF 2.1.0: a rule an id of findings, a result a finding, at the table that is its evidence."""
    found = [(result, finding) for result in results for finding in result.findings]
    ids = sorted({finding["id"] for _, finding in found})
    rules = [{"id": name, "shortDescription": {"text": name.replace("_", " ")}} for name in ids]
    driver = {
        "name": "weight-atlas", "version": version("weight-atlas"), "rules": rules,
        "informationUri": "https://pypi.org/project/weight-atlas/",
    }  # fmt: skip
    notes = [{"level": "error", "message": {"text": each.message}} for each in failures]
    run: dict[str, Any] = {"tool": {"driver": driver}, "results": [_sarif(*each, ids) for each in found]}
    run["invocations"] = [{"executionSuccessful": not notes, "toolExecutionNotifications": notes}]
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _sarif(result: Result, finding: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    evidence = finding.get("evidence") or {}
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": f"{result.name}/{finding['place']}"}]}
    # GitHub takes a result without a place in a file for a fault.
    location["physicalLocation"] = {
        "artifactLocation": {"uri": _uri(result.folder / (evidence.get("file") or f"findings/{result.name}.json"))},
        "region": {"startLine": 2 + next(iter(evidence.get("rows") or ()), 0)},
    }
    text = f"{result.name}: {finding['text']}"
    remedy = finding.get("remedy")
    return {
        "ruleId": finding["id"],
        "ruleIndex": ids.index(finding["id"]),
        "level": LEVELS[finding["grade"]],
        "message": {"text": f"{text} {remedy}" if remedy else text},
        "locations": [location],
        "partialFingerprints": {"weight-atlas/v1": f"{result.name}/{finding['id']}"},
    }


def _uri(path: Path) -> str:
    """A path as a URI; a path relative to the working folder stays relative, as SARIF expects in a repository."""
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


Writer = Callable[[Sequence[Result], Iterable[Failure]], str]
WRITERS: dict[str, Writer] = {".json": as_json, ".xml": as_junit, ".sarif": as_sarif}


def check_outputs(paths: Iterable[Path]) -> None:
    """Raise AtlasError, before anything runs, for an output of a format that cannot be written."""
    for path in paths:
        if path.suffix not in {*WRITERS, ".html", ".svg"}:
            raise AtlasError(
                "no format for this file", where=path,
                remedy="end it with .json, .xml (JUnit), .sarif, .html or .svg (the screen)",
            )  # fmt: skip


def write_outputs(paths: Iterable[Path], results: Sequence[Result], failures: Sequence[Failure]) -> None:
    """Write the files that are asked for, each in the format of its suffix."""
    for path in paths:
        writer = WRITERS.get(path.suffix)
        write_text(path, writer(results, failures) if writer else _screen(path.suffix, results))


def _screen(suffix: str, results: Sequence[Result]) -> str:
    import io

    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME

    from weight_atlas.command.screen import print_result

    console = Console(record=True, file=io.StringIO(), width=120, highlight=False)
    for result in results:
        print_result(result, screen=console)
    if suffix == ".html":
        return console.export_html(theme=SVG_EXPORT_THEME)
    return console.export_svg(title="weight-atlas scan", unique_id="weight-atlas")
