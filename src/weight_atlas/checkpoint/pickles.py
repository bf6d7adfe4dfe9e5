"""PyTorch checkpoints (.bin, .pt, .pth): indexed by torch's restricted loader, then read tensor by tensor.

The archive is a ZIP file that holds one pickle and, stored as they are, the bytes of every storage. torch.load with
weights_only under FakeTensorMode builds the tensors without data and notes where their storages lie in the file
(torch documentation, notes on serialization); from there on it is plain reads, as with safetensors.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.checkpoint.index import TensorEntry, check_index, duplicate
from weight_atlas.checkpoint.stored import TORCH_NAMES, read_into, row_range
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    import torch

_MOST_KEYS = 8


@dataclass(frozen=True)
class _Place:
    """Where a tensor's elements lie: in a storage at byte `storage` of the file, `first` elements in, by strides."""

    storage: int
    first: int
    strides: tuple[int, ...]


class PickleStore:
    """The tensors of one or several PyTorch files; entries: name -> TensorEntry.

    key: dotted path to the state dict inside the files, for example "model_state_dict".
    """

    def __init__(self, folder: Path, shards: list[str], index: str | None = None, key: str | None = None):
        self.folder = folder
        self.entries: dict[str, TensorEntry] = {}
        self._places: dict[str, _Place] = {}
        for shard in shards:
            for entry, place in _indexed(folder / shard, key):
                if entry.name in self.entries:
                    raise duplicate(entry.name, self.entries[entry.name].shard, shard, folder)
                self.entries[entry.name], self._places[entry.name] = entry, place
        if index is not None:
            check_index(folder / index, self.entries)

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The tensor as stored; with rows, that range of its first dimension, reading only those bytes."""
        import torch

        entry, place = self.entries[name], self._places[name]
        start, _, shape = row_range(entry.shape, rows)
        first = place.first + start * (place.strides[0] if entry.shape else 0)
        # Rows of a transposed view are spread over the storage: what spans them is read, then picked from.
        spanned = _span(shape, place.strides)
        flat = torch.empty(spanned, dtype=getattr(torch, TORCH_NAMES[entry.dtype]))
        read_into(flat, self.folder / entry.shard, place.storage + first * flat.element_size())
        return flat.as_strided(shape, place.strides).contiguous()

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
    import torch

    names = {getattr(torch, name): code for code, name in TORCH_NAMES.items()}
    for name, tensor in _state_dict(_without_data(path), key, path).items():
        note = ""
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in names:
            note = f"a {tensor.layout} tensor of type {tensor.dtype}, which is not read"
            yield TensorEntry(name, str(tensor.dtype), tuple(tensor.shape), path.name, 0, note=note), _Place(0, 0, ())
            continue
        dtype, place = names[tensor.dtype], _place(tensor)
        offset = place.storage + place.first * tensor.element_size()
        yield TensorEntry(name, dtype, tuple(tensor.shape), path.name, tensor.nbytes, offset=offset), place


def _place(tensor: "torch.Tensor") -> _Place:
    return _Place(tensor.untyped_storage()._checkpoint_offset or 0, tensor.storage_offset(), tensor.stride())


def _without_data(path: Path) -> Any:
    """What a PyTorch file holds, its tensors without data; whatever would run code is refused."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    _check_archive(path)
    try:
        with FakeTensorMode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error):  # so the restricted loader words its refusals
            raise _wants_code(path, re.search(r"GLOBAL ([\w.]+)", str(error))) from error
        raise AtlasError(
            f"not a readable PyTorch file: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
            where=path,
            remedy="download or copy the file again",
        ) from error


def _wants_code(path: Path, what: re.Match | None) -> AtlasError:
    return AtlasError(
        f"the file wants to run code when it is opened{f' ({what[1]})' if what else ''}: refused",
        where=path,
        remedy="take a safetensors version of the model; or, if you trust the file's maker, convert it once in an "
        "environment of theirs: safetensors.torch.save_file(torch.load(FILE, weights_only=False), 'model.safetensors')",
    )


def _check_archive(path: Path) -> None:
    try:
        with path.open("rb") as file:
            begin = file.read(4)
        if begin[:2] != b"PK":
            raise _not_an_archive(path, begin)
        with zipfile.ZipFile(path) as archive:
            order = [name for name in archive.namelist() if name.endswith("/byteorder")]
            big = bool(order) and archive.read(order[0]) == b"big"
            squeezed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error
    except zipfile.BadZipFile as error:
        remedy = "download or copy the file again"
        raise AtlasError("truncated or damaged: the archive has no directory", where=path, remedy=remedy) from error
    if big or squeezed:
        what = "written on a big-endian machine" if big else "a compressed archive"
        raise AtlasError(f"{what}, which is not read", where=path, remedy=_CONVERT)


_CONVERT = (
    "convert it once, in a process with room for all of it: python -c "
    "\"import torch; torch.save(torch.load('FILE', map_location='cpu', weights_only=True), 'NEW')\""
)


def _not_an_archive(path: Path, begin: bytes) -> AtlasError:
    if begin[:1] == b"\x80":
        # Such a file cannot be indexed without reading all of it.
        return AtlasError("a PyTorch file in the format from before version 1.6", where=path, remedy=_CONVERT)
    return AtlasError("not a PyTorch file", where=path, remedy="download or copy the file again")


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


def _dictionaries(content: Any, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """Dotted key and value of every dictionary inside that has tensors of its own, outermost first."""
    if not isinstance(content, dict):
        return
    for name, value in content.items():
        if isinstance(value, dict):
            if _tensors(value):
                yield f"{prefix}{name}", value
            else:
                yield from _dictionaries(value, f"{prefix}{name}.")


def _offer(content: Any) -> str:
    found = sorted(((len(_tensors(value)), key) for key, value in _dictionaries(content)), reverse=True)
    listed = [f"{key} ({count} tensors)" for count, key in found[:_MOST_KEYS]]
    return ", ".join(listed) + (" ..." if len(found) > _MOST_KEYS else "") if listed else "none has tensors"
