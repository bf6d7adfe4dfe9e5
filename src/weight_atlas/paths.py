"""Paths as users write them in a configuration. Light: the workflow imports it for every dry run."""

from pathlib import Path

from weight_atlas.errors import AtlasError


def user_path(text: str) -> Path:
    """Return a path of the configuration, with ~ and ~user filled in; an AtlasError where it can be no path."""
    if "\0" in text:
        raise AtlasError("a path that holds a NUL character", where=repr(text), remedy="write it without")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise AtlasError(
            f"no home folder is known for {Path(text).parts[0]}",
            where=text,
            remedy="write the path in full; a folder that is really named so begins with ./",
        ) from error
