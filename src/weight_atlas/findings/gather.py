"""All findings of a model: of the rules, on the tables that its analyses left, and those that analyses state."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas import metrics
from weight_atlas.artifacts import CHECKED, read_json, read_table, reading
from weight_atlas.findings.judge import judged
from weight_atlas.findings.rules import GRADES, rules
from weight_atlas.findings.views import LISTS
from weight_atlas.not_applicable import if_applicable, reason_of

# A record: id (the rule, or the analysis with a number), grade, analysis, place (the gravest) and places (all), count
# of them out of looked_at, value and null_value, effect = value / null_value, text, evidence (file, rows,
# and the metric of a number that an analysis states), remedy.
COLUMNS = (
    "id", "grade", "analysis", "place", "count", "looked_at", "value", "null_value", "effect", "text", "remedy",
    "evidence_file", "evidence_row", "places",
)  # fmt: skip


def gathered(paths: Iterable[Path], results: Path) -> list[dict[str, Any]]:
    """The findings in artifacts of one model, the gravest first; paths: tables and JSON files below results.

    What says why there is nothing in it has none.
    """
    paths = [Path(path) for path in paths]
    files = {path: path.relative_to(results).as_posix() for path in paths}
    named = {table.name: path for path in paths if (table := metrics.table_of(files[path]))}
    wanted = {rule.table for rule in rules().values()}
    read = {name: if_applicable(path, _read) for name, path in named.items() if name in wanted}
    found = findings_of({name: table for name, table in read.items() if table is not None})
    for each in found:
        each["evidence"]["file"] = files[named[each["evidence"]["file"]]]
    return _gravest_first([*found, *_stated(paths, results)])


def _read(path: Path) -> pd.DataFrame:
    """A table without its columns of lists, which can be as large as the weights, but for those that views read."""
    from pyarrow import parquet

    if path.suffix != ".parquet" or reason_of(path) is not None:
        return read_table(path)
    lists = metrics.table_of(f"{path.parent.name}/{path.name}")
    left = set(lists.lists if lists else ()) - {name for names in LISTS.values() for name in names}
    with reading(path):
        names = [name for name in parquet.read_schema(path).names if name not in left]
        return pd.read_parquet(path, columns=names, **CHECKED)


def findings_of(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The findings of the rules in tables, by their names in the registry; evidence names the table as its file."""
    found, places = [], dict[str, set[str]]()
    for name, rule in rules().items():
        if rule.table in tables:
            explained = set().union(*(places.get(other, set()) for other in rule.unless))
            if (finding := judged(name, rule, tables[rule.table], explained)) is not None:
                places[name] = set(finding["places"])
                found.append({**finding, "evidence": {"file": rule.table, **finding["evidence"]}})
    return _gravest_first(found)


def _gravest_first(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda finding: GRADES.index(finding["grade"]))


def _stated(paths: list[Path], results: Path) -> Iterator[dict[str, Any]]:
    """Findings that an analysis wrote into its JSON artifact, with what it says of their place, numbers and remedy."""
    for path in paths:
        content = if_applicable(path, read_json) if path.suffix == ".json" else None
        for number, each in enumerate(content.get("findings", ()) if isinstance(content, dict) else ()):
            analysis = path.relative_to(results).parts[0]
            yield stated(analysis, number, each, path.relative_to(results).as_posix())


def stated(analysis: str, number: int, finding: dict[str, Any], file: str) -> dict[str, Any]:
    """The record of a finding that an analysis states: grade and text, and whatever else of a record it knows."""
    value, null = finding.get("value"), finding.get("null_value")
    measured = {"metric": finding["metric"]} if "metric" in finding else {}
    place = finding.get("place", "")
    return {
        "id": f"{analysis}.{number + 1}",
        "grade": finding["grade"],
        "analysis": analysis,
        "place": place,
        "places": [place] if place else [],
        "count": 1,
        "looked_at": finding.get("looked_at"),
        "value": value,
        "null_value": null,
        "effect": value / null if value is not None and null else None,
        "text": finding["text"],
        "evidence": {"file": file, "rows": [number], **measured},
        "remedy": finding.get("remedy", ""),
    }


def findings_table(found: list[dict[str, Any]]) -> pd.DataFrame:
    """Findings as a table: a row each, with the file and the first row of its evidence."""
    rows = [
        {**each, "evidence_file": each["evidence"]["file"], "evidence_row": next(iter(each["evidence"]["rows"]), None)}
        for each in found
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"count": "Int64", "looked_at": "Int64", "evidence_row": "Int64"}
    )
