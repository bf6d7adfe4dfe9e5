"""Models on the Hugging Face hub: download into its ordinary cache, resumably, and find them there again.

huggingface_hub talks to the hub and lays out the cache. After an interruption it starts a file from the beginning, so
large files are downloaded here first: each grows under a fixed name beside its place in the cache, resumes where it
stopped, and is renamed once its size and SHA-256 are right.
"""

import errno
import os
import re
import shutil
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.listing import Listing, list_files, list_folder, side_files, top_files
from weight_atlas.checkpoint.manifest import repo_folder, sha256, snapshot_folder
from weight_atlas.checkpoint.repository_info import COMMIT, access_token, repository_info
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.tensors import weight_map
from weight_atlas.errors import AtlasError, first_line

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_TOKEN_REMEDY = "accept the model's terms on its page and put an access token into the environment variable {}"
_NETWORK_REMEDY = (
    "check the network and run again, what arrived is kept; to work offline, give the 40-digit commit of a model "
    "that is in the hub cache as `revision`"
)
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class HubDigest:
    """What the hub records of a file's bytes: their SHA-256 or, of a small file, their git hash; None: nothing.

    verified: whether the bytes here were compared with it just now, as they arrived.
    """

    digest: str | None
    verified: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at one commit, in the hub cache; digests: what the hub records of each file's bytes."""

    folder: Path
    listing: Listing
    commit: str
    digests: dict[str, HubDigest]


def download(source: HubSource, revision: str | None, *, code: tuple[str, ...], threads: int) -> Snapshot:
    """Download the files that the analyses need into the hub cache.

    code: patterns of the model's own modules to fetch too.
    What is complete in the cache is not requested again; a commit that is wholly there needs no network.
    """
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    where = source.text if revision is None else f"{source.text} at revision {revision}"
    with explaining(where):
        try:
            info = repository_info(source, revision)
        except Exception as error:
            if _unreachable(error) and (cached := _from_cache(source, revision, code)):
                print("the hub cannot be reached: using the files in its cache", flush=True)
                return cached
            raise
        return _download(source, info, code, threads)


def _download(source: HubSource, info, code: tuple[str, ...], threads: int) -> Snapshot:
    files = {file.rfilename: file for file in info.siblings or [] if "/" not in file.rfilename}
    folder, blobs = snapshot_folder(source, info.sha), repo_folder(source) / "blobs"
    arrived: set[str] = set()

    def fetch(name: str) -> None:
        file = files[name]
        large = file.lfs is not None and not (folder / name).exists()
        if large and _fetch_large(blobs / file.lfs.sha256, source.repo, info.sha, name, file.lfs):
            arrived.add(name)
        _bring(source, files[name], info.sha)

    def shards(index: str) -> list[str]:
        fetch(index)
        return named_shards(folder, index, files)

    listing = list_files(files, where=source.text, shards_in=shards, chosen=source.file, code=code)
    wanted = listing.names
    absent = [files[name] for name in wanted if not (folder / name).exists()]
    require_space(folder, sum(_size(file) or 0 for file in absent))
    workers = max(4, threads)  # waiting for the network takes no core
    with ThreadPoolExecutor(workers) as pool:
        for name, _ in zip(wanted, pool.map(fetch, wanted), strict=True):
            _check_size(folder / name, _size(files[name]))
            print(f"{name}: {(folder / name).stat().st_size} bytes", flush=True)
    recorded = {name: files[name].lfs.sha256 if files[name].lfs else files[name].blob_id for name in wanted}
    digests = {name: HubDigest(digest, name in arrived) for name, digest in recorded.items()}
    return Snapshot(folder, listing, info.sha, digests)


def download_side_files(
    source: HubSource, revision: str | None, *, code: tuple[str, ...]
) -> tuple[Path, list[str], str]:
    """Download configuration and tokenizer of a repository, and no weights; the folder, the files' names, the commit.

    code: patterns of the model's own modules to fetch too. Offline, a commit in the hub cache serves.
    """
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with explaining(source.text if revision is None else f"{source.text} at revision {revision}"):
        try:
            info = repository_info(source, revision)
        except Exception as error:
            cached = snapshot_folder(source, revision) if revision and COMMIT.fullmatch(revision) else None
            if cached is not None and cached.is_dir() and _unreachable(error):
                print("the hub cannot be reached: using the files in its cache", flush=True)
                return cached, side_files(top_files(cached), code), str(revision)
            raise
        files = {file.rfilename: file for file in info.siblings or [] if "/" not in file.rfilename}
        names = side_files(files, code)
        for name in names:
            _bring(source, files[name], str(info.sha))
        return snapshot_folder(source, str(info.sha)), names, str(info.sha)


def _bring(source: HubSource, file: "RepoSibling", commit: str) -> None:
    """Download a file into the hub cache with huggingface_hub's own function."""
    from huggingface_hub import hf_hub_download

    from weight_atlas.checkpoint.bounded_answers import LISTS, bounded

    size = _size(file)
    with bounded(LISTS if size is None else size):
        try:
            hf_hub_download(source.repo, file.rfilename, revision=commit, token=access_token())
        except ValueError as error:  # an address that is none, or a file beyond its protocol
            what = f"the hub does not give {file.rfilename}: {first_line(error)}"
            raise AtlasError(what, where=source.text, remedy=_NETWORK_REMEDY) from error


def _size(file: "RepoSibling") -> int | None:
    return file.lfs.size if file.lfs else file.size


def named_shards(folder: Path, index: str, names: Container[str]) -> list[str]:
    """The shards that an index in a folder names, of a repository with files of these names; AtlasError without one."""
    shards = sorted(set(weight_map(folder / index).values()))
    if missing := [shard for shard in shards if shard not in names]:
        raise AtlasError(
            f"the index names a file that the repository lacks: {missing[0]}",
            where=folder / index,
            remedy="choose another `revision`, or tell the makers of the model",
        )
    return shards


def _fetch_large(blob: Path, repo: str, commit: str, name: str, lfs) -> bool:
    """Download one large file to its place in the cache, going on from what an interrupted run left.

    Returns whether it did, and so whether the bytes are known to be right.
    """
    from filelock import FileLock
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    from weight_atlas.checkpoint.bounded_answers import bounded

    if lfs.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return False  # only the hub's own protocol carries it: left to hf_hub_download
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{blob.name}.weight-atlas.incomplete")
    with FileLock(part.with_suffix(".lock")):
        if blob.exists():
            return False
        with part.open("ab") as file:
            if (begun := file.tell()) > lfs.size:
                file.truncate(begun := 0)
            if begun:
                print(f"{name}: going on from byte {begun} of {lfs.size}", flush=True)
            headers = build_hf_headers(token=access_token())
            url = hf_hub_url(repo, name, revision=commit)
            with bounded(lfs.size):
                http_get(url, file, resume_size=begun, headers=headers, expected_size=lfs.size, displayed_filename=name)
            file.flush()
            os.fsync(file.fileno())
        if sha256(part) != lfs.sha256:
            part.unlink()
            raise AtlasError(
                f"{name} arrived damaged: its SHA-256 is not the one that the hub records",
                where=f"hf://{repo}",
                remedy="run again: the file is downloaded anew",
            )
        part.replace(blob)
    part.with_suffix(".lock").unlink(missing_ok=True)
    return True


def _from_cache(source: HubSource, revision: str | None, code: tuple[str, ...]) -> Snapshot | None:
    """The same answer as download()'s from the cache alone, if revision is a commit and all of it is there."""
    if revision is None or not COMMIT.fullmatch(revision):
        return None
    folder = snapshot_folder(source, revision)
    if not folder.is_dir():
        return None
    try:
        listing = list_folder(folder, source.file, code=code)
    except AtlasError:
        return None
    # The cache names a large file's content by its SHA-256, small ones by their git hash.
    blobs = {name: (folder / name).resolve().name for name in listing.names}
    digests = {name: HubDigest(blob if _DIGEST.fullmatch(blob) else None) for name, blob in blobs.items()}
    return Snapshot(folder, listing, revision, digests)


def require_space(folder: Path, needed: int) -> None:
    """AtlasError where so many bytes do not fit on the disk of a folder."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise _disk_full(existing, f": {needed / 1e9:.1f} GB to download, {free / 1e9:.1f} GB free")


def _disk_full(where: object, detail: str = "") -> AtlasError:
    return AtlasError(
        f"the disk is full{detail}", where=where, remedy="make room, or set HF_HOME to a folder on a larger disk"
    )


def _check_size(path: Path, size: int | None) -> None:
    if size is not None and (found := path.stat().st_size) != size:
        raise AtlasError(
            f"a file in the hub cache is damaged: {found} bytes, the hub has {size}",
            where=path.resolve(),
            remedy="delete this file and run again",
        )


def _unreachable(error: Exception) -> bool:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    no_answer = httpx2.RequestError | httpx2.InvalidURL | LocalEntryNotFoundError
    return isinstance(error, no_answer | OfflineModeIsEnabled | ConnectionError)


@contextmanager
def explaining(where: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one message; a token is in none of these errors."""
    from huggingface_hub import errors

    token = _TOKEN_REMEDY.format("MODELSCOPE_API_TOKEN" if where.startswith("ms:") else "HF_TOKEN")
    try:
        yield
    except AtlasError:
        raise
    except errors.GatedRepoError as error:
        raise AtlasError("access to this model is gated", where=where, remedy=token) from error
    except errors.RevisionNotFoundError as error:
        remedy = "use a branch, tag or commit that its page lists, or none"
        raise AtlasError("the hub has no such revision of this model", where=where, remedy=remedy) from error
    except errors.RepositoryNotFoundError as error:
        remedy = "check the spelling; for a private model put an access token into HF_TOKEN"
        raise AtlasError("the hub has no such model, or it is private", where=where, remedy=remedy) from error
    except Exception as error:
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        if status in (401, 403):
            raise AtlasError(f"the hub refuses access ({status})", where=where, remedy=token) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(error.filename) from error
        if _unreachable(error) or status is not None:
            reason = f"status {status}" if status else type(error).__name__
            raise AtlasError(f"the hub cannot be reached ({reason})", where=where, remedy=_NETWORK_REMEDY) from error
        if isinstance(error, OSError) and "onsistency check" in str(error):
            remedy = "run again: what arrived is kept"
            raise AtlasError("a file arrived incomplete", where=where, remedy=remedy) from error
        raise
