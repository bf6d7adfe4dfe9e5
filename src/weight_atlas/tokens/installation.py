"""The files that the bundled corpus is taken from: the standard library and packages that the lock pins.

Light: the workflow imports it for every dry run. Nothing of the packages is imported.
"""

import platform
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from weight_atlas.errors import AtlasError

# Packages that this project itself requires, with its extra `eval`, so that the text does not depend on other extras.
PACKAGES = (
    "accelerate",
    "datasets",
    "docutils",
    "fonttools",
    "fsspec",
    "huggingface_hub",
    "lm_eval",
    "matplotlib",
    "mpmath",
    "networkx",
    "nltk",
    "numba",
    "numpy",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "pygments",
    "rich",
    "scikit-learn",
    "scipy",
    "seaborn",
    "snakemake",
    "sqlalchemy",
    "sympy",
    "tokenizers",
    "torch",
    "transformers",
)
STANDARD_LIBRARY = "python"

_SOURCE_SUFFIXES = (".py", ".pyi")
# Copies of other projects; tests; parts of Python that distributions leave out or put into packages of their own.
_COPIES = ("_vendor", "_vendored", "vendor", "externals", "extern", "third_party")
_TESTS = ("test", "tests", "testing", "idle_test")
_OPTIONAL = ("idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "distutils")
_LEFT_OUT_FOLDERS = frozenset((*_COPIES, *_TESTS, *_OPTIONAL))


class SourceFile(NamedTuple):
    """A Python source file: where it lies, and the package that brought it."""

    path: Path
    package: str


def source_files() -> dict[str, SourceFile]:
    """Return the source files of the corpus by their names in the installation, sorted.

    A name is the path below the folder of installed packages, or "python/" and the path in the standard library.
    AtlasError where a package is missing.
    """
    files = _standard_library()
    for package in PACKAGES:
        files |= _package_files(package)
    return dict(sorted(files.items()))


def read_source(file: SourceFile) -> bytes:
    """Read a source file; one that its package should have and that is not there is an AtlasError."""
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise AtlasError(
            f"a source file of an installed package cannot be read: {error.strerror}",
            where=file.path,
            remedy=f"reinstall {file.package} with the lock",
        ) from error


def versions() -> dict[str, str]:
    """Return the version of Python (major.minor) and of every package that the corpus is taken from."""
    python = ".".join(platform.python_version_tuple()[:2])
    # A local label such as +cpu names a build of the same sources.
    return {STANDARD_LIBRARY: python, **{name: _distribution(name).version.split("+")[0] for name in PACKAGES}}


def _standard_library() -> dict[str, SourceFile]:
    root = Path(sysconfig.get_path("stdlib"))
    files = {}
    for module in sys.stdlib_module_names:
        for path in (root / f"{module}.py", *(root / module).rglob("*.py")):
            parts = path.relative_to(root).parts
            if path.is_file() and not _LEFT_OUT_FOLDERS.intersection(parts):
                files["/".join((STANDARD_LIBRARY, *parts))] = SourceFile(path, STANDARD_LIBRARY)
    return files


def _package_files(package: str) -> dict[str, SourceFile]:
    """List a package by the record of what its wheel installed, so that stray files beside it do not count."""
    record = _distribution(package).files
    if not record:
        raise AtlasError(
            "the bundled corpus needs to know a package's files, and its installation has no record of them",
            where=package,
            remedy=f"install it from its wheel: pip install -c requirements.lock --force-reinstall {package}",
        )
    return {
        file.as_posix(): SourceFile(Path(str(file.locate())), package)
        for file in record
        if file.suffix in _SOURCE_SUFFIXES and not _LEFT_OUT_FOLDERS.intersection(file.parts)
    }


def _distribution(package: str) -> metadata.Distribution:
    try:
        return metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise AtlasError(
            "the bundled corpus is text of installed packages, and one of them is missing",
            where=package,
            remedy="install this project with its lock and its extra eval: "
            'pip install -c requirements.lock -e ".[eval]"',
        ) from error
