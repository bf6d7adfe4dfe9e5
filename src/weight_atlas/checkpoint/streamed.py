"""Models that are never here as a whole: their headers are fetched, and their tensors read by range requests."""

import shutil
import tempfile
from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.hub import explaining
from weight_atlas.checkpoint.listing import ALL_CODE, list_folder, top_files
from weight_atlas.checkpoint.manifest import (
    Manifest,
    headers,
    headers_folder,
    open_checkpoint,
    read_manifest,
    sha256,
)
from weight_atlas.checkpoint.reach import Reached, repository_at
from weight_atlas.checkpoint.remote import list_remote, write_headers
from weight_atlas.checkpoint.repository import Repository
from weight_atlas.checkpoint.safetensors_file import SafetensorsStore
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.tensors import Store, TensorEntry
from weight_atlas.checkpoint.transfer import arriving
from weight_atlas.settings.models import CheckpointSpec

if TYPE_CHECKING:
    import torch

# A stored tensor by where it lies, shard and offset: its name may differ from the one that it is known by.
Place = tuple[str, int]


class RangedStore(SafetensorsStore):
    """Tensors that are read from the files of a folder where these hold them, else by range requests.

    here: the tensors whose bytes the folder's files hold; it may change. repository: asked for when it is needed.
    """

    def __init__(
        self, headers: Store, folder: Path, repository: Callable[[], Repository], here: Set[Place] = frozenset()
    ):
        self.folder, self.entries = folder, headers.entries
        self._headers, self._repository, self._here = headers, repository, here

    def raw(self, name: str) -> bytes:
        """The bytes of a tensor that says how others are packed."""
        return self._headers.raw(name)

    def _fill(self, tensor: "torch.Tensor", entry: TensorEntry, offset: int) -> None:
        import torch

        if (entry.shard, entry.offset) in self._here:
            super()._fill(tensor, entry, offset)
        elif tensor.numel():
            self.request(tensor.reshape(-1).view(torch.uint8).numpy().data, entry, offset)

    def request(self, whole: memoryview, entry: TensorEntry, offset: int = 0) -> None:
        """Fill memory with the bytes of a tensor from an offset in it on."""
        repository, start, at = self._repository(), entry.offset + offset, 0
        with explaining(repository.text):
            for piece in arriving(repository, entry.shard, start, start + len(whole)):
                whole[at : at + len(piece)] = piece
                at += len(piece)


class _KeptStore(RangedStore):
    """Keeps in the headers' files the tensors that say how others are packed, so that an index needs no network."""

    def raw(self, name: str) -> bytes:
        entry = self.entries[name]
        content = bytearray(entry.bytes)
        self.request(memoryview(content), entry)
        with (self.folder / entry.shard).open("rb+") as file:
            file.seek(entry.offset)
            file.write(content)
        return bytes(content)


def streamed_manifest(spec: CheckpointSpec, source: HubSource) -> Manifest:
    """The manifest of a model whose weights stay on the hub: each shard with the digest that the hub records.

    Brings the headers of its shards and the files beside them here, where nothing is requested twice.
    """
    repository = repository_at(source, spec.revision)
    folder = _fetched(repository, source, spec)
    listing = list_folder(folder, source.file, names=top_files(folder))
    files = repository.files
    digests = {name: sha256(folder / name) for name in (*listing.side, *([listing.index] if listing.index else []))}
    digests |= {name: files[name].digest or "" for name in listing.shards}
    largest = spec.spool_gb * 1e9 / 2
    return {
        "source": spec.source,
        "revision": repository.commit,
        "family": spec.family,
        "key": spec.key,
        "prefix": spec.prefix,
        "allow_other": spec.allow_other,
        "stream": True,
        "files": [
            {
                "name": name,
                "size": files[name].size,
                "sha256": digests[name],
                "verified": name not in listing.shards or (bool(digests[name]) and files[name].size <= largest),
            }
            for name in listing.names
        ],
    }


def _fetched(repository: Repository, source: HubSource, spec: CheckpointSpec) -> Path:
    folder = headers_folder(source, repository.commit)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(prefix=f".{repository.commit}.", dir=folder.parent))
    try:
        listing = list_remote(repository, source, begun, code=ALL_CODE if spec.trust_remote_code else ())
        write_headers(repository, listing, begun)
        # Indexed here and now: what is damaged is told before anything is computed.
        Checkpoint.indexed(begun, listing, spec, over=lambda store: _KeptStore(store, begun, lambda: repository))
        begun.chmod(0o755)
        if not folder.is_dir():  # else another process was faster
            begun.replace(folder)
        print(f"{len(listing.shards)} headers: {repository.bytes} bytes in {repository.requests} requests", flush=True)
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return folder


def open_remote(manifest_path: Path) -> Checkpoint:
    """Like open_checkpoint; tensors of a streamed model are read by range requests, for what needs only few of them."""
    manifest, spec, source = read_manifest(manifest_path)
    if not manifest.get("stream") or not isinstance(source, HubSource):
        return open_checkpoint(manifest_path)
    repository = Reached(source, str(spec.revision))
    return open_in(spec, source, headers(source, str(spec.revision)), repository)


def open_in(
    spec: CheckpointSpec, source: HubSource, folder: Path, repository: Callable[[], Repository],
    *, here: Set[Place] = frozenset(),
) -> Checkpoint:  # fmt: skip
    """The checkpoint of a streamed model whose tensors are read by a RangedStore, of files in a folder."""
    kept = headers(source, str(spec.revision))
    listing = list_folder(kept, source.file, names=top_files(kept))
    return Checkpoint.indexed(kept, listing, spec, over=lambda store: RangedStore(store, folder, repository, here))
