"""One checkpoint: its configuration, the index of its tensors, and lazy reading."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.files import (
    CODE_PATTERNS,
    PICKLE_SUFFIXES,
    WeightFiles,
    check_file_names,
    refuse_pointers,
    side_files,
    weight_files,
)
from weight_atlas.checkpoint.quantized.scheme import Settings, Store
from weight_atlas.checkpoint.quantized.store import QuantizedStore
from weight_atlas.checkpoint.safetensors_file import SafetensorsStore
from weight_atlas.checkpoint.safetensors_header import TensorEntry, check_names, shards_in
from weight_atlas.checkpoint.source import parse_source, top_files
from weight_atlas.checkpoint.wrappers import unwrapped
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

# What the rest of the program takes for granted about a configuration: keys, test, wording.
_STRUCTURE: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("architectures",),
        lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
        "a list of names",
    ),
    (("model_type", "peft_type"), lambda value: isinstance(value, str), "a name"),
    (
        (
            "text_config",
            "llm_config",
            "language_config",
            "thinker_config",
            "quantization_config",
            "compression_config",
            "auto_map",
        ),
        lambda value: isinstance(value, dict),
        "an object",
    ),
)
_RUN_AGAIN = "run again: snakemake --forcerun fetch_checkpoint"


class Checkpoint:
    """A model's files, indexed; values are read one tensor at a time.

    folder: where they lie. config: config.json, {} if there is none; of an adapter, its adapter_config.json; of a GGUF
    file, its metadata under the names of config.json. entries: name -> TensorEntry, in file order; a quantized tensor
    stands there as what it stands for. consumed: name of a stored scale, zero point or code -> the tensor that it is
    part of, or "". stored: the store of the tensors as they are stored, packed ones in their parts. family: the
    configuration's override of the model family, or None. allow_other: whether tensors that the family does not know
    are allowed. renamed: in words, what was done to the stored names to make them the model's own, or "".
    """

    def __init__(
        self, folder: Path, config: dict, store: Store, family: str | None = None, *, allow_other: bool = False,
        renamed: str = "",
    ):  # fmt: skip
        self.folder, self.config, self.family = folder, config, family
        self.allow_other, self.renamed = allow_other, renamed
        self._store = store
        self.stored: Store = getattr(store, "stored", store)
        self.entries: dict[str, TensorEntry] = store.entries
        self.consumed: dict[str, str] = getattr(store, "consumed", {})

    @classmethod
    def from_folder(
        cls, folder: Path, file: str | None = None, *, names: list[str] | None = None, key: str | None = None,
        family: str | None = None, prefix: str | None = None, allow_other: bool = False,
    ) -> "Checkpoint":  # fmt: skip
        """Index the checkpoint in a folder.

        file: the checkpoint file chosen in it, where there are several. names: the files that belong to it, where not
        all in the folder do. key: dotted path to the state dict inside a pickle. prefix: what stands before the
        model's names (see wrappers.py). Anything wrong is an AtlasError.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise AtlasError("the folder does not exist", where=folder, remedy="check `source` in the configuration")
        names = top_files(folder) if names is None else names
        weights = weight_files(names, where=folder, chosen=file, shards_in=lambda index: shards_in(folder, index))
        refuse_pointers(folder, [*weights.all, *side_files(names, CODE_PATTERNS)])
        check_file_names(weights.all, where=folder)
        stored, config = _opened(folder, names, weights, key)
        check_names(stored.entries, folder)
        stored, renamed = unwrapped(stored, prefix)
        # GGUF has its own packed types, which its reader unfolds.
        packed = weights.shards[0].endswith(".gguf")
        store = stored if packed else QuantizedStore(stored, Settings.of(folder, config))
        return cls(folder, config, store, family, allow_other=allow_other, renamed=renamed)

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """One tensor on the CPU, in its stored type; with rows, a range of its first dimension.

        A quantized one comes as the values that the model computes with (bfloat16, float16 or float32).
        Reads the bytes of that range only, as far as the format allows. A tensor with a note, which says why it cannot
        be read, is an AtlasError.
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
    given = {name: manifest.get(name) for name in ("key", "family", "prefix")}
    return Checkpoint.from_folder(
        folder, source.file, names=sorted(sizes), **given, allow_other=bool(manifest.get("allow_other"))
    )


def check_size(path: Path, size: int) -> None:
    """AtlasError unless the file is there with the size that the manifest recorded."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise AtlasError("a file of the checkpoint is gone", where=path, remedy=_RUN_AGAIN) from error
    if found != size:
        raise AtlasError(f"the file has changed: {found} bytes, was {size}", where=path, remedy=_RUN_AGAIN)


def _opened(folder: Path, names: list[str], weights: WeightFiles, key: str | None) -> tuple[Store, dict]:
    """The store for the format of the weight files, and the configuration that goes with it."""
    shards = weights.shards
    pickles = all(shard.endswith(PICKLE_SUFFIXES) for shard in shards)
    if key is not None and not pickles:
        raise AtlasError("`key` is for PyTorch files", where=folder / shards[0], remedy="remove it from this model")
    if all(shard.endswith(".gguf") for shard in shards):
        from weight_atlas.checkpoint.gguf_file import GgufStore

        store = GgufStore(folder, shards)
        return store, store.config
    config = _config(folder, names, "adapter_config.json" if shards[0].startswith("adapter_model.") else "config.json")
    if pickles:
        from weight_atlas.checkpoint.pytorch_file import PickleStore

        return PickleStore(folder, shards, weights.index, key), config
    return SafetensorsStore(folder, shards, weights.index), config


def _config(folder: Path, names: list[str], name: str) -> dict:
    if name not in names:
        return {}
    config = read_json(folder / name)
    if not isinstance(config, dict):
        raise AtlasError(f"{name} holds no JSON object", where=folder / name, remedy="restore the file")
    for keys, kind, said in _STRUCTURE:
        for key in keys:
            if (value := config.get(key)) is not None and not kind(value):
                what = f"{key} must be {said}, not {str(value)[:100]}"
                raise AtlasError(what, where=folder / name, remedy=f"restore {key} as the model's makers gave it")
    return config
