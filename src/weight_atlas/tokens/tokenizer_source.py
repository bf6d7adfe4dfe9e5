"""Tokenizers without weights: where one lies, what it consists of, and its manifest."""

from pathlib import Path
from typing import TypedDict

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.listing import CODE_PATTERNS, refuse_pointers
from weight_atlas.checkpoint.manifest import FileRecord, check_size, sha256, snapshot
from weight_atlas.checkpoint.source import HubSource, LocalSource, parse_source, tokenizer_files
from weight_atlas.errors import AtlasError
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.tokens.tokenizer import LONE_SUFFIXES, TOKENIZER_FILES

_RUN_AGAIN = "run again: snakemake --forcerun fetch_tokenizer"


class TokenizerManifest(TypedDict):
    """A tokenizer as JSON has it; revision: the commit of a hub repository."""

    source: str
    revision: str | None
    files: list[FileRecord]


def fetch_tokenizer(spec: TokenizerSpec) -> TokenizerManifest:
    """Fetch a tokenizer's files if they are not here, and describe them; weights are not downloaded.

    AtlasError where there is no tokenizer.
    """
    parsed = _parsed(spec.source)
    if isinstance(parsed, HubSource):
        from weight_atlas.checkpoint.hub import download_side_files
        from weight_atlas.checkpoint.snapshots import fetch_side_files

        code, fetch = CODE_PATTERNS if spec.trust_remote_code else (), download_side_files
        if parsed.scheme != "hf":
            fetch = fetch_side_files
        folder, names, revision = fetch(parsed, spec.revision, code=code)
    else:
        if spec.revision is not None:
            raise AtlasError("`revision` is for tokenizers on the hub", where=spec.source, remedy="remove it")
        (folder, names), revision = _here(parsed), None
        refuse_pointers(folder, names)
    if not any(name in TOKENIZER_FILES or Path(name).suffix in LONE_SUFFIXES for name in _telling(parsed, names)):
        raise AtlasError(
            "no tokenizer here",
            where=spec.source,
            remedy=f"give a folder with one of {', '.join(TOKENIZER_FILES)}, or such a file",
        )
    files: list[FileRecord] = [
        {"name": name, "size": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names
    ]
    return {"source": spec.source, "revision": revision, "files": files}


def open_tokenizer(manifest: Path) -> Path:
    """Where the tokenizer of a manifest lies: a folder, or one file. Its files must be as they were."""
    recorded = read_json(manifest)
    try:
        parsed = _parsed(recorded["source"])
        sizes = {file["name"]: file["size"] for file in recorded["files"]}
        revision = recorded["revision"]
    except (KeyError, TypeError) as error:
        raise AtlasError("not a tokenizer's manifest", where=manifest, remedy=_RUN_AGAIN) from error
    folder = snapshot(parsed, str(revision)) if isinstance(parsed, HubSource) else _here(parsed)[0]
    for name, size in sizes.items():
        check_size(folder / name, size)
    return folder / next(iter(sizes)) if isinstance(parsed, LocalSource) and parsed.folder.is_file() else folder


def place_of(source: str) -> Path:
    """Where the tokenizer lies that a text names, as `source` of a TokenizerSpec does; fetched if it is on the hub."""
    spec = TokenizerSpec(source=source)
    manifest = fetch_tokenizer(spec)
    parsed = _parsed(source)
    return snapshot(parsed, str(manifest["revision"])) if isinstance(parsed, HubSource) else parsed.folder


def _parsed(source: str) -> LocalSource | HubSource:
    parsed = parse_source(source)
    if parsed.file is not None:
        raise AtlasError(
            "a file of weights in place of a tokenizer",
            where=source,
            remedy="give the folder or the hub repository, tokenizer.json, or a SentencePiece model",
        )
    return parsed


def _here(source: LocalSource) -> tuple[Path, list[str]]:
    """The folder of a local tokenizer, and the names of its files in it."""
    paths = [Path(path) for path in tokenizer_files(source.text)]
    return paths[0].parent if paths else source.folder, [path.name for path in paths]


def _telling(source: LocalSource | HubSource, names: list[str]) -> list[str]:
    """The names among many files that show that there is a tokenizer; a configuration alone does not."""
    if isinstance(source, LocalSource) and source.folder.is_file():
        return names
    return [name for name in names if not name.endswith(".json") or name in TOKENIZER_FILES]
