"""What is wrong with settings, as one AtlasError: the key, what it may be, and for an unknown key the nearest one."""

import datetime
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from weight_atlas.errors import AtlasError
from weight_atlas.settings.base import Settings

Section = TypeVar("Section", bound=Settings)
# What is plainly meant as a number. YAML 1.1 takes 1e-3 for a text, since it has neither a dot nor a sign.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LETTERS = (
    "use letters, digits, '.', '_' and '-', beginning with a letter or digit and without '..', a part 20 times in a "
    "row, or an end such as .csv or .steps, which the names of results have"
)
_KEY = "[key]"  # pydantic's mark for what is wrong with a name and not with what it names


def checked(section: type[Section], values: Mapping[str, Any], where: str) -> Section:
    """Settings from plain values; AtlasError for the first thing wrong. where: the file or command, for the message."""
    _check_texts(values, where)
    try:
        return section.model_validate(dict(values) if isinstance(values, Mapping) else values)
    except ValidationError as error:
        first = _most_specific(error.errors(include_url=False), values)
        raise _explained(section, first, values, where) from None


def _check_texts(value: Any, where: str, path: tuple[str, ...] = ()) -> None:
    """Raise AtlasError for a text that cannot be written to a file: one with half a character, as YAML's "\\ud800"."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            key = ".".join(path)
            raise AtlasError(
                f"{key}: {value!r} is no Unicode text",
                where=f"{where}: {key}",
                remedy=f"leave out {value[error.start : error.end]!r}, which stands for no character",
            ) from None
    elif isinstance(value, Mapping | list | tuple):
        parts: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in parts:
            _check_texts(part, where, (*path, str(key)))


def _most_specific(errors: list[ErrorDetails], values: Any) -> ErrorDetails:
    """A name that cannot be one, else the first error.

    Where a value may be of several types, the one that went deepest into it, and rather its value: that is most likely
    what the user meant.
    """
    for error in errors:
        if _KEY in error["loc"]:
            return error
    key = _written(errors[0]["loc"], values)
    same = [error for error in errors if _written(error["loc"], values)[: len(key)] == key]
    return max(same, key=lambda error: (len(_written(error["loc"], values)), not error["type"].endswith("_type")))


def _written(location: Sequence[int | str], values: Any) -> tuple[int | str, ...]:
    """The part of pydantic's location that stands in the configuration: it names types, too."""
    path: list[int | str] = []
    part: Any
    for part in location:
        if (isinstance(values, Mapping) and part in values) or (isinstance(values, list) and isinstance(part, int)):
            values = values[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _explained(section: type[Settings], error: ErrorDetails, values: Any, where: str) -> AtlasError:
    of_name = _KEY in error["loc"]
    path = _written(error["loc"][:-2] if of_name else error["loc"], values)
    key = ".".join(map(str, path))
    place = f"{where}: {key}" if key else where
    given, message = error["input"], _plain(error)
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown_key(section, path, place)
    if of_name:
        kind = _not_text(given)
        rule = f"{message}: choose another" if error["type"] == "name_taken" else _LETTERS
        rule = f"YAML reads it as {kind}: quote it, as in 'a-name': ..." if kind else rule
        return AtlasError(f"{_as_written(given)} cannot be a name", where=place, remedy=rule)
    if error["type"] == "missing":
        missing = str(error["loc"][-1])
        return AtlasError(
            f"the key {missing!r} is missing", where=place, remedy=_description(section, (*path, missing))
        )
    remedy = _misread(error) or error.get("ctx", {}).get("remedy") or _description(section, path)
    if not path:
        remedy = remedy or f"give some of these keys: {', '.join(section.model_fields)}"
    return AtlasError(f"{key or 'the configuration'}: {message}, not {_as_written(given)}", where=place, remedy=remedy)


def _plain(error: ErrorDetails) -> str:
    """pydantic's message without its own terms."""
    if error["type"] in ("model_type", "dict_type"):
        return "should be a mapping of keys to values"
    message = re.sub("^(Input|List|Dictionary|Value) should", "should", error["msg"])
    message = re.sub(" after validation, not [0-9]+$", "", message)  # the value follows
    return message[:1].lower() + message[1:]


def _misread(error: ErrorDetails) -> str | None:
    """What to do where YAML did not read what was meant: text without quotes, a number in a form it does not know."""
    kind = _not_text(error["input"])
    if error["type"] == "string_type" and kind and error["input"] is not None:
        return f"YAML reads it as {kind}: quote it, as in 'this'"
    text = error["input"]
    if error["type"] in ("float_type", "int_type") and isinstance(text, str) and _NUMBER.fullmatch(text):
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


def _unknown_key(section: type[Settings], path: tuple[int | str, ...], place: str) -> AtlasError:
    holder = _class_at(section, path[:-1])
    known, unknown = sorted(holder.model_fields if holder else ()), str(path[-1])
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known) or 'none'}"
    return AtlasError(f"unknown key {unknown!r}", where=place, remedy=remedy)


def _description(section: type[Settings], path: tuple[int | str, ...]) -> str | None:
    """What the configuration's reference says of a key, or of the list or mapping that an item lies in."""
    while path:
        holder = _class_at(section, path[:-1])
        if holder and (field := holder.model_fields.get(str(path[-1]))):
            return field.description or (_settings_in(field.annotation) or holder).__doc__
        path = path[:-1]
    return None


def _class_at(section: type[Settings] | None, path: tuple[int | str, ...]) -> type[Settings] | None:
    """The class of what lies at a path; names of entries and numbers of items lead to the class of the items."""
    inside = False  # a mapping or list of the class, whose next part is a name or a number
    for part in path:
        if inside:
            inside = False
            continue
        field = section.model_fields.get(str(part)) if section else None
        if field is None:
            return None
        section, inside = _settings_in(field.annotation), not _is_settings(field.annotation)
    return None if inside else section


def _is_settings(annotation: Any) -> bool:
    """Whether a value is of a class of settings itself, or null, and no list or mapping of them."""
    union = get_origin(annotation) in (Union, UnionType)
    options = get_args(annotation) if union else [annotation]
    return any(isinstance(option, type) and issubclass(option, Settings) for option in options)


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The first class of settings in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for part in get_args(annotation) if (found := _settings_in(part))), None)
