"""The manifest of a checkpoint: which files it is made of, their sizes and their SHA-256."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.files import (
    ALL_CODE,
    CODE_PATTERNS,
    WEIGHT_SUFFIXES,
    check_file_names,
    refuse_pointers,
    side_files,
    weight_files,
)
from weight_atlas.checkpoint.safetensors_header import shards_in
from weight_atlas.checkpoint.source import Source, parse_source, top_files
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    from weight_atlas.checkpoint.hub import Known


def make_manifest(
    source: str,
    *,
    revision: str | None = None,
    family: str | None = None,
    key: str | None = None,
    prefix: str | None = None,
    allow_other: bool = False,
    remote_code: bool = False,
    threads: int = 1,
) -> dict:
    """Bring a source's files here if they are not, check them, and describe them.

    Local files stay where they are; a hub repository goes into the hub's own cache, at the commit that revision (a
    branch, tag or commit; None: the default branch) stands for now. prefix: what stands before the names of the
    model's tensors. allow_other: allow tensors that its family does not know. remote_code: fetch the model's own
    modules too.
    Returns {source, revision, family, key, prefix, allow_other, files: [{name, size, sha256}]}, in which nothing
    depends on time or place; each SHA-256 is that of the bytes that lie here.
    """
    here = bring(source, revision=revision, remote_code=remote_code, threads=threads)
    digests = here.digests(threads) if here.known else None
    # Index the tensors: a damaged checkpoint is best told of here, before anything is computed from it.
    checkpoint = Checkpoint.from_folder(here.folder, here.file, names=here.names, key=key, prefix=prefix)
    if checkpoint.renamed:
        print(checkpoint.renamed, flush=True)
    digests = digests or here.digests(threads)
    files = [
        {"name": name, "size": (here.folder / name).stat().st_size, "sha256": digests[name]} for name in here.names
    ]
    given = {"family": family, "key": key, "prefix": prefix, "allow_other": allow_other}
    return {"source": source, "revision": here.revision, **given, "files": files}


@dataclass(frozen=True)
class Here:
    """The files of a source, which lie here: folder, names, and file, the one checkpoint file chosen among them.

    revision: the commit, for a hub repository. known: what the hub says of each file's bytes; {} for local files.
    """

    folder: Path
    names: list[str]
    file: str | None
    revision: str | None
    known: dict[str, "Known"]

    def digests(self, threads: int) -> dict[str, str]:
        """SHA-256 of each file, by name; AtlasError where one is not what the hub has."""
        with ThreadPoolExecutor(max(1, threads)) as pool:
            found = pool.map(lambda name: _digest(self.folder / name, self.known.get(name)), self.names)
            return dict(zip(self.names, found, strict=True))


def bring(source: str, *, revision: str | None = None, remote_code: bool = False, threads: int = 1) -> Here:
    """Bring a source's files here if they are not, and list them; see make_manifest."""
    parsed = parse_source(source)
    if parsed.repo is not None:
        from weight_atlas.checkpoint.hub import download

        folder, revision, known = download(parsed, revision, code=ALL_CODE if remote_code else (), threads=threads)
        names = sorted(known)
    else:
        if revision is not None:
            raise AtlasError("`revision` is for models on the hub", where=source, remedy="remove it from this model")
        folder, known = parsed.folder, {}
        names = local_names(parsed)
    check_file_names(names, where=source)
    return Here(folder, names, parsed.file, revision, known)


def _digest(path: Path, known: "Known | None") -> str:
    """SHA-256 of a file; AtlasError if it is not what the hub has.

    The bytes in the cache are read, whatever its names say: a disk may have lost some.
    """
    if known is not None and known.checked:
        return known.digest
    digest = sha256(path)
    if known is not None and known.digest not in (None, digest, git_hash(path) if len(known.digest) == 40 else None):
        raise AtlasError(
            "a file in the hub cache is damaged: its bytes are not those that the hub has",
            where=path.resolve(),
            remedy="delete this file and run again: it is downloaded anew",
        )
    return digest


def local_names(source: Source) -> list[str]:
    """Names of the files in a local source's folder that its checkpoint is made of, sorted."""
    folder = source.folder
    if folder.is_file():
        endings = ", ".join(WEIGHT_SUFFIXES)
        raise AtlasError("not a checkpoint file", where=folder, remedy=f"give its folder, or a file of {endings}")
    if not folder.is_dir():
        raise AtlasError("the folder does not exist", where=folder, remedy="check `source` in the configuration")
    names = top_files(folder)
    try:
        weights = weight_files(
            names, where=folder, chosen=source.file, shards_in=lambda index: shards_in(folder, index)
        )
    except AtlasError as error:
        nested = [] if source.file or error.what != "no weights here" else _folders_with_weights(folder)
        if not nested:
            raise
        raise AtlasError("no weights here", where=folder, remedy=f"did you mean {', '.join(nested)}?") from error
    wanted = sorted({*side_files(names, CODE_PATTERNS), *weights.all})
    refuse_pointers(folder, wanted)
    return wanted


def _folders_with_weights(folder: Path) -> list[str]:
    inner = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    return [entry.as_posix() for entry in inner if any(map(_holds_tensors, top_files(entry)))][:5]


def _holds_tensors(name: str) -> bool:
    return name.endswith(".safetensors")


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
