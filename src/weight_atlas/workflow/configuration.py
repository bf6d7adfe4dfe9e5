"""Check a configuration against its schema, fill in defaults, and say clearly what is wrong."""

import copy
import datetime
import difflib
import math
import re
from typing import Any

from weight_atlas.errors import AtlasError

# What is plainly meant as a number. YAML 1.1 takes 1e-3 for a text, since it has neither a dot nor a sign.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# What weights are multiplied by: infinity is a number there, whose effect is an answer.
FACTORS = {"factor", "factors"}
# Keys under which a section lists something by the name of a model.
BY_MODEL = (("neuron_effects", "neurons"), ("intervention_targets", "coordinates"))


def configured(config: dict, schema: dict, where: str) -> dict:
    """Return config with the schema's defaults filled in, and 2.0 as the integer 2 where an integer belongs.

    The first thing wrong is an AtlasError that names the key, what is allowed there, and for an unknown key the
    nearest valid one. `where` names the file in the message.
    """
    from jsonschema import Draft202012Validator

    complete = copy.deepcopy(config)
    _fill_defaults(complete, schema, schema)
    errors = sorted(Draft202012Validator(schema).iter_errors(complete), key=lambda error: [str(p) for p in error.path])
    if errors:
        raise _explained(errors[0], where)
    _check_finite(complete, "", where)
    _check_models(complete, where)
    return _with_integers(complete, schema, schema)


def _check_finite(value: Any, key: str, where: str) -> None:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        _check_finite(part, f"{key}.{name}".lstrip("."), where)
    may_be_infinite = FACTORS & set(key.split("."))
    if isinstance(value, float) and (math.isnan(value) if may_be_infinite else not math.isfinite(value)):
        raise AtlasError(f"{key}: {value} is no finite number", where=f"{where}: {key}", remedy="give a number")


def _check_models(config: dict, where: str) -> None:
    """Of sections that list something by model, each model is one of the configuration's."""
    for section, key in BY_MODEL:
        for name in config.get(section, {}).get(key, {}):
            if name not in config["models"]:
                near = difflib.get_close_matches(name, config["models"], n=1, cutoff=0.5)
                known = f"did you mean {near[0]!r}?" if near else f"models there are: {', '.join(config['models'])}"
                raise AtlasError(f"unknown model {name!r}", where=f"{where}: {section}.{key}", remedy=known)


def _with_integers(value: Any, schema: dict, root: dict) -> Any:
    """Return value with whole floats as integers where the schema wants integers: it takes 2.0 for one, range() not."""
    schema = resolved(schema, root)
    if isinstance(value, dict):
        others = schema.get("additionalProperties") or {}
        return {k: _with_integers(v, schema.get("properties", {}).get(k, others), root) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_integers(each, schema.get("items", {}), root) for each in value]
    whole = isinstance(value, float) and "integer" in schema.get("type", ())
    return int(value) if whole else value


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
        letters = (
            "use letters, digits, '.', '_' and '-', beginning with a letter or digit and without '..', a part "
            "20 times in a row, or an end such as .csv or .steps, which the names of results have"
        )
        kind = _not_text(error.instance)
        remedy = f"YAML reads it as {kind}: quote it, as in 'a-name': ..." if kind else letters
        return AtlasError(f"{_as_written(error.instance)} cannot be a name", where=place, remedy=remedy)
    if error.validator == "required":
        missing = re.match(r"'(.*)' is a required property", error.message)[1]
        return AtlasError(f"the key {missing!r} is missing", where=place, remedy=_described(error, missing))
    remedy = _of_wrong_type(error) if error.validator == "type" else None
    message = error.message.replace(repr(error.instance), _as_written(error.instance), 1)
    return AtlasError(
        f"{key or 'the configuration'}: {message}", where=place, remedy=remedy or error.schema.get("description")
    )


def _of_wrong_type(error: Any) -> str | None:
    """What to do where YAML did not read what was meant: text without quotes, a number in a form it does not know."""
    kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    kind = _not_text(error.instance)
    if "string" in kinds and kind and error.instance is not None:
        return f"YAML reads it as {kind}: quote it, as in 'this'"
    if {"number", "integer"} & set(kinds) and isinstance(error.instance, str) and _NUMBER.fullmatch(error.instance):
        return "YAML reads it as a text: write it without quotes, and 1e-3 as 1.0e-3"
    return None


def _not_text(value: Any) -> str | None:
    """What YAML made of something written without quotes; None for a text, a list and a mapping."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true or false, as it does yes, no, on and off"
        case int() | float():
            return "a number"
        case datetime.date():
            return "a date"
    return None


def _as_written(value: Any) -> str:
    """A value for a message: dates as in YAML, all else as in Python."""
    return str(value) if isinstance(value, datetime.date) else repr(value)


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
