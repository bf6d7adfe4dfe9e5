"""The reference of all configuration keys, written from the classes of settings.

`python -m weight_atlas.settings.reference > config/README.md`
"""

import json
from typing import Any

from weight_atlas.settings.schema import json_schema, resolved

INTRODUCTION = """\
# Configuration

`config/config.yaml` is the embedded default. A configuration of your own takes its place:

    snakemake --cores 8 --resources gpu=1 --configfile my.yaml

Only `models`, `models_table` or `series` must be in it; everything else has a default. Single keys can be set on the
command line: `--config effective_rank='{phases: 4}'`. Relative paths are relative to the working directory.
A key that is not below is refused, with the nearest valid one named, and so is one that stands twice.
`config/examples/` has configurations to copy.

On the command line, what may be a text is taken as it is typed: a model may be called 2024 there. In a file YAML reads
2024, 1.0, on, null and 2024-01-01 as other things than texts, and 1e-3 as a text: quote the former, write 1.0e-3.

This page is written by `python -m weight_atlas.settings.reference` from the classes in `src/weight_atlas/settings`, and
so is `schemas/config.schema.json`, which editors can check configurations by.
"""


def reference(schema: dict[str, Any]) -> str:
    """Markdown with one table of keys for each section of the schema."""
    keys = {name: part for name, part in schema["properties"].items() if not _is_section(resolved(part, schema))}
    sections = {"Keys of all steps": {"description": "Beside the sections below.", "properties": keys}}
    for name, part in schema["properties"].items():
        entry = resolved(part, schema)
        named = entry.get("additionalProperties")
        if name in keys:
            continue
        if isinstance(named, dict):
            sections[f"{name}.NAME"] = {**_keyed(named, schema), "description": entry["description"]}
        else:
            sections[name] = entry
    return "\n".join([INTRODUCTION, *(_section(name, part, schema) for name, part in sections.items())])


def _is_section(entry: dict[str, Any]) -> bool:
    return entry.get("type") == "object"


def _keyed(entry: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema of an entry, of several forms the one with keys."""
    entry = resolved(entry, root)
    forms = [resolved(form, root) for form in entry.get("anyOf", ())]
    return next((form for form in (entry, *forms) if "properties" in form), entry)


def _section(name: str, section: dict[str, Any], root: dict[str, Any]) -> str:
    lines = [f"## {name}", "", section["description"], ""]
    if rows := section.get("properties"):
        lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
        required_first = sorted(rows.items(), key=lambda row: "default" in row[1])
        lines += [_row(key, resolved(part, root), root) for key, part in required_first] + [""]
    return "\n".join(lines)


def _row(key: str, part: dict[str, Any], root: dict[str, Any]) -> str:
    default = f"`{json.dumps(part['default'])}`" if "default" in part else "(required)"
    others = {name: value for name, value in part.get("by_effort", {}).items() if value != part["default"]}
    default = "; ".join([default, *(f"{name} `{json.dumps(value)}`" for name, value in others.items())])
    return f"| `{key}` | {_values(part, root)} | {default} | {part['description']} |"


def _values(part: dict[str, Any], root: dict[str, Any]) -> str:
    part = resolved(part, root)
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "anyOf" in part:
        return " or ".join(_values(option, root) for option in part["anyOf"])
    types = part.get("type", "any")
    names = types if isinstance(types, list) else [types]
    names = [
        f"list of {_values(part['items'], root)}" if name == "array" and "items" in part else name for name in names
    ]
    text = " or ".join(names)
    limits = [f"{sign} {part[key]}" for key, sign in LIMITS.items() if key in part]
    return " ".join([text, *limits])


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


if __name__ == "__main__":
    print(reference(json_schema()), end="")
