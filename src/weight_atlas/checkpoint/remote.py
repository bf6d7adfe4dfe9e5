"""The headers of a hub model's files by range requests: all that its index of tensors needs, and none of its weights.

Each shard becomes a sparse file of its size that holds its header and nothing else, so that the index, with all its
checks, is made of it as it is of a downloaded one. Format: see safetensors_file.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weight_atlas.checkpoint.hub import access_token, explaining
from weight_atlas.checkpoint.listing import Listing, list_files
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.tensors import weight_map
from weight_atlas.errors import AtlasError

# A first request of this size holds the header of a shard with some thousand tensors.
_FIRST = 1 << 18
_LONGEST_HEADER = 100_000_000  # bytes, as of safetensors_file
_AT_ONCE = 8
# Small files that say what the tensors are.
_SIDE = ("config.json", "quantize_config.json", "quant_config.json", "quantization_config.json",
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
    from huggingface_hub import HfApi

    with explaining(source.text if revision is None else f"{source.text} at revision {revision}"):
        info = HfApi(token=access_token()).model_info(source.repo, revision=revision, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or [] if "/" not in file.rfilename}
        asked = _Ranges(source.repo, str(info.sha))

        def shards(index: str) -> list[str]:
            (folder / index).write_bytes(asked.whole(index))
            return sorted(set(weight_map(folder / index).values()))

        listing = list_files(files, where=source.text, shards_in=shards, chosen=source.file, code=())
        if listing.format != "safetensors":
            raise AtlasError(
                f"only headers of safetensors can be read without a download, not of {listing.format} files",
                where=source.text,
                remedy="scan the model, which downloads it, or inspect a local copy",
            )
        if missing := [name for name in listing.shards if name not in files]:
            raise AtlasError(
                f"the index names a file that the repository lacks: {missing[0]}",
                where=source.text,
                remedy="choose another revision, or tell the makers of the model",
            )
        side = [name for name in listing.side if name in _SIDE]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = [pool.submit(_whole, folder / name, asked, name) for name in side]
            jobs += [pool.submit(_header, folder / name, asked, name, _size(files[name])) for name in listing.shards]
            for job in jobs:
                job.result()
        read = Listing(listing.shards, listing.index, tuple(side))
        return Headers(read, str(info.sha), asked.requests + 1, asked.bytes)


class _Ranges:
    """Requests for parts of a repository's files."""

    def __init__(self, repo: str, commit: str):
        self.repo, self.commit, self.requests, self.bytes = repo, commit, 0, 0

    def whole(self, name: str) -> bytes:
        return self._get(name, {})

    def part(self, name: str, start: int, stop: int) -> bytes:
        """Bytes from start up to stop, which is not one of them; as many of these as there are."""
        content = self._get(name, {"Range": f"bytes={start}-{stop - 1}"})
        return content[: stop - start]

    def _get(self, name: str, headers: dict[str, str]) -> bytes:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(self.repo, name, revision=self.commit)
        sent = {**build_hf_headers(token=access_token()), "Accept-Encoding": "identity", **headers}
        response = get_session().get(url, headers=sent, follow_redirects=True)
        hf_raise_for_status(response)
        self.requests += 1
        self.bytes += len(response.content)
        return response.content


def _size(file: Any) -> int:
    return int((file.lfs.size if file.lfs else file.size) or 0)


def _whole(path: Path, asked: _Ranges, name: str) -> None:
    path.write_bytes(asked.whole(name))


def _header(path: Path, asked: _Ranges, name: str, size: int) -> None:
    """The header of a shard in a sparse file of its size; a second request where the first did not hold all of it."""
    head = asked.part(name, 0, min(_FIRST, size))
    needed = 8 + int.from_bytes(head[:8], "little")
    if len(head) < needed <= min(size, 8 + _LONGEST_HEADER):
        head += asked.part(name, len(head), needed)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
