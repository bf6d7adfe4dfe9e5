"""GGUF files (llama.cpp): indexed and dequantized by the gguf package, tensor by tensor and a few rows at a time.

GGUF counts dimensions from the innermost; shapes here are the usual way round, (out, in). The package believes every
count that a header holds, so that it reads headers within bounds here.
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf import GGUFReader, GGUFValueType

from weight_atlas.checkpoint.safetensors_file import read_into, row_range
from weight_atlas.checkpoint.tensors import TensorEntry, duplicate
from weight_atlas.dtypes import DTYPES
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

_ELEMENTS_AT_ONCE = 1 << 22
_AGAIN = "download or copy the file again"
# GGUF's names below "<architecture>." -> the names that config.json uses.
_CONFIG_KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "expert_feed_forward_length": "moe_intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
    "rope.freq_base": "rope_theta",
}


class GgufStore:
    """The tensors of one or several GGUF files, under their GGUF names; entries: name -> TensorEntry.

    config: the metadata, under the names of config.json where there is one; all of it under "gguf". Its architectures
    are ["GGUF"], since the tensors follow GGUF's names whatever the model.
    """

    def __init__(self, folder: Path, shards: Sequence[str]):
        self.folder = folder
        self.entries: dict[str, TensorEntry] = {}
        self.config: dict[str, Any] = {}
        for shard in shards:
            reader = _reader(folder / shard)
            if not self.config:
                self.config = _config(_metadata(reader, folder / shard), folder / shard)
            for tensor in reader.tensors:
                if tensor.name in self.entries:
                    raise duplicate(tensor.name, self.entries[tensor.name].shard, shard, folder)
                self.entries[tensor.name] = _entry(tensor, shard)
        embedding = self.entries.get("token_embd.weight")
        if embedding is not None and len(embedding.shape) == 2:
            self.config.setdefault("vocab_size", embedding.shape[0])
            self.config["tie_word_embeddings"] = "output.weight" not in self.entries

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The tensor, a packed one unfolded to float32; with rows, that range of its first dimension."""
        import torch

        entry = self.entries[name]
        start, _, shape = row_range(entry.shape, rows)
        skipped = start * (entry.bytes // entry.shape[0]) if start else 0
        if entry.dtype in DTYPES:  # the others are packed, and unfolded to float32
            tensor = torch.empty(shape, dtype=getattr(torch, DTYPES[entry.dtype].torch))
            read_into(tensor, self.folder / entry.shard, entry.offset + skipped)
            return tensor
        if len(shape) == 1:  # a block of a vector holds several of its rows
            return self._unfolded(entry, entry.shape, 0)[start : start + shape[0]]
        return self._unfolded(entry, shape, skipped)

    def _unfolded(self, entry: TensorEntry, shape: tuple[int, ...], skipped: int) -> "torch.Tensor":
        """Values of a packed tensor as float32, in that shape, from so many bytes after its first one on."""
        import torch

        tensor = torch.empty(shape, dtype=torch.float32)
        if not tensor.numel():
            return tensor
        flat, width = tensor.view(-1, shape[-1]), shape[-1]
        packed = entry.bytes // math.prod(entry.shape[:-1])  # bytes of a line of the last dimension
        lines = max(1, _ELEMENTS_AT_ONCE // width)
        for begin in range(0, len(flat), lines):
            part = flat[begin : begin + lines]
            stored = torch.empty((len(part), packed), dtype=torch.uint8)
            read_into(stored, self.folder / entry.shard, entry.offset + skipped + begin * packed)
            part.copy_(torch.from_numpy(_dequantized(stored.numpy(), entry.dtype)))
        return tensor

    def raw(self, name: str) -> bytes:
        """The stored bytes of a tensor."""
        import torch

        entry = self.entries[name]
        stored = torch.empty(entry.bytes, dtype=torch.uint8)
        read_into(stored, self.folder / entry.shard, entry.offset)
        return stored.numpy().tobytes()


def _reader(path: Path):
    from weight_atlas.checkpoint.gguf_file import BoundedReader

    try:
        reader = BoundedReader(path)
        if reader.byte_order != "I":
            raise ValueError("its byte order is not this machine's")
        size = path.stat().st_size
        if any(int(tensor.data_offset) < reader.data_offset for tensor in reader.tensors):
            raise ValueError("a tensor that begins before the data")
        if sum(int(tensor.n_bytes) for tensor in reader.tensors) > size:
            raise ValueError(f"its tensors claim more than its {size} bytes")
        ends = [(int(tensor.data_offset) + int(tensor.n_bytes), tensor.name) for tensor in reader.tensors]
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error
    except Exception as error:
        raise AtlasError(
            f"not a readable GGUF file, or truncated: {type(error).__name__}: {error}",
            where=path,
            remedy=_AGAIN,
        ) from error
    if ends and max(ends)[0] > size:
        what = f"truncated: tensor {max(ends)[1]} ends at byte {max(ends)[0]} of {size}"
        raise AtlasError(what, where=path, remedy=_AGAIN)
    return reader


def _entry(tensor: Any, shard: str) -> TensorEntry:
    dtype, shape = tensor.tensor_type.name, tuple(int(size) for size in reversed(tensor.shape))
    note = (
        "" if dtype in DTYPES or _can_dequantize(dtype) else f"GGUF type {dtype}, which the gguf package cannot unfold"
    )
    return TensorEntry(tensor.name, dtype, shape, shard, int(tensor.n_bytes), offset=int(tensor.data_offset), note=note)


@cache
def _can_dequantize(dtype: str) -> bool:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        _dequantized(np.zeros((1, GGML_QUANT_SIZES[GGMLQuantizationType[dtype]][1]), dtype=np.uint8), dtype)
    except NotImplementedError:
        return False
    return True


def _dequantized(stored: np.ndarray, dtype: str) -> np.ndarray:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):
        return dequantize(stored, GGMLQuantizationType[dtype])


def _metadata(reader: Any, path: Path) -> dict[str, Any]:
    """Scalar metadata, and lists of numbers of at most a few per layer; vocabularies are left out."""
    found = {}
    for name, field in reader.fields.items():
        if name.startswith(("GGUF.", "tokenizer.")) or len(field.data) > 4096:
            continue
        try:
            value = field.contents()
        except (ValueError, IndexError, TypeError) as error:
            raise AtlasError(f"metadata {name} is not readable: {error}", where=path, remedy=_AGAIN) from error
        found[name] = value.item() if isinstance(value, np.generic) else value
    return found


def _config(metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    architecture = metadata.get("general.architecture", "")
    if not isinstance(architecture, str):
        raise AtlasError(f"general.architecture is no text: {architecture}", where=path, remedy=_AGAIN)
    config: dict[str, Any] = {"architectures": ["GGUF"], "model_type": architecture, "gguf": metadata}
    for name, key in _CONFIG_KEYS.items():
        if (value := metadata.get(f"{architecture}.{name}")) is not None:
            config[key] = value
    if "num_attention_heads" in config:
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
    return config


# Vocabularies have less than a million entries, models less than a hundred thousand tensors of at most four dimensions.
_MOST_ELEMENTS = 1 << 23
_MOST_TENSORS = 1 << 20
_MOST_DIMENSIONS = 8


class BoundedReader(GGUFReader):
    """A GGUFReader that raises ValueError where a count cannot be true, instead of going on beyond the file's end."""

    _elements = _tensors = 0

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < count:
            raise ValueError(f"{count} values at byte {offset} reach beyond the end")
        return found

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type == GGUFValueType.ARRAY:
            count = int(self._get(orig_offs + 4, "u8")[0])
            self._elements += count
            if self._elements > _MOST_ELEMENTS:
                raise ValueError(f"an array that claims {count} elements")
        return super()._get_field_parts(orig_offs, raw_type)

    def _get_tensor_info_field(self, orig_offs: int) -> Any:
        field = super()._get_tensor_info_field(orig_offs)
        dimensions, self._tensors = len(field.parts[3]), self._tensors + 1
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"a tensor that claims {dimensions} dimensions")
        if self._tensors > _MOST_TENSORS:
            raise ValueError(f"more than {_MOST_TENSORS} tensors")
        return field
