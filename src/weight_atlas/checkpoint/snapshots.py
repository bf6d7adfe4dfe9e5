"""Whole files of repositories that huggingface_hub does not know, in folders like those of its cache."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weight_atlas.checkpoint.hub import HubDigest, Snapshot, explaining, named_shards, require_space
from weight_atlas.checkpoint.listing import list_files, side_files
from weight_atlas.checkpoint.manifest import snapshot_folder
from weight_atlas.checkpoint.reach import repository_at
from weight_atlas.checkpoint.repository import Repository
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.transfer import fetch_file


def fetch_snapshot(source: HubSource, revision: str | None, *, code: tuple[str, ...], threads: int) -> Snapshot:
    """Bring the files that the analyses need here, each compared with its digest; what is here already stays.

    code: patterns of the model's own modules to fetch too.
    """
    repository = repository_at(source, revision)
    folder, files = snapshot_folder(source, repository.commit), repository.files

    def shards(index: str) -> list[str]:
        _bring(repository, [index], folder, 1)
        return named_shards(folder, index, files)

    with explaining(source.text):
        listing = list_files(files, where=source.text, shards_in=shards, chosen=source.file, code=code)
        arrived = _bring(repository, listing.names, folder, threads)
    digests = {name: HubDigest(files[name].digest, name in arrived) for name in listing.names}
    return Snapshot(folder, listing, repository.commit, digests)


def fetch_side_files(source: HubSource, revision: str | None, *, code: tuple[str, ...]) -> tuple[Path, list[str], str]:
    """Bring configuration and tokenizer of a repository here, and no weights; folder, files' names, commit."""
    repository = repository_at(source, revision)
    folder, names = snapshot_folder(source, repository.commit), side_files(repository.files, code)
    with explaining(source.text):
        _bring(repository, names, folder, 1)
    return folder, names, repository.commit


def _bring(repository: Repository, names: Iterable[str], folder: Path, threads: int) -> set[str]:
    """Fetch the files that are missing here or have another size; returns the names of the fetched ones."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):  # two models may be of one repository
        return _bring_alone(repository, names, folder, threads)


def _bring_alone(repository: Repository, names: Iterable[str], folder: Path, threads: int) -> set[str]:
    wanted = [name for name in names if not _is_here(folder / name, repository.files[name].size)]
    require_space(folder, sum(repository.files[name].size for name in wanted))
    with ThreadPoolExecutor(max(4, threads)) as pool:  # waiting for the network takes no core
        for name, _ in zip(
            wanted, pool.map(lambda name: fetch_file(repository, name, folder / name), wanted), strict=True
        ):
            print(f"{name}: {repository.files[name].size} bytes", flush=True)
    return set(wanted)


def _is_here(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
