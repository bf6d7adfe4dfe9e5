"""One checkpoint: its configuration, the index of its tensors, and lazy reading."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.artifacts import read_json
from weight_atlas.checkpoint.listing import Listing, list_folder
from weight_atlas.checkpoint.quantized.scheme import Settings
from weight_atlas.checkpoint.quantized.store import QuantizedStore
from weight_atlas.checkpoint.safetensors_file import SafetensorsStore
from weight_atlas.checkpoint.tensors import Store, TensorEntry, check_names
from weight_atlas.checkpoint.wrappers import unwrapped
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.settings.models import CheckpointSpec

if TYPE_CHECKING:
    import torch

# The structure of a configuration that the rest of the program relies on: keys, test, wording.
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


class Checkpoint:
    """A model's files, indexed; values are read one tensor at a time.

    folder: that holds them. config: config.json, {} if there is none; of an adapter, its adapter_config.json; of a GGUF
    file, its metadata under the names of config.json. entries: name -> TensorEntry, in file order; a quantized tensor
    has the entry of the tensor that it encodes. consumed: name of a stored scale, zero point or code -> the tensor that
    it is part of, or "". stored: the store of the tensors as they are stored, packed ones in their parts. family: the
    configuration's override of the model family, or None. allow_other: whether tensors that the family does not know
    are allowed. renamed: how the stored names were changed to the model's own, in words, or "". gone: why no values can
    be read, of a model that is here by its headers alone, or "".
    """

    gone = ""

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
        cls, folder: Path, file: str | None = None, *, family: str | None = None, key: str | None = None,
        prefix: str | None = None, allow_other: bool = False,
    ) -> "Checkpoint":  # fmt: skip
        """Index the checkpoint in a local folder.

        file: the checkpoint file chosen in it, where there are several. The rest: see CheckpointSpec. Anything wrong is
        an AtlasError.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise AtlasError("the folder does not exist", where=folder, remedy="check `source` in the configuration")
        spec = CheckpointSpec(source=str(folder), family=family, key=key, prefix=prefix, allow_other=allow_other)
        return cls.indexed(folder, list_folder(folder, file), spec)

    @classmethod
    def indexed(
        cls, folder: Path, listing: Listing, spec: CheckpointSpec, *, over: Callable[[Store], Store] | None = None
    ) -> "Checkpoint":
        """Index the checkpoint that is made of those files of a folder; anything wrong is an AtlasError.

        over: gives the store that values are read from in place of one whose files hold headers alone.
        """
        store, config = _store(folder, listing, spec.key)
        store = over(store) if over else store
        check_names(store.entries, folder)
        store, renamed = unwrapped(store, spec.prefix)
        if listing.format != "gguf":  # which has packed types of its own, unfolded by its reader
            store = QuantizedStore(store, Settings.of(folder, config))
        return cls(folder, config, store, spec.family, allow_other=spec.allow_other, renamed=renamed)

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """One tensor on the CPU, in its stored type; with rows, a range of its first dimension.

        A quantized one comes as the values that the model computes with (bfloat16, float16 or float32).
        Reads the bytes of that range only, as far as the format allows. A tensor with a note, which says why it cannot
        be read, is an AtlasError, and NotApplicable where the model is here by its headers alone.
        """
        self.require_values()
        if (entry := self.entries.get(name)) is None:
            raise AtlasError(f"there is no tensor {name}", where=self.folder)
        if entry.note:
            raise AtlasError(f"tensor {name} cannot be read: {entry.note}", where=self.folder / entry.shard)
        return self._store.read(name, rows)

    def require_values(self) -> None:
        """NotApplicable where the model is here by its headers alone: for those who read its files by themselves."""
        if self.gone:
            raise NotApplicable(self.gone, where=self.folder)


def _store(folder: Path, listing: Listing, key: str | None) -> tuple[Store, dict]:
    """The store for the format of the weight files, and the configuration that goes with it."""
    shards = listing.shards
    if key is not None and listing.format != "pytorch":
        raise AtlasError("`key` is for PyTorch files", where=folder / shards[0], remedy="remove it from this model")
    if listing.format == "gguf":
        from weight_atlas.checkpoint.gguf_file import GgufStore

        gguf = GgufStore(folder, shards)
        return gguf, gguf.config
    adapter = shards[0].startswith("adapter_model.")
    config = _config(folder, listing, "adapter_config.json" if adapter else "config.json")
    if listing.format == "pytorch":
        from weight_atlas.checkpoint.pytorch_file import PickleStore

        return PickleStore(folder, shards, listing.index, key), config
    return SafetensorsStore(folder, shards, listing.index), config


def _config(folder: Path, listing: Listing, name: str) -> dict:
    if name not in listing.side:
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
