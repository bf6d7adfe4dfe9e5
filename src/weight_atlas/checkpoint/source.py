"""What a `source` string of the configuration means. Light: the workflow imports it for every dry run."""

import re
from dataclasses import dataclass
from pathlib import Path

import weight_atlas
from weight_atlas.checkpoint.listing import WEIGHT_SUFFIXES
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path

_HUBS = ("hf", "ms")  # Hugging Face, ModelScope
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REMEDY = (
    "use bundled:demo, hf://org/name, hf://org/name/file, ms://org/name, a folder, or a .safetensors, .pt, .pth, "
    ".ckpt, .bin or .gguf file"
)


@dataclass(frozen=True)
class LocalSource:
    """A local folder; file: the checkpoint file chosen in it, if any. text: the source in the configuration."""

    text: str
    folder: Path
    file: str | None = None


@dataclass(frozen=True)
class HubSource:
    """A hub repository, org/name; file and text as of a LocalSource. scheme: of the hub, as the source spells it."""

    text: str
    repo: str
    file: str | None = None
    scheme: str = "hf"


def bundled(name: str) -> Path:
    """Folder of a model that is part of this package: data/NAME/model."""
    return Path(weight_atlas.__file__).resolve().parent / "data" / name / "model"


def parse_source(text: str) -> LocalSource | HubSource:
    """Parse a source string; nothing is opened.

    A local path with a suffix of a checkpoint file means that file, unless it is a folder. AtlasError otherwise.
    """
    if not isinstance(text, str) or not text.strip():
        raise AtlasError("a model without a source", where=repr(text), remedy=_REMEDY)
    scheme, colon, rest = text.partition(":")
    if scheme == "bundled":
        if not _HUB_NAME.fullmatch(rest):
            raise AtlasError("not the name of a bundled model", where=text, remedy="use bundled:demo")
        return LocalSource(text, bundled(rest))
    if scheme in _HUBS:
        return _hub_source(text, rest, scheme)
    if colon and rest.startswith("//"):
        raise AtlasError(f"unknown kind of source: {scheme}://", where=text, remedy=_REMEDY)
    path = user_path(text)
    if path.suffix in WEIGHT_SUFFIXES and not path.is_dir():
        return LocalSource(text, path.parent, path.name)
    return LocalSource(text, path)


def streamable(text: str) -> HubSource:
    """The repository that a source names; AtlasError for one that is not on a hub."""
    source = parse_source(text)
    if not isinstance(source, HubSource):
        remedy = "remove it: what is on a disk is read there"
        raise AtlasError("`stream` is for models of a hub", where=text, remedy=remedy)
    return source


def _hub_source(text: str, rest: str, scheme: str) -> HubSource:
    parts = rest.removeprefix("//").split("/")
    named = rest.startswith("//") and len(parts) in (2, 3) and all(_HUB_NAME.fullmatch(part) for part in parts)
    if not named or any(".." in part or part.endswith((".git", ".")) for part in parts[:2]):
        raise AtlasError(
            "not the name of a model on the hub",
            where=text,
            remedy=f"use {scheme}://org/name or {scheme}://org/name/file",
        )
    if len(parts) == 3 and not parts[2].endswith(WEIGHT_SUFFIXES):
        raise AtlasError(
            f"not a checkpoint file: {parts[2]}", where=text, remedy=f"end it with one of {', '.join(WEIGHT_SUFFIXES)}"
        )
    return HubSource(text, "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, scheme)
