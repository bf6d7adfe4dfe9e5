"""The tensors of a quantized checkpoint as the model sees them: packed values, scales and zero points as one."""

from dataclasses import replace
from typing import TYPE_CHECKING

from weight_atlas.checkpoint.quantized import compressed_tensors, fp4, fp8, gptq, nf4
from weight_atlas.checkpoint.quantized.scheme import Packed, Settings
from weight_atlas.checkpoint.safetensors_file import row_range
from weight_atlas.checkpoint.tensors import Store, TensorEntry
from weight_atlas.errors import AtlasError, first_line

if TYPE_CHECKING:
    import torch

# In this order: a scheme sees only what those before it left.
_SCHEMES = (nf4, gptq, compressed_tensors, fp4, fp8)
# Of activations, caches and kernels: no part of a weight's values.
_AUXILIARY = (
    ".input_scale", ".output_scale", ".activation_scale", ".input_zero_point", ".input_global_scale", ".weight_format",
    ".k_scale", ".v_scale", ".q_scale", ".prob_output_scale", ".input_scale_ub", "_input_scale",
)  # fmt: skip
_INTEGERS = ("U8", "I8", "U16", "I16", "U32", "I32")


class QuantizedStore:
    """A store whose packed tensors appear as the ones that they encode, dequantized as they are read.

    entries: name -> TensorEntry, where packed ones carry their scheme as dtype, all their stored bytes, and the stored
    tensors as parts. consumed: stored name -> name of the tensor that it is part of ("" for scales of activations).
    stored: the store beneath.
    """

    def __init__(self, store: Store, settings: Settings):
        self.folder = store.folder
        self.stored = store
        self._packed: dict[str, Packed] = {}
        self.consumed: dict[str, str] = {}
        for scheme in _SCHEMES:
            for packed in scheme.find(store, settings, set(self.consumed)):
                self._packed[packed.name] = packed
                self.consumed |= dict.fromkeys(packed.parts, packed.name)
        if settings.method or self._packed:
            self.consumed |= {name: "" for name in store.entries if name.endswith(_AUXILIARY)}
        self.entries = self._entries(settings)

    def _entries(self, settings: Settings) -> dict[str, TensorEntry]:
        entries = {}
        for name, entry in self.stored.entries.items():
            if name not in self.consumed:
                strange = settings.method and entry.dtype in _INTEGERS and len(entry.shape) > 1 and not entry.note
                note = f"packed by method {settings.method}, which is not read" if strange else entry.note
                entries[name] = entry if note == entry.note else replace(entry, note=note)
            elif (logical := self.consumed[name]) and name == self._packed[logical].parts[0]:
                entries[logical] = self._logical(self._packed[logical], entry)
        return entries

    def _logical(self, packed: Packed, first: TensorEntry) -> TensorEntry:
        stored = sum(self.stored.entries[part].bytes for part in packed.parts)
        return TensorEntry(
            packed.name, packed.dtype, packed.shape, first.shard, stored, parts=packed.parts, note=packed.note,
            remark=packed.remark,
        )  # fmt: skip

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The values of a tensor in the type that the model computes in; one that is not packed, as stored."""
        if name not in self._packed:
            return self.stored.read(name, rows)
        packed = self._packed[name]
        start, _, shape = row_range(packed.shape, rows)
        if 0 in shape:
            import torch

            return torch.empty(shape)
        if packed.values is None:
            raise AtlasError(f"tensor {name} cannot be read: {packed.note}", where=self.folder)
        try:
            return packed.values(start, start + shape[0])
        except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
            # Shapes or indices of the parts contradict each other.
            raise AtlasError(
                f"the parts of {name} do not fit together: {first_line(error)[:200]}",
                where=self.folder / self.entries[name].shard,
                remedy="get all files of the checkpoint again, from one version of it",
            ) from error

    def raw(self, name: str) -> bytes:
        """The bytes of a stored tensor."""
        return self.stored.raw(name)
