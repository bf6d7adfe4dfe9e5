"""Versions of the libraries that numbers depend on. Every step writes them into its log."""

from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

# Libraries that can give other numbers in another version.
LIBRARIES = ("torch", "transformers", "tokenizers", "lm_eval", "numpy", "scipy")
VERSIONS = "versions: "  # what the line with them begins with in a step's log


def versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Major and minor version of libraries, of those that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = ".".join(version(name).split(".")[:2])
    return found
