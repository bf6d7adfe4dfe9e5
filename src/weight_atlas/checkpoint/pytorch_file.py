"""PyTorch checkpoints (.bin, .pt, .pth, .ckpt): indexed from their archive, then read tensor by tensor."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.checkpoint.archive import Archive, open_archive
from weight_atlas.checkpoint.safetensors_file import read_into, row_range
from weight_atlas.checkpoint.tensors import TensorEntry, check_index, duplicate
from weight_atlas.dtypes import BY_TORCH_NAME, DTYPES
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

_MOST_KEYS = 8
_DEEPEST = 32


@dataclass(frozen=True)
class _Place:
    """Where a tensor's elements lie: in a storage at byte `storage` of the file, `first` elements in, by strides.

    conjugated, negated: the tensor is that of what is stored (torch keeps both as marks of a view).
    """

    storage: int
    first: int
    strides: tuple[int, ...]
    conjugated: bool = False
    negated: bool = False


class PickleStore:
    """The tensors of one or several PyTorch files; entries: name -> TensorEntry.

    key: dotted path to the state dict inside the files, for example "model_state_dict". sparse: the parts of tensors of
    a sparse layout, which are not read as one, where the store is made by `of`: see _sparse_parts.
    """

    def __init__(self, folder: Path, shards: Sequence[str], index: str | None = None, key: str | None = None):
        self.folder = folder
        self.entries: dict[str, TensorEntry] = {}
        self.sparse: dict[str, PickleStore] = {}
        self._places: dict[str, _Place] = {}
        for shard in shards:
            for entry, place in _indexed(folder / shard, key):
                if entry.name in self.entries:
                    raise duplicate(entry.name, self.entries[entry.name].shard, shard, folder)
                self.entries[entry.name], self._places[entry.name] = entry, place
        if index is not None:
            check_index(folder / index, self.entries)

    @classmethod
    def of(cls, path: Path, tensors: dict[str, "torch.Tensor"], archive: Archive) -> "PickleStore":
        """The tensors of one file that are found already."""
        store = cls(path.parent, [])
        for entry, place in _entries(tensors, archive, path):
            store.entries[entry.name], store._places[entry.name] = entry, place
        parts = {name: _sparse_parts(tensor) for name, tensor in tensors.items()}
        store.sparse = {name: cls.of(path, each, archive) for name, each in parts.items() if each}
        return store

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The tensor as stored; with rows, that range of its first dimension, reading only those bytes."""
        import torch

        entry, place = self.entries[name], self._places[name]
        start, _, shape = row_range(entry.shape, rows)
        first = place.first + start * (place.strides[0] if entry.shape else 0)
        # Rows of a transposed view are spread over the storage: what spans them is read, then picked from.
        spanned = _span(shape, place.strides)
        flat = torch.empty(spanned, dtype=getattr(torch, DTYPES[entry.dtype].torch))
        read_into(flat, self.folder / entry.shard, place.storage + first * flat.element_size())
        tensor = flat.as_strided(shape, place.strides).contiguous()
        tensor = tensor.conj_physical() if place.conjugated else tensor
        return tensor.neg() if place.negated else tensor

    def raw(self, name: str) -> bytes:
        """The bytes of a tensor."""
        import torch

        return self.read(name).reshape(-1).view(torch.uint8).numpy().tobytes()


def _span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements from the first to the last of a strided tensor."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _indexed(path: Path, key: str | None) -> Iterator[tuple[TensorEntry, _Place]]:
    archive = open_archive(path)
    return _entries(_state_dict(archive.content, key, path), archive, path)


def _entries(tensors: dict[str, "torch.Tensor"], archive: Archive, path: Path) -> Iterator[tuple[TensorEntry, _Place]]:
    import torch

    names = {getattr(torch, dtype.torch): dtype.name for dtype in BY_TORCH_NAME.values()}
    for name, tensor in tensors.items():
        if note := _unreadable(tensor, names, archive):
            shape = () if tensor.is_nested else tuple(tensor.shape)
            yield TensorEntry(name, str(tensor.dtype), shape, path.name, 0, note=note), _Place(0, 0, ())
            continue
        dtype, place = names[tensor.dtype], _place(tensor, archive)
        # Two tensors at one offset count as the same data, which only holds for plain ones.
        plain = tensor.is_contiguous() and not (place.conjugated or place.negated)
        offset = place.storage + place.first * tensor.element_size() if plain else -1
        yield TensorEntry(name, dtype, tuple(tensor.shape), path.name, tensor.nbytes, offset=offset), place


def _sparse_parts(tensor: "torch.Tensor") -> dict[str, "torch.Tensor"]:
    """The dense tensors that one of a sparse layout consists of, by the names of torch's methods; {} of another.

    torch.sparse_coo: indices (sparse dimensions, n), values (n, dense dimensions ...). The compressed layouts:
    crow_indices and col_indices, or ccol_indices and row_indices, and values (n, block ...).
    """
    import torch

    if tensor.is_nested or tensor.is_meta:
        return {}
    if tensor.layout == torch.sparse_coo:
        return {"indices": tensor._indices(), "values": tensor._values()}
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return {name: getattr(tensor, name)() for name in ("crow_indices", "col_indices", "values")}
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return {name: getattr(tensor, name)() for name in ("ccol_indices", "row_indices", "values")}
    return {}


def _unreadable(tensor: "torch.Tensor", names: dict["torch.dtype", str], archive: Archive) -> str:
    """Why the values of a tensor cannot be read from the file, or ""."""
    import torch

    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in names:
        kind = "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else tensor.layout
        return f"a {kind} tensor of type {tensor.dtype}, which is not read"
    if tensor.is_meta:
        return "holds no data: it was saved from the meta device"
    if tensor.numel() and archive.offset(tensor.untyped_storage()) is None:
        return "holds no data of its own in the file"
    if tensor.nbytes > archive.whole.nbytes():
        return f"repeats {tensor.untyped_storage().nbytes()} bytes to {tensor.nbytes}, more than the whole file has"
    return ""


def _place(tensor: "torch.Tensor", archive: Archive) -> _Place:
    storage = archive.offset(tensor.untyped_storage()) or 0
    return _Place(storage, int(tensor.storage_offset()), tensor.stride(), tensor.is_conj(), tensor.is_neg())


def _state_dict(content: Any, key: str | None, path: Path) -> dict[str, "torch.Tensor"]:
    """The tensors under a key; without one, those at the top, or of the only dictionary inside that has tensors."""
    if key is not None:
        found = _under(content, key)
        if found is None or not (tensors := _tensors(found)):
            raise AtlasError(
                f"no tensors under the key {key!r}", where=path, remedy=f"set `key` to one of: {_offer(content)}"
            )
        return tensors
    if tensors := _tensors(content):
        return tensors
    inside = dict(_dictionaries(content))
    if len(inside) == 1:
        return _tensors(*inside.values())
    if inside:
        what = "several sets of tensors in one file"
        raise AtlasError(what, where=path, remedy=f"set `key` of the model to one of: {_offer(content)}")
    raise AtlasError("no tensors in this file", where=path, remedy="is it a checkpoint of the model?")


def _tensors(content: Any) -> dict[str, "torch.Tensor"]:
    import torch

    if not isinstance(content, dict):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _alone(content: Any) -> dict[str, "torch.Tensor"]:
    """The tensor of a file that holds one and no dictionary."""
    import torch

    return {"tensor": content} if isinstance(content, torch.Tensor) else {}


def _under(content: Any, key: str) -> Any:
    """The value at a dotted path; keys may hold dots themselves, so the longest that fits goes first."""
    if not isinstance(content, dict):
        return None
    if key in content:
        return content[key]
    parts = key.split(".")
    for count in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:count])
        if head in content and (found := _under(content[head], ".".join(parts[count:]))) is not None:
            return found
    return None


def _dictionaries(content: Any) -> Iterator[tuple[str, dict]]:
    """Dotted key and value of every dictionary inside that has tensors of its own, outermost first.

    Each is visited once, however often and from wherever the file refers to it.
    """
    waiting: deque[tuple[tuple[Any, ...], Any]] = deque([((), content)])
    seen = {id(content)}
    while waiting:
        path, outer = waiting.popleft()
        for name, value in outer.items() if isinstance(outer, dict) else ():
            if not isinstance(value, dict) or id(value) in seen or len(path) > _DEEPEST:
                continue
            seen.add(id(value))
            if _tensors(value):
                yield ".".join(map(str, (*path, name))), value
            else:
                waiting.append(((*path, name), value))


def stores_of(path: Path) -> dict[str | None, PickleStore]:
    """The tensors of every dictionary of a PyTorch file, by its dotted key; None for those of the outermost."""
    archive = open_archive(path)
    found: dict[str | None, dict[str, torch.Tensor]] = {}
    if outermost := _tensors(archive.content) or _alone(archive.content):
        found[None] = outermost
    found |= {key: _tensors(value) for key, value in _dictionaries(archive.content)}
    return {key: PickleStore.of(path, tensors, archive) for key, tensors in found.items()}


def _offer(content: Any) -> str:
    found = sorted(((len(_tensors(value)), key) for key, value in _dictionaries(content)), reverse=True)
    listed = [f"{key} ({count} tensors)" for count, key in found[:_MOST_KEYS]]
    return ", ".join(listed) + (" ..." if len(found) > _MOST_KEYS else "") if listed else "none has tensors"
