"""Every change that a workflow may see, from its code, schema and inputs: what is changed, and who can see it.

Who can see it is worked out here by other means than the workflow's: what files import by their whole syntax trees,
what functions take by their signatures. `of_rules` are the rules whose jobs see it first; None where what jobs are
given, by name, says it.
"""

import os
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from imports import imports
from project import ROOT

from weight_atlas.settings.schema import json_schema, resolved
from weight_atlas.workflow.arguments import names_of

LIBRARY = "src/weight_atlas"
DATA = {".yaml", ".json", ".csv", ".txt", ".jinja"}
OWN_RECORD = {"atlas", "run_configs"}  # write down all settings


@dataclass(frozen=True)
class Change:
    """One change: of which kind, its name, the file that it makes another, and of_rules as above."""

    kind: str
    name: str
    file: str
    make: Callable[[Path], None]
    of_rules: set[str] | None


def append(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + text.encode())


def touch(path: Path) -> None:
    """As an editor leaves a file that is saved without a change."""
    os.utime(path)


def code_changes() -> Iterator[Change]:
    """Of all files that steps are made of: the library's modules and data, scripts, captions and rules."""
    reached = {script.stem: _closure(script) for script in sorted((ROOT / "scripts").glob("*.py"))}
    files = sorted(
        path for path in (ROOT / LIBRARY).rglob("*") if path.is_file() and "data/demo" not in path.as_posix()
    )
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        seen = {
            step for step, closure in reached.items() if path in closure and not name.startswith(f"{LIBRARY}/settings/")
        }
        if path.suffix == ".py":
            yield Change("module", name, name, append("\n\nPLANTED = 1\n"), seen)
            yield Change("comment in a module", name, name, append("# planted\n"), set())
        elif path.suffix in DATA:
            kind = "family" if "/families/" in name else "template" if path.suffix == ".jinja" else "data"
            yield Change(kind, name, name, append("\n"), seen)
            yield Change("touched data", name, name, touch, set())
    for step in reached:
        name = f"scripts/{step}.py"
        yield Change("script", name, name, append("\n\nPLANTED = 1\n"), {step})
        yield Change("comment in a script", name, name, append("# planted\n"), set())
        yield Change("touched script", name, name, touch, set())
    for path in sorted((ROOT / "rules").glob("*.smk")):
        name = path.relative_to(ROOT).as_posix()
        yield Change("comment in rules", name, name, append("\n# planted\n"), set())
    for path in sorted((ROOT / "report").glob("*.rst")):
        name = path.relative_to(ROOT).as_posix()
        yield Change("caption", name, name, append("\nMore.\n"), None)
        yield Change("touched caption", name, name, touch, set())


def input_changes() -> Iterator[Change]:
    """Of a user's files: those of `Project.small`."""
    for name, step in (("model/model.safetensors", "fetch_checkpoint"), ("texts/one.txt", "corpus")):
        # The time of a file is part of its state: it may be another of the same size.
        yield Change("touched input", name, name, touch, {step})
        yield Change("input", name, name, _flip, {step})
        yield Change("older input", name, name, _older, {step})
    for name in ("model/config.json", "model/tokenizer.json", "model/generation_config.json"):
        yield Change("input", name, name, append("\n"), None)
    yield Change("new input", "texts/two.txt", "texts/two.txt", lambda path: path.write_text("More.\n"), {"corpus"})
    yield Change(
        "file that nothing reads", "texts/notes.md", "texts/notes.md", lambda path: path.write_text("x"), set()
    )


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))


def _older(path: Path) -> None:
    """Another file of the same size in its place, from before the run, as cp -p leaves it."""
    _flip(path)
    os.utime(path, (1e9, 1e9))


def setting_changes(config: str, *, by_class: bool) -> Iterator[Change]:
    """Of every key of every section that is no list of names: to another value that the schema allows.

    by_class: whether to work out which steps take a key by the classes of their settings, for which all are imported.
    """
    schema = json_schema()
    for key in ("effort", "seed", "gpus", "local_downloads", "shared_cache", "rerun_on_versions"):
        value = _another(schema["properties"][key], schema)
        yield Change("key of all", key, config, _top(key, value), None)
    for section, part in schema["properties"].items():
        keys = resolved(part, schema).get("properties", {})
        for key, entry in keys.items() if section != "pathvars" else ():
            value = _another(entry, schema)
            if value is not None and key not in STRUCTURE:
                make = _set(section, key, value)
                yield Change("key", f"{section}.{key}", config, make, _takers(section, key) if by_class else None)
    model = resolved(schema["$defs"]["Model"], schema)["properties"]
    for key in ("dtype", "allow_other", "family", "revision", "key", "prefix"):
        value = _another(model[key], schema)
        yield Change("key of a model", key, config, _set("models", "mine", {key: value}), None)


# Keys that say what there is to do, not how: other jobs, or other inputs.
STRUCTURE = {"corpus", "corpora", "tasks", "weights", "parts", "neurons", "coordinates", "ablations", "models"}


def _set(section: str, key: str, value: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        config = yaml.safe_load(path.read_text())
        target = config.setdefault(section, {})
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            target[key] |= value
        else:
            target[key] = value
        path.write_text(yaml.safe_dump(config, sort_keys=False))

    return make


def _top(key: str, value: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(
        yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: value}, sort_keys=False)
    )


def _another(entry: dict, schema: dict) -> Any:
    """A value that a key may have and has not; None where the schema does not show one."""
    entry = resolved(entry, schema)
    default = entry.get("default")
    for option in [entry, *(resolved(each, schema) for each in entry.get("anyOf", ()))]:
        found = [value for value in option.get("enum", ()) if value not in (default, None)]
        if not found and option.get("type") in KINDS and "pattern" not in option:
            found = [value for value in KINDS[option["type"]](default, option) if value != default]
        if found:
            return found[0]
    return None


def _numbers(default: Any, option: dict) -> list:
    default = default if isinstance(default, int | float) else None
    low, high = (
        option.get("minimum", option.get("exclusiveMinimum", 0)),
        option.get("maximum", option.get("exclusiveMaximum")),
    )
    tried = [(default or low) + 1] if option["type"] == "integer" else [(default or 0.5) * 0.5, (default or 0.5) * 1.5]
    return [value for value in tried if value > low and (high is None or value < high)]


KINDS: dict[str, Callable[[Any, dict], list]] = {
    "boolean": lambda default, _: [not default],
    "integer": _numbers,
    "number": _numbers,
    "string": lambda *_: ["another"],
}


@cache
def _mains() -> dict[str, dict]:
    """The settings that each script takes: for each key the classes that define it."""
    found = {}
    for path in sorted((ROOT / "scripts").glob("*.py")):
        main = runpy.run_path(str(path))["main"]
        hints = {name: each.settings for name, each in names_of(main).items() if each.settings}
        classes = get_type_hints(main)
        found[path.stem] = {key: classes[parameter] for key, parameter in hints.items()}
    return found


def _takers(section: str, key: str) -> set[str] | None:
    """The rules whose script takes a key of a section, by the classes of its settings; None where a class is of two."""
    from weight_atlas.settings.configuration import Configuration

    own = Configuration.model_fields[section].annotation
    takers = set()
    for step, keys in _mains().items():
        if key in keys and (issubclass(own, keys[key]) or issubclass(keys[key], own)):
            takers.add(step)
    return takers or None


@cache
def _closure(script: Path) -> frozenset[Path]:
    """The project's files that a script can reach: by the imports of whole syntax trees, and data beside packages."""
    found, queue = {script}, [script]
    while queue:
        for name in imports(queue.pop()):
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                place = (ROOT / "src").joinpath(*parts[:end])
                for path in (place / "__init__.py", place.with_suffix(".py") if end > 1 else place / "__init__.py"):
                    if path.is_file() and path not in found:
                        found.add(path)
                        queue.append(path)
    folders = {path.parent for path in found if path.name == "__init__.py"}
    return frozenset(found | {path for folder in folders for path in folder.iterdir() if path.suffix in DATA})


def sample(changes: list[Change], each: dict[str, int]) -> list[Change]:
    """Of every kind as many as `each` says, evenly from all; of other kinds all of them."""
    kinds: dict[str, list[Change]] = {}
    for change in changes:
        kinds.setdefault(change.kind, []).append(change)
    chosen = []
    for kind, of_kind in kinds.items():
        number = min(each.get(kind, len(of_kind)), len(of_kind))
        chosen += [of_kind[place * len(of_kind) // number] for place in range(number)]
    return chosen
