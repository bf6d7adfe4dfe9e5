"""Keys that stand twice in a configuration: YAML and JSON would take the last of them without a word."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError

MERGE = "tag:yaml.org,2002:merge"  # `<<` takes over another mapping, and may stand several times


def refuse_repeated_keys(paths: Iterable[Path]) -> None:
    """Raise AtlasError for the first key that stands twice in one mapping of a YAML or JSON file."""
    import yaml

    for path in map(Path, paths):
        # JSON is YAML as far as this goes, but for tabs between its parts.
        text = path.read_text(encoding="utf-8").replace("\t", " ")
        try:
            document = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            continue  # Snakemake reads the file as well, and says what is wrong with it
        for mapping, name in _mappings(document, "", set()):
            _check(mapping, name, path)


def refuse_repeated_settings(arguments: Sequence[str]) -> None:
    """Raise AtlasError for a key that stands twice in what the command line of Snakemake sets with --config."""
    import yaml

    lines: dict[str, str] = {}
    for setting in _settings(arguments):
        key, _, text = setting.partition("=")
        if key in lines:
            raise AtlasError(
                f"the key {key!r} stands twice", where="command line: --config", remedy="keep one of the two"
            )
        lines[key] = text
        with suppress(yaml.YAMLError):  # Snakemake takes it for a text then
            for mapping, name in _mappings(yaml.compose(text, Loader=yaml.SafeLoader), key, set()):
                _check(mapping, name, "command line: --config")


def _settings(arguments: Sequence[str]) -> Iterator[str]:
    """The words KEY=VALUE that follow --config."""
    follows = False
    for word in arguments:
        if word.startswith("-"):
            start = next((each for each in ("--config=", "--config", "-C") if word.startswith(each)), "")
            follows = bool(start) and word[: len("--config") + 1] != "--configf"
            word = word.removeprefix(start)
        if follows and "=" in word:
            yield word


def _mappings(node: Any, name: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    """Yield all mappings below a node, each once, with their dotted keys; an alias may lie in what it stands for."""
    import yaml

    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node, name
    if not isinstance(node, yaml.ScalarNode):
        parts = node.value if isinstance(node, yaml.MappingNode) else enumerate(node.value)
        for key, part in parts:
            yield from _mappings(part, f"{name}.{getattr(key, 'value', key)}".lstrip("."), seen)


def _check(mapping: Any, name: str, source: Path | str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        identity, line = (key.tag, str(key.value)), key.start_mark.line + 1
        if identity in lines and key.tag != MERGE:
            raise AtlasError(
                f"the key {key.value!r} stands twice{f' in {name}' if name else ''}",
                where=f"{source}, lines {lines[identity]} and {line}" if isinstance(source, Path) else source,
                remedy="keep one of the two, or put what is below them together",
            )
        lines[identity] = line
