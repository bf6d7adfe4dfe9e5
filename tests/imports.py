"""What Python files import, read from their syntax."""

import ast
from collections.abc import Iterator
from pathlib import Path


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports, at its top or inside functions; `from a import b` counts as a and a.b.

    top_level_only: leave out what is imported inside functions or for type checkers alone.
    """
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
