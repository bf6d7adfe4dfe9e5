"""The project of a directory: weight-atlas.yaml, an ordinary configuration that gains each model that is asked for.

What somebody wrote there by hand stays: other keys, comments, the order of both. Snakemake reads the same file, so
that all that a command makes is kept, shared with the next one, and with runs of Snakemake itself.
"""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from weight_atlas.atomic_files import write_text
from weight_atlas.command.requested import Requested, requested
from weight_atlas.errors import AtlasError, explained, unknown_name
from weight_atlas.yaml_file import check_document

FILE = "weight-atlas.yaml"
_HEAD = """\
# What weight-atlas was asked for in this directory. It may be edited; the reference of all keys is config/README.md.
# Snakemake goes on with it: snakemake --snakefile "$(weight-atlas snakefile)" --configfile weight-atlas.yaml --cores 8
"""


class Project:
    """What weight-atlas.yaml of a directory says, and changes to it that are not written yet."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.path = directory / FILE
        self.before: str | None = None
        self.after: str | None = None
        self.document: Any = {}
        if not directory.is_dir():
            raise AtlasError("the folder does not exist", where=directory, remedy="make it, or name another one")
        if self.path.exists():
            self.before = _read(self.path)
            self.document = _parsed(self.before, self.path)

    @property
    def models(self) -> dict[str, Any]:
        """The entries of models by name."""
        return self.document.get("models") or {}

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.directory / self.folder("results")

    def folder(self, name: str) -> str:
        """The folder of results or logs as Snakemake names it, relative to the directory."""
        from weight_atlas.workflow.configuration import plain_folders

        return plain_folders({name: str((self.document.get("pathvars") or {}).get(name) or name)})[name]

    @property
    def is_here(self) -> bool:
        """Whether it is in the current folder, so that paths mean the same on the command line and in the file."""
        return self.directory.resolve() == Path.cwd().resolve()

    def model(self, text: str) -> str:
        """The name of a requested model; a model without an entry in the file gets one."""
        if text in self.models:
            return text
        try:
            wanted = requested(text, self.directory)
        except AtlasError as error:
            if "/" not in text and ":" not in text and self.models:
                raise unknown_name("model", text, list(self.models), self.path) from error
            raise
        for name, entry in self.models.items():
            if _is(entry, wanted):
                return name
        names = [name for name in wanted.names if name not in self._taken]
        name = names[0] if names else self._numbered(wanted)
        entry = {"source": wanted.source} | ({"revision": wanted.revision} if wanted.revision else {})
        self._section("models")[name] = entry
        return name

    def ask(self, name: str, analyses: Iterable[str]) -> None:
        """Add analyses to those that a model's entry names; an entry that names none has all."""
        entry = self.models[name]
        known = entry.get("analyses")
        if known is None and not self._is_new(name):
            return
        missing = [each for each in analyses if each not in (known or ())]
        if missing or known is None:
            entry["analyses"] = _flow([*(known or ()), *missing])

    def set_key(self, key: str, value: Any) -> None:
        """Set a key of a section: "super_weights.spike_threshold"."""
        section, _, name = key.partition(".")
        below: Any = self._section(section)
        *path, last = name.split(".")
        for part in path:
            below = below.setdefault(part, {})
        if last not in below or below[last] != value:
            below[last] = _flow(value) if isinstance(value, list) else value

    def set_keys(self, keys: Mapping[str, Any]) -> None:
        """Set those of some keys that have a value."""
        for key, value in keys.items():
            if value is not None:
                self.set_key(key, value)

    def set_entry(self, section: str, name: str, value: Any) -> None:
        """Set an entry of a section by its name, which may have dots in it."""
        entries = self._section(section)
        if entries.get(name) != value:
            entries[name] = _flow(value) if isinstance(value, list) else value

    def configured(self) -> dict[str, Any]:
        """The whole configuration, checked and complete."""
        from weight_atlas.workflow.configuration import configured

        return configured(_plain(self.document), FILE)

    def changes(self) -> bool:
        """Whether anything in the file is to be changed."""
        return self._text() != self.before

    def write(self) -> None:
        """Write the file, if anything in it changes."""
        self.after = self._text()
        if self.after != self.before:
            _write(self.path, self.after)

    def take_back(self) -> None:
        """Undo write() after a run that could not bring a model here, unless somebody else wrote meanwhile."""
        if self.after != self.before and self.path.exists() and _read(self.path) == self.after:
            _restore(self.path, self.before)

    def arrived(self, name: str) -> bool:
        """Whether a model's checkpoint was brought here and checked."""
        return (self.results / "checkpoints" / f"{name}.json").exists()

    @property
    def _taken(self) -> set[str]:
        return {*self.models, *(self.document.get("tokenizers") or {})}

    def _numbered(self, wanted: Requested) -> str:
        stem = (wanted.names or ["model"])[0]
        return next(name for number in range(2, 1 << 20) if (name := f"{stem}-{number}") not in self._taken)

    def _is_new(self, name: str) -> bool:
        before = {} if self.before is None else _parsed(self.before, self.path)
        return name not in (before.get("models") or {})

    def _section(self, name: str) -> Any:
        if not self.document.get(name):
            self.document[name] = {}
        if not isinstance(self.document[name], dict):
            raise AtlasError(f"{name}: should be a mapping of keys to values", where=self.path)
        return self.document[name]

    def _text(self) -> str:
        """The new text of the file; what does not change stays byte for byte."""
        if self.before is not None and _plain(_parsed(self.before, self.path)) == _plain(self.document):
            return self.before
        stream = io.StringIO()
        _yaml().dump(self.document, stream)
        return f"{'' if self.before else _HEAD}{stream.getvalue()}"


def _is(entry: Mapping[str, Any], wanted: Requested) -> bool:
    return entry.get("source") == wanted.source and entry.get("revision") == wanted.revision


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()  # the round trip, which keeps comments
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.representer.add_representer(
        type(None), lambda made, _: made.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _parsed(content: str, path: Path) -> Any:
    import yaml
    from ruamel.yaml.error import YAMLError

    try:
        check_document(yaml.compose(content, Loader=yaml.SafeLoader), path)
        document = _yaml().load(content)
    except (YAMLError, yaml.YAMLError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise AtlasError(f"not YAML: {what}", where=path, remedy="mend it, or move it away") from error
    if document is None:
        return {}
    if not isinstance(document, dict) or not isinstance(document.get("models") or {}, dict):
        raise AtlasError("not a configuration: it should map keys to values", where=path, remedy="see config/README.md")
    if bad := [name for name, entry in (document.get("models") or {}).items() if not isinstance(entry, dict)]:
        raise AtlasError(f"models.{bad[0]}: should be a mapping of keys to values", where=path)
    return document


def _plain(value: Any) -> Any:
    """The values of a document, without ruamel's notes on how they are written."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _flow(values: Iterable[Any]) -> Any:
    """A list that is written in one line."""
    from ruamel.yaml.comments import CommentedSeq

    made = CommentedSeq(values)
    made.fa.set_flow_style()
    return made


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise explained(error, path) or error from error
    except UnicodeDecodeError as error:
        raise AtlasError("not UTF-8", where=path, remedy="mend it, or move it away") from error


def _write(path: Path, content: str) -> None:
    write_text(path, content)


def _restore(path: Path, content: str | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        _write(path, content)
