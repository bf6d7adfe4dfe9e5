"""`weight-atlas why FILE`: what made a file of the results, from Snakemake's record of the job and from its log.

Snakemake keeps a record of every output below .snakemake/metadata, as JSON under the path's base64.
"""

import ast
import functools
import hashlib
import json
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from weight_atlas.command.look import Directory
from weight_atlas.command.screen import print_lines
from weight_atlas.digest_records import check
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.location import LIBRARY, workflow_folder
from weight_atlas.workflow.provenance import code_digest
from weight_atlas.workflow.renewal import RENEWED, is_renewed
from weight_atlas.workflow.versions import VERSIONS

RECORDS = ".snakemake/metadata"
CHECKSUM = "sha256:"
_AS_IT_WAS = "as it was"
FileMade = Annotated[Path, Parameter(help="A file of the results, from here or from the directory.")]


def why(file: FileMade, *, directory: Directory = Path(), json_: Annotated[bool, Parameter("--json")] = False) -> None:
    """Say what made a file of the results: the step, its inputs, settings, code and versions of libraries.

    Of the file, inputs and code also whether they are now as they were then. `snakemake -n` says what would run.
    """
    found = origin(file, directory)
    print_lines([json.dumps(found, indent=2)] if json_ else _lines(found))


def origin(file: Path, directory: Path) -> dict[str, Any]:
    """What made a file, in plain values; AtlasError where no record of it is left.

    file: from the current folder or from the directory, in which the workflow ran.
    """
    key, record = _record(file, directory)
    parameters = list(map(_value, record.get("params") or []))
    log = next(iter(record.get("log") or []), None)
    return {
        "file": key,
        "rule": record["rule"],
        "content": _content(directory / key),
        "ended": _time(record.get("endtime")),
        "renewed": log is not None and is_renewed(directory / log),
        "seconds": _seconds(record),
        "inputs": {path: _state(directory, path, record) for path in record.get("input") or []},
        "settings": next((each for each in parameters if isinstance(each, dict)), {}),
        "code": _code(parameters),
        "versions": _versions(directory / log) if log else "",
        "log": log,
    }


def recorded_output(file: Path, directory: Path) -> Path | None:
    """The output that a file is, or lies in, if the installed code made it, which records the bytes of all outputs.

    None for what no step made, and where other code made it: versions before this one had no such records.
    """
    for path in (file, *file.parents[:-1]):
        try:
            _, record = _record(path, directory)
        except AtlasError:
            continue
        return path if _code(list(map(_value, record.get("params") or []))).get("now") == _AS_IT_WAS else None
    return None


def _record(file: Path, directory: Path) -> tuple[str, dict[str, Any]]:
    """The name that the workflow has for a file, and Snakemake's record of it."""
    inside = os.path.relpath(Path.cwd() / file, directory.resolve())
    for key in dict.fromkeys((inside, file.as_posix(), str((Path.cwd() / file).absolute()))):
        coded = urlsafe_b64encode(key.encode()).decode()
        parts = [coded[start : start + 254] for start in range(0, len(coded), 254)]
        path = (directory / RECORDS).joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
        if path.is_file():
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(record, dict) and record.get("rule"):
                    return key, record
            except ValueError:  # it was being written
                continue
    raise AtlasError(
        "no record of what made this file",
        where=file,
        remedy="name a file that the workflow wrote, and with --directory the folder that it ran in",
    )


def _value(text: str) -> Any:
    """The value that a record keeps as its Python text; the text itself where it is no plain value."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _time(stamp: float | None) -> str | None:
    return None if stamp is None else datetime.fromtimestamp(stamp).astimezone().isoformat(" ", "seconds")


def _seconds(record: dict[str, Any]) -> float | None:
    start, end = record.get("starttime"), record.get("endtime")
    return None if start is None or end is None else round(max(0.0, end - start), 1)


def _state(directory: Path, name: str, record: dict[str, Any]) -> str:
    """How an input is now, beside what the job read; of large files Snakemake keeps no checksum."""
    path, digest = directory / name, (record.get("input_checksums") or {}).get(name, "")
    try:
        if digest.startswith(CHECKSUM):
            with path.open("rb") as content:
                same = hashlib.file_digest(content, "sha256").hexdigest() == digest.removeprefix(CHECKSUM)
            return _AS_IT_WAS if same else "changed since"
        return "changed or touched since" if path.stat().st_mtime > record["endtime"] else _AS_IT_WAS
    except OSError:
        return "gone"


def _content(path: Path) -> str:
    """Whether a file is what its step wrote, by the digest that was recorded of it."""
    if not path.exists():
        return "gone"
    try:
        return "as its step wrote it" if check(path) else "without a record of its bytes"
    except AtlasError as error:
        return error.what


def _code(parameters: list[Any]) -> dict[str, str]:
    """The digest of the code that made it, and whether it is that of the installed code."""
    step = next((each for each in parameters if isinstance(each, str) and each.isidentifier()), "")
    made = next((each[0] for each in parameters if isinstance(each, list) and each and _is_digest(each[0])), "")
    script = workflow_folder() / "scripts" / f"{step}.py"
    now = _digest_now(script) if script.is_file() else ""
    return {"digest": made, "now": _AS_IT_WAS if now == made else "changed since"} if made else {}


@functools.cache
def _digest_now(script: Path) -> str:
    return code_digest(script, LIBRARY)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None


def _versions(log: Path) -> str:
    """The versions of libraries that the step's log begins with."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            first = next(lines, "")
    except OSError:
        return ""
    return first.removeprefix(VERSIONS).strip() if first.startswith(VERSIONS) else ""


def _lines(found: dict[str, Any]) -> Iterator[str]:
    took = f", in {found['seconds']} s" if found["seconds"] is not None else ""
    yield f"{found['file']} ({found['content']})"
    ended = f", {found['ended']}" if found["ended"] else ""
    yield f"  made by   {found['rule']}{ended}{took}"
    if found["renewed"]:
        yield f"            {RENEWED.partition(': ')[2]}: renewed, not run again"
    for number, (path, state) in enumerate(found["inputs"].items()):
        yield f"  {'' if number else 'from':9} {path} ({state})"
    for number, (key, value) in enumerate(found["settings"].items()):
        yield f"  {'' if number else 'settings':9} {key}: {json.dumps(value, default=str)}"
    if found["code"]:
        yield f"  code      {found['code']['digest']} ({found['code']['now']})"
    if found["versions"]:
        yield f"  versions  {found['versions']}"
    if found["log"]:
        yield f"  log       {found['log']}"
