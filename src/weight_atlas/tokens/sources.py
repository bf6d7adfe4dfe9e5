"""Meaning of a corpus's `source` in the configuration. Light: the workflow imports it for every dry run."""

import glob
from contextlib import suppress
from pathlib import Path

from weight_atlas.errors import AtlasError
from weight_atlas.file_states import states_of
from weight_atlas.paths import user_path
from weight_atlas.tokens.installation import versions

BUNDLED, HUB = "bundled:", "hf:"
BUNDLED_CORPUS = "python-docs"
KINDS = (".txt", ".jsonl", ".json", ".csv", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
SUFFIXES = (*KINDS, *(kind + suffix for suffix in COMPRESSIONS for kind in KINDS if kind != ".parquet"))


def kind_of(path: Path) -> str | None:
    """The kind of a file of texts, one of KINDS, by its name, compressed or not; None for another file."""
    kind = Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix
    return kind if path.name.endswith(SUFFIXES) and kind in KINDS else None


def is_bundled(source: str | list[str]) -> bool:
    """Say whether a source is the bundled corpus; an unknown bundled name is an AtlasError."""
    if not isinstance(source, str) or not source.startswith(BUNDLED):
        return False
    if source != BUNDLED + BUNDLED_CORPUS:
        raise AtlasError("no such bundled corpus", where=source, remedy=f"use {BUNDLED}{BUNDLED_CORPUS}")
    return True


def hub_dataset(source: str | list[str]) -> str | None:
    """Return the name of the data set on the hub that a source means, or None: hf:org/name or hf://org/name."""
    if not isinstance(source, str) or not source.startswith(HUB):
        return None
    name = source.removeprefix(HUB).removeprefix("//")
    if not name or len(name.split("/")) > 2 or ".." in name or not all(name.split("/")):
        raise AtlasError("not the name of a data set on the hub", where=source, remedy="use hf:org/name")
    return name


def check_source(source: str | list[str]) -> None:
    """Raise AtlasError for a source that cannot mean anything; nothing is opened."""
    if not is_bundled(source) and not hub_dataset(source):
        for pattern in [source] if isinstance(source, str) else source:
            user_path(pattern)


def matching_files(pattern: str) -> list[Path]:
    """Return the files that a path or glob of the configuration means, sorted; for a folder, all texts below it.

    Of a folder, files that end with .json alone are left out: beside texts, most are settings and lists of files.
    """
    path = user_path(pattern)
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.suffix != ".json" and kind_of(file) and file.is_file())
        return sorted(found)
    if path.is_file():
        return [path]
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    return sorted(Path(match) for match in matches if Path(match).is_file())


def local_files(source: str | list[str]) -> list[str]:
    """Return the local files that a source's text comes from; [] for other sources, or where there are none."""
    if isinstance(source, str) and source.startswith((BUNDLED, HUB)):
        return []
    patterns = [source] if isinstance(source, str) else source
    return sorted({path.as_posix() for pattern in patterns for path in matching_files(pattern)})


def source_state(source: str | list[str]) -> dict[str, str]:
    """Return what changes when a source's text may have changed, without reading all of it.

    Versions of the packages of the bundled corpus; what states_of says of local files. Errors in a source are raised
    when it is read.
    """
    if source == BUNDLED + BUNDLED_CORPUS:
        with suppress(AtlasError):
            return versions()
        return {}
    return states_of(local_files(source))
