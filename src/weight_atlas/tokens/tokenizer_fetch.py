"""Tokenizers without weights are fetched, and described in a manifest."""

from pathlib import Path
from typing import TypedDict

from weight_atlas.checkpoint.listing import CODE_PATTERNS, refuse_pointers
from weight_atlas.checkpoint.manifest import FileRecord, sha256, snapshot
from weight_atlas.checkpoint.source import HubSource, LocalSource
from weight_atlas.errors import AtlasError
from weight_atlas.settings.messages import checked
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.tokens.tokenizer import LONE_SUFFIXES, TOKENIZER_FILES
from weight_atlas.tokens.tokenizer_source import files_here, parsed_source


class TokenizerManifest(TypedDict):
    """A tokenizer as JSON has it; revision: the commit of a hub repository."""

    source: str
    revision: str | None
    files: list[FileRecord]


def fetch_tokenizer(spec: TokenizerSpec) -> TokenizerManifest:
    """Fetch a tokenizer's files if they are not here, and describe them; weights are not downloaded.

    AtlasError where there is no tokenizer.
    """
    parsed = parsed_source(spec.source)
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
        (folder, names), revision = files_here(parsed), None
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


def place_of(source: str) -> Path:
    """Where the tokenizer lies that a text names, as `source` of a TokenizerSpec does; fetched if it is on the hub."""
    spec = checked(TokenizerSpec, {"source": source}, "command line")
    manifest = fetch_tokenizer(spec)
    parsed = parsed_source(source)
    return snapshot(parsed, str(manifest["revision"])) if isinstance(parsed, HubSource) else parsed.folder


def _telling(source: LocalSource | HubSource, names: list[str]) -> list[str]:
    """The names among many files that show that there is a tokenizer; a configuration alone does not."""
    if isinstance(source, LocalSource) and source.folder.is_file():
        return names
    return [name for name in names if not name.endswith(".json") or name in TOKENIZER_FILES]
