"""The headers of a hub model's files by range requests: all that its index of tensors needs, and none of its weights.

Each shard becomes a sparse file of its size that holds only its header, so that the index, with all its checks, is made
as for a downloaded one. Format: see safetensors_file.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from weight_atlas.checkpoint.hub import explaining, require_space
from weight_atlas.checkpoint.listing import Listing, list_files
from weight_atlas.checkpoint.reach import repository_at
from weight_atlas.checkpoint.repository import Repository
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.tensors import weight_map
from weight_atlas.checkpoint.transfer import arriving
from weight_atlas.errors import AtlasError

# A first request of this size holds the header of a shard with some thousand tensors; of a small shard it is less.
_FIRST, _SMALLEST, _SHARE = 1 << 18, 1 << 12, 100
_LONGEST_HEADER = 100_000_000  # bytes, as of safetensors_file
_AT_ONCE = 8
# Small files that say what the tensors are.
CONFIGURATION = ("config.json", "quantize_config.json", "quant_config.json", "quantization_config.json",
                 "hf_quant_config.json", "adapter_config.json")  # fmt: skip


@dataclass(frozen=True)
class Headers:
    """A repository's files as far as an index needs them; requests: how many went to the hub, bytes: that came."""

    listing: Listing
    commit: str
    requests: int
    bytes: int


def fetch_headers(source: HubSource, revision: str | None, folder: Path) -> Headers:
    """Write the headers of a hub model's shards, and its configuration, to a folder; no weights are requested.

    AtlasError as for a download, and where its weights are in another format than safetensors.
    """
    repository = repository_at(source, revision)
    listed = list_remote(repository, source, folder)
    listing = Listing(listed.shards, listed.index, tuple(name for name in listed.side if name in CONFIGURATION))
    write_headers(repository, listing, folder)
    return Headers(listing, repository.commit, repository.requests, repository.bytes)


def list_remote(repository: Repository, source: HubSource, folder: Path, *, code: tuple[str, ...] = ()) -> Listing:
    """The files of a repository's checkpoint, whose index, if it has one, is written to a folder.

    code: patterns of the model's own modules. AtlasError where the weights are in another format than safetensors.
    """

    def shards(index: str) -> list[str]:
        _whole(repository, index, folder)
        return sorted(set(weight_map(folder / index).values()))

    with explaining(repository.text):
        listing = list_files(repository.files, where=source.text, shards_in=shards, chosen=source.file, code=code)
    if listing.format != "safetensors":
        raise AtlasError(
            f"only headers of safetensors can be read without a download, not of {listing.format} files",
            where=source.text,
            remedy="take the model without `stream`, which downloads it, or inspect a local copy",
        )
    if missing := [name for name in listing.shards if name not in repository.files]:
        raise AtlasError(
            f"the index names a file that the repository lacks: {missing[0]}",
            where=source.text,
            remedy="choose another revision, or tell the makers of the model",
        )
    return listing


def write_headers(repository: Repository, listing: Listing, folder: Path) -> None:
    """Write the headers of the shards of a listing to a folder, and the files beside them whole."""
    with explaining(repository.text), ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(_whole, repository, name, folder) for name in listing.side]
        jobs += [pool.submit(_header, repository, name, folder) for name in listing.shards]
        for job in jobs:
            job.result()


def _whole(repository: Repository, name: str, folder: Path) -> None:
    require_space(folder, repository.files[name].size)
    with (folder / name).open("wb") as file:
        file.writelines(arriving(repository, name, 0, repository.files[name].size))


def _header(repository: Repository, name: str, folder: Path) -> None:
    """The header of a shard in a sparse file of its size; a second request where the first did not hold all of it."""
    size = repository.files[name].size
    head = _part(repository, name, 0, min(_FIRST, max(_SMALLEST, size // _SHARE), size))
    needed = 8 + int.from_bytes(head[:8], "little")
    if len(head) < needed <= min(size, 8 + _LONGEST_HEADER):
        head += _part(repository, name, len(head), needed)
    with (folder / name).open("wb") as file:
        file.write(head)
        file.truncate(size)


def _part(repository: Repository, name: str, start: int, stop: int) -> bytes:
    return b"".join(arriving(repository, name, start, stop))
