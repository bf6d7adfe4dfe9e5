"""A digest of the code that a script can reach, so that a change in the library reruns exactly its users.

Snakemake sees a changed script but not a changed module that the script imports. The digest covers the script, every
module of this project that it imports, directly or not, and the data files of the packages among them (family
tables, templates of pages). Comments and docstrings do not count, and neither do the classes of settings: what they say
reaches a step as values of its parameters, which Snakemake tracks by themselves.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from weight_atlas.workflow.parsed_code import PARSED
from weight_atlas.workflow.versions import LIBRARIES, versions


def code_digest(script: Path, package: Path) -> str:
    """Digest of a script and of the modules of a package (its folder) in the script's import closure."""
    # The shape of a syntax tree depends on the version of Python.
    parts = [f"python {sys.version_info.major}.{sys.version_info.minor}"]
    parts += [
        f"{name} {_imports_and_digest(path)[1]}"
        for name, path in sorted(closure(script, package).items())
        if not name.startswith(f"{package.name}/settings/")
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def library_versions(script: Path, package: Path) -> dict[str, str]:
    """The versions of those LIBRARIES that the files in a script's import closure import."""
    files = closure(script, package).values()
    imported = {module.split(".")[0] for path in files for module in _imports_and_digest(path)[0]}
    return versions(name for name in LIBRARIES if name in imported)


def closure(script: Path, package: Path) -> dict[str, Path]:
    """All files of this project that running the script can read as code or package data, by name.

    package: the project's; what lies beside it, as in a folder of installed packages, is not the project's.
    """
    script, package = Path(script).resolve(), Path(package).resolve()
    found, queue = {script}, [script]
    while queue:
        new = set(_direct_dependencies(queue.pop(), package)) - found
        found |= new
        queue += new
    # A wheel keeps the scripts inside the package, a clone beside it: their names are the same in both.
    return {path.name if path == script else path.relative_to(package.parent).as_posix(): path for path in found}


@cache
def _direct_dependencies(path: Path, package: Path) -> tuple[Path, ...]:
    """Files of a package that running one file reads by itself: the modules that it imports, and package data."""
    imports, _ = _imports_and_digest(path)
    own = [module for module in imports if module.split(".")[0] == package.name]
    files = [file for module in own for file in _module_files(module, package.parent)]
    return (*files, *(_package_data(path.parent) if path.name == "__init__.py" else ()))


@cache
def _imports_and_digest(path: Path) -> tuple[tuple[str, ...], str]:
    """Dotted names that a file imports, at its top or inside its functions, and a digest of what it says.

    `from a import b` counts as a and a.b. Parsing is most of what a dry run does here: once for each content.
    """
    content = path.read_bytes()
    key = hashlib.sha256(content).hexdigest()
    if path.suffix != ".py":
        return (), key
    if (known := PARSED.get(key)) is None:
        tree = ast.parse(content, str(path))
        imports = tuple(sorted(set(_walk_imports(tree))))
        known = imports, hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()
        PARSED.put(key, known)
    return known


def _walk_imports(tree: ast.AST) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError("relative imports hide a module from its digest: write them absolutely")
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node, in whatever they are nested: no need to enter expressions, which are most nodes."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for below in getattr(node, field, ()):
            yield below
            yield from _statements(below)


@cache
def _module_files(module: str, root: Path) -> list[Path]:
    """Files below root that importing a dotted name executes: the packages on the way, then the module."""
    files, folder = [], root
    for part in module.split("."):
        package, file = folder / part / "__init__.py", folder / f"{part}.py"
        if package.is_file():
            files.append(package)
            folder = folder / part
        elif file.is_file():
            return [*files, file]
        else:
            break
    return files


def _package_data(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".json", ".csv", ".txt", ".jinja"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in (tree, *_statements(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
