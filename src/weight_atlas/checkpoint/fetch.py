"""Fetch the checkpoint that a model's entry names, check it, and describe it in a manifest."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.hub import HubDigest, download
from weight_atlas.checkpoint.listing import ALL_CODE, WEIGHT_SUFFIXES, Listing, list_folder, top_files
from weight_atlas.checkpoint.manifest import Manifest, git_hash, sha256
from weight_atlas.checkpoint.snapshots import fetch_snapshot
from weight_atlas.checkpoint.source import HubSource, parse_source, streamable
from weight_atlas.checkpoint.streamed import streamed_manifest
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec


def make_manifest(spec: CheckpointSpec, *, threads: int = 1) -> Manifest:
    """Fetch a checkpoint's files if they are not here, check them, and describe them.

    Local files stay where they are; a hub repository goes into the hub's own cache, at the commit that the revision (a
    branch, tag or commit; None: the default branch) stands for now. Nothing in the manifest depends on time or place;
    each SHA-256 is that of the bytes on this machine.
    """
    if spec.stream:
        return streamed_manifest(spec, streamable(spec.source))
    fetched = fetch(spec, threads=threads)
    digests = fetched.digests(threads) if fetched.on_hub else None
    # Index the tensors: a damaged checkpoint should be reported here, before anything is computed from it.
    checkpoint = fetched.open(spec)
    if checkpoint.renamed:
        print(checkpoint.renamed, flush=True)
    digests = digests or fetched.digests(threads)
    return {
        "source": spec.source,
        "revision": fetched.revision,
        "family": spec.family,
        "key": spec.key,
        "prefix": spec.prefix,
        "allow_other": spec.allow_other,
        "files": [
            {"name": name, "size": (fetched.folder / name).stat().st_size, "sha256": digests[name]}
            for name in fetched.listing.names
        ],
    }


@dataclass(frozen=True)
class Fetched:
    """The files of a checkpoint, all of them here, in a folder.

    revision: the commit, for a hub repository. on_hub: what the hub says of each file's bytes; {} for local files.
    """

    folder: Path
    listing: Listing
    revision: str | None
    on_hub: dict[str, HubDigest]

    def open(self, spec: CheckpointSpec) -> Checkpoint:
        """Index the checkpoint."""
        return Checkpoint.indexed(self.folder, self.listing, spec)

    def digests(self, threads: int) -> dict[str, str]:
        """SHA-256 of each file, by name; AtlasError where one is not what the hub has."""
        names = self.listing.names
        with ThreadPoolExecutor(max(1, threads)) as pool:
            found = pool.map(lambda name: _digest(self.folder / name, self.on_hub.get(name)), names)
            return dict(zip(names, found, strict=True))


def fetch(spec: CheckpointSpec, *, threads: int = 1) -> Fetched:
    """Fetch a checkpoint's files if they are not here, and list them; see make_manifest."""
    source = parse_source(spec.source)
    if isinstance(source, HubSource):
        code = ALL_CODE if spec.trust_remote_code else ()
        here = (download if source.scheme == "hf" else fetch_snapshot)(
            source, spec.revision, code=code, threads=threads
        )
        return Fetched(here.folder, here.listing, here.commit, here.digests)
    if spec.revision is not None:
        raise AtlasError("`revision` is for models on the hub", where=spec.source, remedy="remove it from this model")
    return Fetched(source.folder, _local_listing(source.folder, source.file), None, {})


def _digest(path: Path, on_hub: HubDigest | None) -> str:
    """SHA-256 of a file; AtlasError if it is not what the hub has.

    The bytes in the cache are read, whatever its names say: a disk may have lost some.
    """
    recorded = None if on_hub is None else on_hub.digest
    if on_hub is not None and on_hub.verified and recorded is not None:
        return recorded
    digest = sha256(path)
    if recorded is not None and recorded not in (digest, git_hash(path) if len(recorded) == 40 else None):
        raise AtlasError(
            "a file in the hub cache is damaged: its bytes are not those that the hub has",
            where=path.resolve(),
            remedy="delete this file and run again: it is downloaded anew",
        )
    return digest


def _local_listing(folder: Path, chosen: str | None) -> Listing:
    if folder.is_file():
        endings = ", ".join(WEIGHT_SUFFIXES)
        raise AtlasError("not a checkpoint file", where=folder, remedy=f"give its folder, or a file of {endings}")
    if not folder.is_dir():
        raise AtlasError("the folder does not exist", where=folder, remedy="check `source` in the configuration")
    try:
        return list_folder(folder, chosen)
    except AtlasError as error:
        nested = [] if chosen or error.what != "no weights here" else _folders_with_weights(folder)
        if not nested:
            raise
        raise AtlasError("no weights here", where=folder, remedy=f"did you mean {', '.join(nested)}?") from error


def _folders_with_weights(folder: Path) -> list[str]:
    inner = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [entry.as_posix() for entry in inner if any(name.endswith(".safetensors") for name in top_files(entry))][:5]
