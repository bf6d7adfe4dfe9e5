"""`weight-atlas inspect`: what a model is made of, from the headers of its files alone."""

import json as json_format
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.source import HubSource, parse_source
from weight_atlas.command.options import OneModel
from weight_atlas.command.requested import requested
from weight_atlas.command.results import Extract, Row
from weight_atlas.command.screen import plain, print_extract, print_lines, size
from weight_atlas.settings.messages import checked
from weight_atlas.settings.models import CheckpointSpec

_TENSORS = ["id", "role", "layer", "expert", "rows", "cols", "dtype"]


def inspect(
    model: OneModel,
    *,
    tensors: Annotated[bool, Parameter(negative=(), help="List every tensor.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="One JSON document on standard output.")] = False,
    family: Annotated[str | None, Parameter(help="Family table to use in place of the one of config.json.")] = None,
    allow_other: Annotated[bool, Parameter(negative=(), help="Take tensors that no table explains.")] = False,
    key: Annotated[str | None, Parameter(help="Dotted key of the state dict in a checkpoint file.")] = None,
) -> None:
    """Show what a model is made of: architecture, parameters by part, types, tensors.

    Headers only: of a model on the hub some kilobytes are requested, nothing is downloaded.

    ```
    weight-atlas inspect bundled:demo
    weight-atlas inspect meta-llama/Llama-3.1-8B --tensors
    ```
    """
    wanted = requested(model, Path.cwd())
    spec = checked(
        CheckpointSpec,
        {
            "source": wanted.source,
            "revision": wanted.revision,
            "family": family,
            "allow_other": allow_other,
            "key": key,
        },
        "command line",
    )
    with tempfile.TemporaryDirectory(prefix="weight-atlas-") as folder:
        checkpoint, facts = _opened(spec, Path(folder))
        found = _described(checkpoint, family, allow_other) | {"source": wanted.source, **facts}
    if json:
        sys.stdout.write(json_format.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return
    _print(found, tensors)


def _opened(spec: CheckpointSpec, folder: Path) -> tuple[Checkpoint, Row]:
    source = parse_source(spec.source)
    if isinstance(source, HubSource):
        from weight_atlas.checkpoint.remote import fetch_headers

        headers = fetch_headers(source, spec.revision, folder)
        facts = {"commit": headers.commit, "requests": headers.requests, "bytes_read": headers.bytes}
        return Checkpoint.indexed(folder, headers.listing, spec), facts
    from weight_atlas.checkpoint.fetch import fetch

    return fetch(spec).open(spec), {}


def _described(checkpoint: Checkpoint, family: str | None, allow_other: bool) -> Row:
    from weight_atlas.artifacts import plain as plain_values
    from weight_atlas.families.architecture import Architecture
    from weight_atlas.families.architecture_summary import configuration, parameter_table
    from weight_atlas.families.inventory import inventory

    table = inventory(checkpoint, family, allow_other)
    parts = parameter_table(table)
    return {
        "architecture": plain_values(configuration(Architecture.of(checkpoint, family, allow_other=True), table)),
        "parameters": plain_values(parts.to_dict("records")),
        "tensors": plain_values(table[_TENSORS].to_dict("records")),
    }


def _print(found: Row, tensors: bool) -> None:
    facts = dict(found["architecture"])
    about = [f"{facts.pop('parameters', 0):,} parameters", size(facts.pop("bytes", 0))]
    if "commit" in found:
        about.append(f"commit {found['commit'][:12]}")
    print_lines([f"{found['source']}: {', '.join(about)}"])
    rows = [{"what": name.replace("_", " "), "value": value} for name, value in facts.items()]
    print_extract(Extract("Architecture", "of config.json and shapes", ["what", "value"], rows))
    parts = _by_category(found["parameters"])
    print_extract(Extract("Parameters", "tied ones once", ["part", "parameters", "bytes", "share"], parts))
    if tensors:
        rows = found["tensors"]
        print_extract(Extract("Tensors", f"{len(rows)} logical tensors", _TENSORS, rows))
    if "bytes_read" in found:
        print_lines([f"read: {size(found['bytes_read'])} in {found['requests']} requests"])


def _by_category(rows: list[Row]) -> list[Row]:
    """The table of parameters by category, the largest first."""
    sums: dict[str, Row] = {}
    for row in rows:
        entry = sums.setdefault(plain(row["category"]), {"part": plain(row["category"]), "parameters": 0, "bytes": 0})
        entry["parameters"] += row["parameters"]
        entry["bytes"] += row["bytes"]
    total = sum(each["parameters"] for each in sums.values()) or 1
    ordered = sorted(sums.values(), key=lambda each: -each["parameters"])
    return [{**each, "share": f"{each['parameters'] / total:.1%}"} for each in ordered]
