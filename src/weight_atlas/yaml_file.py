"""Read a YAML file that somebody wrote: plain values, each key once, nothing that unfolds without end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError, refuse_huge

MERGE = "tag:yaml.org,2002:merge"  # `<<` takes over another mapping, and may stand several times
_MOST_NODES, _MOST_BYTES = 1_000_000, 1 << 26  # a configuration of a thousand models has less
_REMEDY = "mend the file"


def read_yaml(path: Path) -> Any:
    """The plain values of a file; whatever is wrong with it is an AtlasError."""
    import yaml

    refuse_huge(path, _MOST_BYTES)
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        check_document(document, path)
        return None if document is None else yaml.SafeLoader("").construct_document(document)
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check the path") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:  # of ValueErrors numbers of thousands of digits are one
        raise AtlasError(f"not valid YAML: {' '.join(str(error).split())}", where=path, remedy=_REMEDY) from error
    except RecursionError as error:
        raise AtlasError("not valid YAML: nested without end", where=path, remedy=_REMEDY) from error


def check_document(document: Any, source: Path | str, name: str = "") -> None:
    """AtlasError for a key that stands twice in one mapping, and for aliases that unfold to millions of values.

    document: the composed node, or None. source: the file, or what else it stands in. name: its dotted key there.
    """
    check_size(document, source)
    for mapping, key in _mappings(document, name, set()):
        _check_keys(mapping, key, source)


def check_size(document: Any, source: Path | str) -> None:
    """AtlasError unless a document stays small with each alias replaced by what it stands for, as for who walks it."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if (known := sizes.get(id(node))) is None:
            sizes[id(node)] = _MOST_NODES  # of one that lies in itself
            known = sizes[id(node)] = 1 + sum(map(size, _parts(node)))
        if known > _MOST_NODES:
            raise AtlasError(
                f"its aliases unfold to more than {_MOST_NODES:,} values", where=source,
                remedy="write out what the aliases (*name) stand for",
            )  # fmt: skip
        return known

    size(document)


def _parts(node: Any) -> Iterator[Any]:
    value = getattr(node, "value", None)
    for each in value if isinstance(value, list) else ():
        yield from each if isinstance(each, tuple) else (each,)


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


def _check_keys(mapping: Any, name: str, source: Path | str) -> None:
    """AtlasError for a key that stands twice in a mapping; name: its dotted key."""
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
