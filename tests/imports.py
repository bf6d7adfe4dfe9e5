"""What Python files import, read from their syntax."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def imports(path: Path, *, top_level_only: bool = False) -> tuple[str, ...]:
    """Dotted names that a file imports, at its top or inside functions; `from a import b` counts as a and a.b.

    top_level_only: leave out what is imported inside functions or for type checkers alone. Each file is read once.
    """
    return tuple(_imports(ast.parse(path.read_text()), top_level_only))


def _imports(tree: ast.Module, top_level_only: bool) -> Iterator[str]:
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
