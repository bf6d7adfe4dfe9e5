"""Paths that Snakemake can work with. Light: the workflow imports it for every dry run."""

from collections.abc import Iterable
from pathlib import Path

from weight_atlas.errors import AtlasError

# To Snakemake {x} is a wildcard and <x> a path variable wherever they stand in a file's name, and nothing escapes them.
NOT_FOR_SNAKEMAKE = frozenset("{}<>\n\r")


def for_snakemake(paths: Iterable[str]) -> list[str]:
    """The paths that can be inputs of a rule: those that Snakemake does not take for patterns.

    A step still reads the others; its parameters hold their sizes and times, so that it runs again when these change.
    """
    return [path for path in paths if not NOT_FOR_SNAKEMAKE & set(path)]


def check_place(place: Path, what: str) -> None:
    """Raise AtlasError for a folder in which Snakemake cannot work, since all that lies in it would be a pattern."""
    if NOT_FOR_SNAKEMAKE & set(str(place)):
        raise AtlasError(
            f"{what} lies below a folder whose name holds a brace, an angle bracket or a line break",
            where=repr(str(place)),
            remedy="Snakemake takes these for wildcards: move or rename the folder",
        )
