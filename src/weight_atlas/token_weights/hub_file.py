"""A file of token weights on the hub: brought into the hub's cache at one commit, and its manifest."""

from pathlib import Path
from typing import TypedDict

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.fetch import fetch
from weight_atlas.checkpoint.manifest import FileRecord, check_size, snapshot
from weight_atlas.checkpoint.source import HubSource, parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec
from weight_atlas.settings.token_weights import VectorFile


class VectorManifest(TypedDict):
    """A file on the hub as JSON has it; revision: the commit."""

    source: str
    revision: str
    file: FileRecord


def fetch_vector(settings: VectorFile) -> VectorManifest:
    """Fetch the file if it is not here, check it against what the hub records, and describe it.

    AtlasError where the source names no file on the hub.
    """
    source = _hub_source(settings.source)
    fetched = fetch(CheckpointSpec(source=source.text, revision=settings.revision))
    name = str(source.file)
    size = (fetched.folder / name).stat().st_size
    file: FileRecord = {"name": name, "size": size, "sha256": fetched.digests(threads=1)[name]}
    return {"source": source.text, "revision": str(fetched.revision), "file": file}


def open_vector(manifest: Path) -> Path:
    """Where the file of a manifest lies; it must be of the size that it was."""
    recorded = read_json(manifest)
    try:
        source, commit, file = _hub_source(recorded["source"]), str(recorded["revision"]), recorded["file"]
        path, size = snapshot(source, commit) / file["name"], file["size"]
    except (KeyError, TypeError) as error:
        raise AtlasError(
            "not the manifest of a vector", where=manifest, remedy="run again: snakemake --forcerun fetch_vector"
        ) from error
    check_size(path, size)
    return path


def _hub_source(text: str | None) -> HubSource:
    source = parse_source(str(text))
    if not isinstance(source, HubSource) or source.file is None:
        raise AtlasError("no file on the hub", where=text or "source", remedy="give hf://organisation/name/file")
    return source
