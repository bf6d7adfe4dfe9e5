"""Tokenizers without weights, as their manifests describe them: where one lies, and what it consists of."""

from pathlib import Path

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.local_files import tokenizer_files
from weight_atlas.checkpoint.manifest import check_size, snapshot
from weight_atlas.checkpoint.source import HubSource, LocalSource, parse_source
from weight_atlas.errors import AtlasError

_RUN_AGAIN = "run again: snakemake --forcerun fetch_tokenizer"


def open_tokenizer(manifest: Path) -> Path:
    """Where the tokenizer of a manifest lies: a folder, or one file. Its files must be as they were."""
    recorded = read_json(manifest)
    try:
        parsed = parsed_source(recorded["source"])
        sizes = {file["name"]: file["size"] for file in recorded["files"]}
        revision = recorded["revision"]
    except (KeyError, TypeError) as error:
        raise AtlasError("not a tokenizer's manifest", where=manifest, remedy=_RUN_AGAIN) from error
    folder = snapshot(parsed, str(revision)) if isinstance(parsed, HubSource) else files_here(parsed)[0]
    for name, size in sizes.items():
        check_size(folder / name, size)
    return folder / next(iter(sizes)) if isinstance(parsed, LocalSource) and parsed.folder.is_file() else folder


def parsed_source(source: str) -> LocalSource | HubSource:
    """What the `source` of a tokenizer means; AtlasError for a file of weights."""
    parsed = parse_source(source)
    if parsed.file is not None:
        raise AtlasError(
            "a file of weights in place of a tokenizer",
            where=source,
            remedy="give the folder or the hub repository, tokenizer.json, or a SentencePiece model",
        )
    return parsed


def files_here(source: LocalSource) -> tuple[Path, list[str]]:
    """The folder of a local tokenizer, and the names of its files in it."""
    paths = [Path(path) for path in tokenizer_files(source.text)]
    return paths[0].parent if paths else source.folder, [path.name for path in paths]
