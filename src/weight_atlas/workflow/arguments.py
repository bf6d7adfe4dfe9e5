"""The arguments of a script's main(): from a job of the workflow, or from the command line.

In a job its parameters are bound by name: every named input and output of the rule, every key of `params.options`, and,
where main asks for them, wildcards, `threads` and `device`. From a shell the same names are options:
`python scripts/effective_rank.py --singular-values X --table Y --figure Z`. A parameter that is a class of settings
takes all keys of the class, which are names of their own in a job and on the command line.
"""

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from weight_atlas.errors import AtlasError, first_line
from weight_atlas.settings.base import Settings
from weight_atlas.settings.messages import checked

# `options` is spread into main()'s keywords; `step` names the script, `code` only tells Snakemake when to run again.
NOT_ARGUMENTS = ("step", "code", "options")


def outputs_of(main: Callable) -> list[str]:
    """The parameters of main() that are outputs: paths by keyword that must be given."""
    hints, wanted = get_type_hints(main), inspect.signature(main).parameters
    return [
        name
        for name, parameter in wanted.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and hints[name] is Path
    ]


class Name(NamedTuple):
    """What a name in a job or on the command line gives: a parameter of main(), or a key of one that is settings."""

    hint: Any
    default: Any
    settings: str | None = None
    description: str | None = None


def names_of(main: Callable) -> dict[str, Name]:
    """All names that main() can be given, in the order of its parameters."""
    hints = get_type_hints(main)
    names: dict[str, Name] = {}
    for name, parameter in inspect.signature(main).parameters.items():
        if not _is_settings(hints[name]):
            new = {name: Name(hints[name], parameter.default)}
        else:
            of_keys = get_type_hints(hints[name])
            new = {
                key: Name(
                    of_keys[key],
                    parameter.empty if field.is_required() else field.default,
                    name,
                    field.description,
                )
                for key, field in hints[name].model_fields.items()
            }
        if twice := names.keys() & new.keys():
            raise TypeError(f"main() takes {sorted(twice)} twice")
        names |= new
    return names


def _is_settings(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Settings)


def _arguments(main: Callable, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of main(), with its settings made from the keys that are given."""
    hints, names = get_type_hints(main), names_of(main)
    arguments = {name: value for name, value in given.items() if names[name].settings is None}
    for name, hint in hints.items():
        if _is_settings(hint):
            keys = {key: value for key, value in given.items() if names[key].settings == name}
            arguments[name] = checked(hint, keys, where)
    return arguments


def from_job(main: Callable, job: Any) -> tuple[dict[str, Any], int | None]:
    """The arguments of main() in a job, and how many GPUs it has, None where main has no use for one.

    A name that main lacks is an error at once, and so is one that the rule lacks.
    """
    wanted = names_of(main)
    given = {
        **dict(job.input.items()),
        **dict(job.output.items()),
        **{name: value for name, value in job.params.items() if name not in NOT_ARGUMENTS},
        **dict(job.params.get("options", {})),
    }
    offered = {**dict(job.wildcards.items()), "threads": job.threads, "device": "cpu"}
    given |= {name: value for name, value in offered.items() if name in wanted and name not in given}
    unknown, missing = _mismatch(given, wanted)
    if unknown or missing:
        raise TypeError(f"rule {job.rule} and main() disagree: main lacks {unknown}, the rule lacks {missing}")
    gpus = int(job.resources.get("gpu", 0)) if "device" in given else None
    hinted = {
        name: value if wanted[name].settings else _as_hinted(wanted[name].hint, value) for name, value in given.items()
    }
    return _arguments(main, hinted, f"rule {job.rule}"), gpus


def _mismatch(given: Mapping[str, Any], wanted: Mapping[str, Name]) -> tuple[list[str], list[str]]:
    """Names that main() lacks, and names that the rule lacks; settings are given whole, since Snakemake tracks them."""
    required = {name for name, each in wanted.items() if each.settings or each.default is inspect.Parameter.empty}
    return sorted(given.keys() - wanted.keys()), sorted(required - given.keys())


def _as_hinted(hint: Any, value: Any) -> Any:
    """Turn Snakemake's strings into Paths, and its own string and list types into plain ones."""
    if get_origin(hint) is UnionType:
        hint = next((part for part in get_args(hint) if part is not type(None)), hint)
    if hint is Path:
        if value is not None and not isinstance(value, str | Path):  # a rule's function gives a file as a list, or none
            (value,) = value or (None,)
        return value if value is None else Path(value)
    if get_origin(hint) is list and value is not None:
        (item,) = get_args(hint)
        values = [value] if isinstance(value, str) else value
        return [_as_hinted(item, each) for each in values]
    return str(value) if isinstance(value, str) else value


def from_command_line(main: Callable) -> tuple[dict[str, Any], int | None]:
    """The arguments of main() from sys.argv, and how many GPUs it may take, None where main has no use for one."""
    import cyclopts

    command = _command(main)
    app = cyclopts.App(help_format="plaintext", help=inspect.getdoc(main), version_flags=[])
    app.default(command)
    try:
        called, bound, _ = app.parse_args(sys.argv[1:], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise AtlasError(str(error), where="command line", remedy="--help shows all options") from None
    if called is not command:  # --help
        sys.exit(called(*bound.args, **bound.kwargs))
    bound.apply_defaults()
    names = names_of(main)
    given = {
        name: _read(value, f"--{name.replace('_', '-')}") if _is_nested(names[name]) else value
        for name, value in bound.arguments.items()
    }
    arguments = _arguments(main, given, "command line")
    device = given.get("device")
    return arguments, None if device is None else int(device == "cuda")


def _is_nested(name: Name) -> bool:
    """Whether a key of settings holds lists or mappings of lists: an option takes them as one text."""
    return name.settings is not None and any(
        get_origin(part) in (list, dict) for option in _options(name.hint) for part in get_args(option)
    )


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def _read(value: str, option: str) -> Any:
    """The value that an option's text stands for, in YAML."""
    import yaml

    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise AtlasError(f"{value!r} is no YAML: {first_line(error)}", where=f"command line: {option}") from None


def _command(main: Callable) -> Callable[..., None]:
    """A function with main()'s names as its parameters, each key of settings with its description."""

    def command() -> None:
        raise AssertionError("called for its signature only")

    kinds = inspect.signature(main).parameters
    parameters = [
        inspect.Parameter(
            name,
            kinds[each.settings or name].kind,
            default=json.dumps(each.default) if _is_nested(each) else each.default,
            annotation=_annotation(name, each),
        )
        for name, each in names_of(main).items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__ = main.__doc__
    return command


def _annotation(name: str, each: Name) -> Any:
    """What an option takes."""
    from cyclopts import Parameter
    from cyclopts.validators import Number

    if name == "device":
        return Literal["cpu", "cuda"]
    if name == "threads":
        return Annotated[int, Parameter(validator=Number(gte=1))]
    if not each.settings:
        return each.hint
    if _is_nested(each):
        return Annotated[str, Parameter(help=f"{each.description} In YAML, as {{demo: [[0, 1, 2]]}}.")]
    if {int, float} & set(_options(each.hint)):  # of these, the class of settings says better what is wrong
        return Annotated[Any, Parameter(help=each.description, converter=_number)]
    return Annotated[each.hint, Parameter(help=each.description)]


def _number(_: Any, tokens: Sequence[Any]) -> Any:
    """The number or None that an option's text stands for; else the text."""
    text = tokens[0].value
    if text.lower() in ("none", "null"):
        return None
    readers: tuple[Callable[[str], Any], ...] = (int, float)
    for read in readers:
        with suppress(ValueError):
            return read(text)
    return text
