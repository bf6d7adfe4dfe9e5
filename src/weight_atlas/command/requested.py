"""Models as they are named on a command line: a name of the hub, a path, or a name in the project's file."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from weight_atlas.checkpoint.source import HubSource, LocalSource, parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path
from weight_atlas.settings.base import NAME

_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){1,2}")


@dataclass(frozen=True)
class Requested:
    """A requested model: its source and revision as the configuration has them."""

    source: str
    revision: str | None = None

    @property
    def names(self) -> list[str]:
        """Names for it in the project, the best first: the last part of its source, then longer ones."""
        parts = [part for part in re.split(r"[/:\\]+", self.source.removeprefix("hf:")) if part not in ("", ".", "..")]
        revision = f"@{self.revision}" if self.revision else ""
        wanted = [parts[-1] + revision, "-".join(parts[-2:]) + revision, "-".join(parts) + revision]
        return [name for each in wanted if re.fullmatch(NAME, name := plain_name(each)) and len(name) <= 100]


def requested(text: str, directory: Path) -> Requested:
    """What a word of the command line means: hf://org/name, org/name, either with @revision, a folder, a file, bundled.

    directory: the project's, which paths in its file are relative to. AtlasError for a path where nothing is, and for
    what can be no model at all.
    """
    if text.startswith("bundled:"):
        return Requested(_bundled(text))
    if "://" not in text and (path := user_path(text)).exists():
        return Requested(_from(path, text, directory))
    place, _, revision = text.partition("@")
    if not place.startswith(("hf:", "ms:")) and not _HUB.fullmatch(place):
        raise _no_model(text)
    parsed = parse_source(place if place.startswith(("hf:", "ms:")) else f"hf://{place}")
    if not isinstance(parsed, HubSource):
        raise _no_model(text)
    return Requested(parsed.text, revision or None)


def _bundled(text: str) -> str:
    parsed = parse_source(text)
    if not isinstance(parsed, LocalSource) or not parsed.folder.is_dir():
        raise AtlasError("no bundled model has this name", where=text, remedy="use bundled:demo")
    return text


def _from(path: Path, text: str, directory: Path) -> str:
    """A path as the project's file has it: as it was typed where that means the same there, else absolute."""
    parse_source(text)
    here = Path.cwd().resolve() == directory.resolve()
    return text if here or Path(text).is_absolute() or text.startswith("~") else path.absolute().as_posix()


def _no_model(text: str) -> AtlasError:
    return AtlasError(
        "no such model: there is no such path, and it is no name on the hub",
        where=text,
        remedy="give a folder, a checkpoint file, organisation/name of the Hugging Face hub, or bundled:demo",
    )


def plain_name(text: str) -> str:
    """A text turned into a valid name of the configuration."""
    letters = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._").replace("..", ".")
