"""The archive of a PyTorch file: what it holds, opened by torch's restricted loader without reading the tensors' data.

The archive is a ZIP file with one pickle and, stored as they are, the bytes of every storage (torch documentation,
notes on serialization). The pickle's tensors are built on a map of the file: each storage at the offset that the
archive's own directory gives, so that torch itself checks shapes, strides and offsets against the storage's bounds, and
no page of data is touched.
"""

import io
import re
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from weight_atlas.errors import MOST_AT_ONCE, AtlasError

if TYPE_CHECKING:
    import torch

_MOST_ELEMENTS = 10_000_000
_AGAIN = "download or copy the file again"
_CONVERT = (
    "convert it once, in a process with room for all of it: python -c "
    "\"import torch; torch.save(torch.load('FILE', map_location='cpu', weights_only=True), 'NEW')\""
)
# How torch's restricted loader words its refusals; everything else that it raises is damage.
_REFUSALS = re.compile(
    r"GLOBAL (?P<name>[\w.]+)|unrecognized function (?P<function>.+)|only (create new object|build) |must be imported"
)


_BEYOND = re.compile("not resizable|out of bounds for storage|size calculation overflowed")


@dataclass(frozen=True)
class Archive:
    """content: what the pickle holds, its tensors on a map of the file. whole: that map, for as long as they live.

    records: address of a storage -> its offset in the file, in bytes.
    """

    content: Any
    whole: "torch.UntypedStorage"
    records: dict[int, int]

    def offset(self, storage: "torch.UntypedStorage") -> int | None:
        """Where the bytes of a storage lie in the file; None for one that is no record of it."""
        return self.records.get(storage.data_ptr())


def open_archive(path: Path) -> Archive:
    """Open a PyTorch file; whatever would run code, is damaged or reaches beyond its storage is an AtlasError."""
    import torch

    _check(path)
    try:
        reader: Any = torch._C.PyTorchFileReader(str(path))
        if reader.has_record("constants.pkl"):
            raise _wants_code(path, "a TorchScript program")
        mapped = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
        whole = cast("torch.UntypedStorage", mapped)
        storages = _Storages(path, reader, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = _load(reader.get_record("data.pkl"), storages)
    except AtlasError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [""]
        if (match := _REFUSALS.search(str(error))) and _as_written(path):
            raise _wants_code(path, match["name"] or match["function"]) from error
        if _BEYOND.search(str(error)):
            raise AtlasError(
                f"a tensor reaches beyond its storage: {lines[0][:200]}", where=path, remedy=_AGAIN
            ) from error
        what = f"not a readable PyTorch file, or damaged: {type(error).__name__}: {lines[0][:200]}"
        raise AtlasError(what, where=path, remedy=_AGAIN) from error
    return Archive(content, whole, storages.offsets)


class _Storages:
    """The storages of one archive by key, each a stretch of the file's map."""

    def __init__(self, path: Path, reader: Any, whole: "torch.UntypedStorage"):
        self._path, self._reader, self._whole = path, reader, whole
        self._found: dict[str, torch.TypedStorage] = {}
        self.offsets: dict[int, int] = {}

    def of(self, saved: tuple) -> "torch.TypedStorage":
        """The storage that the pickle calls ("storage", type, key, device, elements)."""
        import torch

        _, kind, key, _, count = saved
        dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
        size = count * torch._utils._element_size(dtype)
        if key not in self._found:
            record = f"data/{key}"
            stored = self._reader.get_record_size(record)
            offset = self._reader.get_record_offset(record)
            if size != stored or offset + stored > self._whole.nbytes():
                what = f"storage {key} should have {size} bytes, its record has {stored}"
                raise AtlasError(what, where=self._path, remedy=_AGAIN)
            part = self._whole[offset : offset + size]
            self.offsets[part.data_ptr()] = offset
            self._found[key] = torch.storage.TypedStorage(wrap_storage=part, dtype=dtype, _internal=True)
        return self._found[key]


class _Memo(dict):
    """The unpickler's memory of objects. Tuples of tuples of ... that a few bytes double again and again are refused:
    as keys they would be hashed element by element, for ever."""

    def __init__(self):
        super().__init__()
        self._sizes: dict[int, tuple[int, tuple]] = {}  # with the tuple itself, so that its id stays its own

    def __setitem__(self, place: int, value: Any) -> None:
        if isinstance(value, tuple):
            size = 1 + sum(map(self._size, value))
            if size > _MOST_ELEMENTS:
                raise ValueError(f"a tuple of more than {_MOST_ELEMENTS} elements")
            self._sizes[id(value)] = size, value
        super().__setitem__(place, value)

    def _size(self, value: Any) -> int:
        if not isinstance(value, tuple):
            return 1
        known = self._sizes.get(id(value))
        return known[0] if known else 1 + sum(map(self._size, value))


def _load(pickle: bytes, storages: _Storages) -> Any:
    """What a pickle holds, by the loader behind torch.load(weights_only=True)."""
    import torch
    from torch._weights_only_unpickler import Unpickler

    unpickler: Any = Unpickler(io.BytesIO(pickle), encoding="utf-8")
    unpickler.persistent_load, unpickler.memo = storages.of, _Memo()
    try:
        return unpickler.load()
    finally:
        # torch.load would check them by reading them; here nothing reads sparse tensors.
        torch._utils._sparse_tensors_to_validate.clear()


def _check(path: Path) -> None:
    """AtlasError unless the file is an archive whose members lie in it as they are."""
    try:
        with path.open("rb") as file:
            begin = file.read(4)
        if begin[:2] != b"PK":
            raise _not_an_archive(path, begin)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            order = [member for member in members if member.filename.endswith("/byteorder")]
            big = bool(order) and order[0].file_size < 16 and archive.read(order[0]) == b"big"
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, RuntimeError) as error:
        raise AtlasError(
            f"truncated or damaged: the archive has no directory ({error})", where=path, remedy=_AGAIN
        ) from error
    if big:
        raise AtlasError("written on a big-endian machine, which is not read", where=path, remedy=_CONVERT)


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    names = {member.filename for member in members}
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise AtlasError("a compressed archive, which is not read", where=path, remedy=_CONVERT)
    if any(member.file_size > MOST_AT_ONCE for member in members if member.filename.endswith("data.pkl")):
        raise AtlasError(f"its pickle has more than {MOST_AT_ONCE:,} bytes", where=path, remedy=_AGAIN)
    if len(names) < len(members):
        raise AtlasError("the archive has two members of one name", where=path, remedy=_AGAIN)
    if not any(name.endswith("data.pkl") for name in names):
        raise AtlasError(
            "not a PyTorch file: the archive holds no data.pkl", where=path, remedy="is it a checkpoint of the model?"
        )


def _as_written(path: Path) -> bool:
    """Whether the pickle is what its checksum says: a flipped bit can turn a name into that of code.

    torch.save may leave checksums out; they are 0 then.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [member for member in archive.infolist() if member.filename.endswith("/data.pkl") and member.CRC]
        try:
            return all(archive.read(member) for member in pickles)
        except zipfile.BadZipFile:
            return False


def _wants_code(path: Path, what: str | None) -> AtlasError:
    return AtlasError(
        f"the file wants to run code when it is opened{f' ({what})' if what else ''}: refused",
        where=path,
        remedy="take a safetensors version of the model; or, if you trust the file's maker, convert it once in an "
        "environment of theirs: safetensors.torch.save_file(torch.load(FILE, weights_only=False), 'model.safetensors')",
    )


def _not_an_archive(path: Path, begin: bytes) -> AtlasError:
    if begin[:1] == b"\x80":
        # Such a file cannot be indexed without reading all of it.
        return AtlasError("a PyTorch file in the format from before version 1.6", where=path, remedy=_CONVERT)
    return AtlasError("not a PyTorch file", where=path, remedy=_AGAIN)
