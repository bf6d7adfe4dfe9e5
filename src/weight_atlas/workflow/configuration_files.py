"""Configuration files in which a key stands twice: YAML and JSON would take the last of them without a word."""

from collections.abc import Iterable, Iterator
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


def _check(mapping: Any, name: str, path: Path) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        identity, line = (key.tag, str(key.value)), key.start_mark.line + 1
        if identity in lines and key.tag != MERGE:
            raise AtlasError(
                f"the key {key.value!r} stands twice{f' in {name}' if name else ''}",
                where=f"{path}, lines {lines[identity]} and {line}",
                remedy="keep one of the two, or put what is below them together",
            )
        lines[identity] = line
