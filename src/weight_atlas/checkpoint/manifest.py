"""The manifest of a checkpoint: what it was made from, and which files it has, with their sizes and SHA-256."""

from pathlib import Path
from typing import TypedDict

from pydantic import ValidationError

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.hub_cache import snapshot
from weight_atlas.checkpoint.listing import list_folder
from weight_atlas.checkpoint.source import HubSource, parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

_RUN_AGAIN = "run again: snakemake --forcerun fetch_checkpoint"


class FileRecord(TypedDict):
    """One file: its size in bytes, and the hex SHA-256 of them."""

    name: str
    size: int
    sha256: str


class Manifest(TypedDict):
    """A manifest as JSON has it; revision: the commit of a hub repository. The other keys: see CheckpointSpec."""

    source: str
    revision: str | None
    family: str | None
    key: str | None
    prefix: str | None
    allow_other: bool
    files: list[FileRecord]


def open_checkpoint(manifest_path: Path) -> Checkpoint:
    """Open the checkpoint that a manifest describes; its files must be as they were when the manifest was written."""
    manifest = read_json(manifest_path)
    try:
        spec = CheckpointSpec(
            source=manifest["source"],
            revision=manifest["revision"],
            family=manifest.get("family"),
            key=manifest.get("key"),
            prefix=manifest.get("prefix"),
            allow_other=bool(manifest.get("allow_other")),
        )
        sizes = {file["name"]: file["size"] for file in manifest["files"]}
        source = parse_source(spec.source)
    except (KeyError, TypeError, ValidationError) as error:
        raise AtlasError("not a checkpoint manifest", where=manifest_path, remedy=_RUN_AGAIN) from error
    folder = snapshot(source.repo, str(spec.revision)) if isinstance(source, HubSource) else source.folder
    for name, size in sizes.items():
        check_size(folder / name, size)
    return Checkpoint.indexed(folder, list_folder(folder, source.file, names=sizes), spec)


def check_size(path: Path, size: int) -> None:
    """AtlasError unless the file is there with the size that the manifest recorded."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise AtlasError("a file of the checkpoint is gone", where=path, remedy=_RUN_AGAIN) from error
    if found != size:
        raise AtlasError(f"the file has changed: {found} bytes, was {size}", where=path, remedy=_RUN_AGAIN)
