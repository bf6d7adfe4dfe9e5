"""One checkpoint: its configuration, the index of its tensors, and lazy reading."""

from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.files import is_index, weight_files
from weight_atlas.checkpoint.index import TensorEntry, shards_in
from weight_atlas.checkpoint.source import parse_source, top_files
from weight_atlas.checkpoint.stored import SafetensorsStore
from weight_atlas.errors import AtlasError
from weight_atlas.tables import read_json

if TYPE_CHECKING:
    import torch

_RUN_AGAIN = "run again: snakemake --forcerun fetch_checkpoint"


class Checkpoint:
    """A model's files, indexed; values are read one tensor at a time.

    folder: where they lie. config: config.json, {} if there is none. entries: name -> TensorEntry, in file order.
    family: the configuration's override of the model family, or None.
    """

    def __init__(self, folder: Path, config: dict, store: SafetensorsStore, family: str | None = None):
        self.folder, self.config, self.family = folder, config, family
        self._store = store
        self.entries: dict[str, TensorEntry] = store.entries

    @classmethod
    def from_folder(
        cls, folder: Path, file: str | None = None, *, names: list[str] | None = None, key: str | None = None,
        family: str | None = None,
    ) -> "Checkpoint":  # fmt: skip
        """Index the checkpoint in a folder.

        file: the checkpoint file chosen in it, where there are several. names: the files that belong to it, where not
        all in the folder do. key: dotted path to the state dict inside a pickle. Anything wrong is an AtlasError.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise AtlasError("the folder does not exist", where=folder, remedy="check `source` in the configuration")
        names = top_files(folder) if names is None else names
        shards = weight_files(names, where=folder, chosen=file, shards_in=lambda index: shards_in(folder, index))
        return cls(folder, _config(folder, names), _store(folder, names, shards, key), family)

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """One tensor on the CPU, in its stored type; with rows, a range of its first dimension.

        Reads the bytes of that range only. A tensor that has a note instead of values is an AtlasError.
        """
        if (entry := self.entries.get(name)) is None:
            raise AtlasError(f"there is no tensor {name}", where=self.folder)
        if entry.note:
            raise AtlasError(f"tensor {name} cannot be read: {entry.note}", where=self.folder / entry.shard)
        return self._store.read(name, rows)


def open_checkpoint(manifest_path: Path) -> Checkpoint:
    """Open the checkpoint that a manifest describes; its files must be as they were when the manifest was written."""
    manifest = read_json(manifest_path)
    try:
        source, files = parse_source(manifest["source"]), manifest["files"]
        sizes = {file["name"]: file["size"] for file in files}
    except (KeyError, TypeError) as error:
        raise AtlasError("not a checkpoint manifest", where=manifest_path, remedy=_RUN_AGAIN) from error
    folder = source.folder
    if folder is None:
        from weight_atlas.checkpoint.hub import cached_folder

        folder = cached_folder(source.repo, manifest["revision"])
    for name, size in sizes.items():
        check_size(folder / name, size)
    return Checkpoint.from_folder(
        folder, source.file, names=sorted(sizes), key=manifest.get("key"), family=manifest.get("family")
    )


def check_size(path: Path, size: int) -> None:
    """AtlasError unless the file is there with the size that the manifest recorded."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise AtlasError("a file of the checkpoint is gone", where=path, remedy=_RUN_AGAIN) from error
    if found != size:
        raise AtlasError(f"the file has changed: {found} bytes, was {size}", where=path, remedy=_RUN_AGAIN)


def _config(folder: Path, names: list[str]) -> dict:
    if "config.json" not in names:
        return {}
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise AtlasError("config.json holds no JSON object", where=folder / "config.json", remedy="restore the file")
    return config


def _store(folder: Path, names: list[str], shards: list[str], key: str | None) -> SafetensorsStore:
    indices = [name for name in names if is_index(name) and len(shards) > 1]
    named = [name for name in indices if set(shards) == set(shards_in(folder, name))]
    return SafetensorsStore(folder, shards, named[0] if named else None)
