"""JUnit XML and SARIF as other programs take them: what their definitions require, of whatever findings and places."""

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import jsonschema
import pytest

from weight_atlas.command.engine import Failure
from weight_atlas.command.formats import as_junit, as_sarif
from weight_atlas.command.results import Result

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
ARTIFACT = {
    "type": "object",
    "properties": {"uri": {"type": "string", "format": "uri-reference"}, "uriBaseId": {"type": "string"}},
    "additionalProperties": False,
}
REGION = {
    "type": "object",
    "properties": {name: {"type": "integer", "minimum": 1} for name in ("startLine", "endLine", "startColumn")},
    "additionalProperties": False,
}
LOCATION = {
    "type": "object",
    "properties": {
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "properties": {"artifactLocation": ARTIFACT, "region": REGION},
            "additionalProperties": False,
        },
        "logicalLocations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"fullyQualifiedName": {"type": "string"}, "name": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
RULE = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string", "minLength": 1}, "shortDescription": TEXT, "fullDescription": TEXT},
    "additionalProperties": False,
}
RESULT = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": LEVEL,
        "message": TEXT,
        "locations": {"type": "array", "items": LOCATION},
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}
DRIVER = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "version": {"type": "string"},
        "informationUri": {"type": "string", "format": "uri", "pattern": "^https://"},
        "rules": {"type": "array", "items": RULE, "uniqueItems": True},
    },
    "additionalProperties": False,
}
INVOCATION = {
    "type": "object",
    "required": ["executionSuccessful"],
    "properties": {
        "executionSuccessful": {"type": "boolean"},
        "toolExecutionNotifications": {
            "type": "array",
            "items": {"type": "object", "required": ["message"], "properties": {"level": LEVEL, "message": TEXT}},
        },
    },
    "additionalProperties": False,
}
# What the standard (OASIS SARIF 2.1.0, section 3) requires of the properties that are written, and no others.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {"type": "object", "required": ["driver"], "properties": {"driver": DRIVER}},
                    "results": {"type": "array", "items": RESULT},
                    "invocations": {"type": "array", "items": INVOCATION},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
HOSTILE = "\x00\x1b[2J </failure> & ]]> \ud800 \u202e 名"


def finding(number: int, grade: str, text: str = "it is so", **more):
    found = {
        "id": f"rule_{number % 3}",
        "grade": grade,
        "analysis": "effective_rank",
        "place": "layers.1",
        "text": text,
    }
    return {**found, "remedy": "mend it", "evidence": {"file": "effective_rank/m.csv", "rows": [number]}, **more}


def result(name: str = "m", folder: Path = Path("results"), found=None) -> Result:
    if found is None:
        found = [finding(number, grade) for number, grade in enumerate(("critical", "notable", "info", "critical"))]
        found.append(finding(4, "critical", evidence={"file": "", "rows": []}, remedy=""))  # a table that is not there
    return Result(name, "bundled:demo", {}, found, [], folder=folder)


RUNS = {
    "findings": ([result(), result("n-2@x")], []),
    "nothing found": ([result(found=[])], []),
    "no model": ([], [Failure("it broke", "fetch_checkpoint m", ["a.log"])]),
    "hostile": ([result(found=[finding(0, "critical", HOSTILE, place=HOSTILE)])], [Failure(HOSTILE)]),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_sarif_is_what_the_standard_requires(run):
    content = json.loads(as_sarif(*run))
    jsonschema.validate(content, SARIF, format_checker=jsonschema.FormatChecker())
    (made,) = content["runs"]
    ids = [rule["id"] for rule in made["tool"]["driver"]["rules"]]
    assert len(ids) == len(set(ids)) and ids == sorted(ids)
    for each in made["results"]:
        assert ids[each["ruleIndex"]] == each["ruleId"]
        (location,) = each["locations"]
        assert location["physicalLocation"]["region"]["startLine"] >= 1
    assert made["invocations"][0]["executionSuccessful"] == (not run[1])


@pytest.mark.parametrize(
    ("folder", "uri"),
    [
        ("results", "results/effective_rank/m.csv"),
        ("out/my results 100%", "out/my%20results%20100%25/effective_rank/m.csv"),
        ("../a:b/results", "../a%3Ab/results/effective_rank/m.csv"),
        ("/data/é", "file:///data/%C3%A9/effective_rank/m.csv"),
    ],
)
def test_places_are_uris_of_the_files(folder, uri):
    content = json.loads(as_sarif([result(folder=Path(folder))], []))
    found = content["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert found == uri
    assert unquote(urlsplit(found).path) == (Path(folder) / "effective_rank/m.csv").as_posix()


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_junit_xml_has_the_elements_that_readers_know(run):
    """As Jenkins, GitLab and GitHub's reporters read it: attributes, what may stand where, and numbers that agree."""
    root = ElementTree.fromstring(as_junit(*run))
    assert root.tag == "testsuites" and {child.tag for child in root} <= {"testsuite"}
    for suite in root:
        cases = list(suite)
        assert {"name", "tests", "failures", "errors"} == set(suite.attrib) and suite.get("name")
        assert {case.tag for case in cases} == {"testcase"}
        assert int(suite.get("tests")) == len(cases) > 0
        for kind, count in (("failure", "failures"), ("error", "errors")):
            assert int(suite.get(count)) == sum(case.find(kind) is not None for case in cases)
        for case in cases:
            assert set(case.attrib) == {"name", "classname"} and case.get("name") and case.get("classname")
            assert [child.tag for child in case] in ([], ["failure"], ["error"], ["system-out"])
            for child in case:
                assert child.tag == "system-out" or child.get("message")
    critical = [each["text"] for made in run[0] for each in made.findings if each["grade"] == "critical"]
    assert len(root.findall(".//failure")) == len(critical) and len(root.findall(".//error")) == len(run[1])
