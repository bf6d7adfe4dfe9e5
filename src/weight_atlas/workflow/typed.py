"""Values that arrive as texts, with the types of the schema.

Those of --config do, `effective_rank='{phases: 4}'` as {"phases": "4"}, and so do the cells of a table. What the schema
allows to be a text stays as it was typed, so that the model 2024 and the revision 0012345 keep their names.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from weight_atlas.settings.schema import json_schema, resolved

Schema: TypeAlias = dict[str, Any]
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NOTHING = ("", "~", "null")
JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def typed(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration in which every text that the schema does not allow as a text is read as a value it allows.

    A text that fits nothing is returned as it is: the check names it then.
    """
    if not config:
        return {}
    schema = json_schema()
    return _typed(config, schema, schema)


def _typed(value: Any, schema: Schema, root: Schema) -> Any:
    options = list(_options(schema, root))
    if isinstance(value, dict):
        return {key: _typed(each, _of_key(options, key), root) for key, each in value.items()}
    if isinstance(value, list):
        items: Schema = next((option["items"] for option in options if "items" in option), {})
        return [_typed(each, items, root) for each in value]
    return _read(value, {kind for option in options for kind in _kinds(option)}) if isinstance(value, str) else value


def _options(schema: Schema, root: Schema) -> Iterator[Schema]:
    """The schemas, references resolved, any one of which a value may follow."""
    schema = resolved(schema, root)
    yield schema
    for option in schema.get("anyOf", ()):
        yield from _options(option, root)


def _of_key(options: list[Schema], key: str) -> Schema:
    for option in options:
        if key in option.get("properties", {}):
            return option["properties"][key]
        if isinstance(option.get("additionalProperties"), dict):
            return option["additionalProperties"]
    return {}


def _kinds(option: Schema) -> list[str]:
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
    readers: Iterable[tuple[str, Callable[[str], Any]]] = (("integer", int), ("number", float))
    for kind, read in readers:
        if kinds & {kind, "number"}:
            with suppress(ValueError):
                return read(text)
    return text
