"""Values of the command line, which Snakemake reads as texts, in the types that the schema wants.

`--config effective_rank='{phases: 4}'` arrives as {"phases": "4"}. What the schema allows to be a text stays as it was
typed, so that the model 2024 and the revision 0012345 keep their names.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from weight_atlas.workflow.configuration import resolved

TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NOTHING = ("", "~", "null")
JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def typed(value: Any, schema: dict, root: dict) -> Any:
    """Return value with every text in it that the schema cannot mean as a text read as what it can mean.

    schema: of this value, inside root. A text that fits nothing is returned as it is: the check names it then.
    """
    options = list(_options(schema, root))
    if isinstance(value, dict):
        return {key: typed(each, _of_key(options, key), root) for key, each in value.items()}
    if isinstance(value, list):
        items = next((option["items"] for option in options if "items" in option), {})
        return [typed(each, items, root) for each in value]
    return _read(value, {kind for option in options for kind in _kinds(option)}) if isinstance(value, str) else value


def _options(schema: dict, root: dict) -> Iterator[dict]:
    """The schemas, free of references, of which a value may follow any."""
    schema = resolved(schema, root)
    yield schema
    for option in schema.get("anyOf", ()):
        yield from _options(option, root)


def _of_key(options: list[dict], key: str) -> dict:
    for option in options:
        if key in option.get("properties", {}):
            return option["properties"][key]
        if isinstance(option.get("additionalProperties"), dict):
            return option["additionalProperties"]
    return {}


def _kinds(option: dict) -> list[str]:
    if "enum" in option:
        return [JSON_TYPES[type(value)] for value in option["enum"]]
    kinds = option.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _read(text: str, kinds: set[str]) -> Any:
    if text.lower() in NOTHING and ("null" in kinds or "object" in kinds):
        return None
    if "string" in kinds:
        return text
    if "boolean" in kinds and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    for kind, read in (("integer", int), ("number", float)):
        if kinds & {kind, "number"}:
            with suppress(ValueError):
                return read(text)
    return text
