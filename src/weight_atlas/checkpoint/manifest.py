"""The manifest of a checkpoint: what it was made from, and which files it has, with their sizes and SHA-256.

Files of the hub lie in the hub's ordinary cache; nothing is downloaded here.
"""

import hashlib
import os
from pathlib import Path
from typing import NotRequired, TypedDict

from pydantic import ValidationError

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.listing import list_folder, top_files
from weight_atlas.checkpoint.source import HubSource, LocalSource, parse_source
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

_RUN_AGAIN = "run again: snakemake --forcerun fetch_checkpoint"
_GONE = (
    "the model is streamed: its weights are read once, as they arrive, and this needs them again or all together in "
    "memory"
)


class FileRecord(TypedDict):
    """One file: its size in bytes, and the hex SHA-256 of them.

    verified: of a streamed model whether its bytes are compared with that digest, which is the hub's then; "" where the
    hub has none.
    """

    name: str
    size: int
    sha256: str
    verified: NotRequired[bool]


class Manifest(TypedDict):
    """A manifest as JSON has it; revision: the commit of a hub repository. The other keys: see CheckpointSpec.

    stream: there and true of a model whose weights are never here as a whole.
    """

    source: str
    revision: str | None
    family: str | None
    key: str | None
    prefix: str | None
    allow_other: bool
    files: list[FileRecord]
    stream: NotRequired[bool]


def open_checkpoint(manifest_path: Path) -> Checkpoint:
    """Open the checkpoint that a manifest describes; its files must be as they were when the manifest was written.

    Of a streamed model all is known but the values: reading a tensor is NotApplicable.
    """
    manifest, spec, source = read_manifest(manifest_path)
    if spec.stream and isinstance(source, HubSource):
        return _open_headers(spec, source)
    sizes = {file["name"]: file["size"] for file in manifest["files"]}
    folder = snapshot(source, str(spec.revision)) if isinstance(source, HubSource) else source.folder
    for name, size in sizes.items():
        check_size(folder / name, size)
    return Checkpoint.indexed(folder, list_folder(folder, source.file, names=sizes), spec)


def _open_headers(spec: CheckpointSpec, source: HubSource) -> Checkpoint:
    """What is here of a streamed model: the headers of its shards and the files beside them, none of its values.

    Each shard is a sparse file of its size that holds its header, and the few small tensors that say how others are
    packed. Reading a tensor is NotApplicable.
    """
    folder = headers(source, str(spec.revision))
    checkpoint = Checkpoint.indexed(folder, list_folder(folder, source.file, names=top_files(folder)), spec)
    checkpoint.gone = _GONE
    return checkpoint


def read_manifest(manifest_path: Path) -> tuple[Manifest, CheckpointSpec, LocalSource | HubSource]:
    """A manifest, with what of it says where the model lies; AtlasError for a file that is none."""
    manifest = read_json(manifest_path)
    try:
        spec = CheckpointSpec(
            source=manifest["source"],
            revision=manifest["revision"],
            family=manifest.get("family"),
            key=manifest.get("key"),
            prefix=manifest.get("prefix"),
            allow_other=bool(manifest.get("allow_other")),
            stream=bool(manifest.get("stream")),
        )
        if any({"name", "size"} - file.keys() for file in manifest["files"]):
            raise KeyError("files")
        return manifest, spec, parse_source(spec.source)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise AtlasError("not a checkpoint manifest", where=manifest_path, remedy=_RUN_AGAIN) from error


def check_size(path: Path, size: int) -> None:
    """AtlasError unless the file is there with the size that the manifest recorded."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise AtlasError("a file of the checkpoint is gone", where=path, remedy=_RUN_AGAIN) from error
    if found != size:
        raise AtlasError(f"the file has changed: {found} bytes, was {size}", where=path, remedy=_RUN_AGAIN)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, by plain reads."""
    try:
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error


def git_hash(path: Path) -> str:
    """Hex SHA-1 under which git keeps a file of this content: what the hub records of its small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def repo_folder(source: HubSource) -> Path:
    """The folder of a repository in the hub cache, whether it is there or not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = repo_folder_name(repo_id=source.repo, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / (name if source.scheme == "hf" else f"{source.scheme}--{name}")


def snapshot_folder(source: HubSource, commit: str) -> Path:
    """The folder of one commit of a repository in the hub cache, whether it is there or not."""
    return repo_folder(source) / "snapshots" / commit


def snapshot(source: HubSource, commit: str) -> Path:
    """The folder of one commit of a repository in the hub cache; AtlasError if it is not there."""
    return _still_there(
        snapshot_folder(source, commit), f"{source.repo} at {commit} is no longer in the hub cache", "download again"
    )


def headers_folder(source: HubSource, commit: str) -> Path:
    """The folder with the headers and small files of a commit, whether it is there or not."""
    from huggingface_hub import constants

    name = source.repo.replace("/", "--") + (f"--{source.file}" if source.file else "")
    return Path(constants.HF_HUB_CACHE) / "weight-atlas-headers" / f"{source.scheme}--{name}" / commit


def headers(source: HubSource, commit: str) -> Path:
    """The folder with the headers and small files of a commit; AtlasError if it is not there."""
    what = f"the headers of {source.repo} at {commit} are no longer in the hub cache"
    return _still_there(headers_folder(source, commit), what, "fetch them again")


def _still_there(folder: Path, what: str, again: str) -> Path:
    if not folder.is_dir():
        remedy = f"set HF_HOME as it was, or {again}: snakemake --forcerun fetch_checkpoint"
        raise AtlasError(what, where=folder, remedy=remedy)
    return folder
