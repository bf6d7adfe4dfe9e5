"""Check a configuration against its schema, fill in defaults, and say clearly what is wrong."""

import copy
import difflib
import re
from typing import Any

from weight_atlas.errors import AtlasError


def configured(config: dict, schema: dict, where: str) -> dict:
    """Return config with the schema's defaults filled in.

    The first thing wrong is an AtlasError that names the key, what is allowed there, and for an unknown key the
    nearest valid one. `where` names the file in the message.
    """
    from jsonschema import Draft202012Validator

    complete = copy.deepcopy(config)
    _fill_defaults(complete, schema, schema)
    errors = sorted(Draft202012Validator(schema).iter_errors(complete), key=lambda error: [str(p) for p in error.path])
    if errors:
        raise _explained(errors[0], where)
    return complete


def _fill_defaults(value: Any, schema: dict, root: dict) -> None:
    schema = resolved(schema, root)
    if not isinstance(value, dict):
        return
    for key, part in schema.get("properties", {}).items():
        part = resolved(part, root)
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if key in value:
            _fill_defaults(value[key], part, root)
    others = schema.get("additionalProperties")
    for key in value.keys() - schema.get("properties", {}).keys():
        if isinstance(others, dict):
            if value[key] is None:
                value[key] = {}
            _fill_defaults(value[key], others, root)


def resolved(schema: dict, root: dict) -> dict:
    """Follow a schema's $ref inside root; keys beside the reference win."""
    if "$ref" not in schema:
        return schema
    target: Any = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _explained(error: Any, where: str) -> AtlasError:
    error = _most_specific(error)
    key = ".".join(str(part) for part in error.absolute_path)
    place = f"{where}: {key}" if key else where
    if error.validator == "additionalProperties":
        return _unknown_key(error, where, key)
    if "propertyNames" in error.absolute_schema_path:
        return AtlasError(
            f"{error.instance!r} cannot be a name",
            where=place,
            remedy="use letters, digits, '.', '_' and '-', beginning with a letter or digit and without '..', a part "
            "20 times in a row, or an end such as .csv or .steps, which the names of results have",
        )
    if error.validator == "required":
        missing = re.match(r"'(.*)' is a required property", error.message)[1]
        return AtlasError(f"the key {missing!r} is missing", where=place, remedy=_described(error, missing))
    return AtlasError(
        f"{key or 'the configuration'}: {error.message}", where=place, remedy=error.schema.get("description")
    )


def _most_specific(error: Any) -> Any:
    """Of an anyOf's failures, the one that went deepest into the value: what the user most likely meant."""
    while error.context:
        error = max(error.context, key=lambda inner: (len(inner.absolute_path), inner.validator != "type"))
    return error


def _unknown_key(error: Any, where: str, key: str) -> AtlasError:
    known = sorted(error.schema.get("properties", {}))
    unknown = sorted(str(name) for name in error.instance if name not in known)[0]
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return AtlasError(f"unknown key {unknown!r}", where=f"{where}: {key}.{unknown}".replace(": .", ": "), remedy=remedy)


def _described(error: Any, key: str) -> str | None:
    return error.schema.get("properties", {}).get(key, {}).get("description")
