"""Single tensors of a file, by their names, whatever else lies in it: no more is read than is asked for.

A name is dotted where dictionaries lie in each other: `model_state_dict.token_weights`. No model is needed, and no
configuration beside the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weight_atlas.checkpoint.safetensors_file import SafetensorsStore, row_range
from weight_atlas.checkpoint.tensors import Store, TensorEntry, check_names
from weight_atlas.errors import AtlasError, first_line, unknown_name

if TYPE_CHECKING:
    import torch

PYTORCH = (".pt", ".pth", ".ckpt", ".bin")
CHUNK = 1 << 22  # numbers that are read at once
ARRAY = "array"  # the name of the one array of a .npy file


@dataclass(frozen=True)
class NamedTensor:
    """One tensor of a file. name: in the file, dotted. entry: its type and shape."""

    name: str
    entry: TensorEntry
    store: Store = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def path(self) -> Path:
        return self.store.folder / self.entry.shard

    def values(self, rows: slice | None = None) -> np.ndarray:
        """The values as float64, of all rows or of a range; integers and booleans exactly up to 2^53."""
        import torch

        if self.entry.note:
            what = f"tensor {self.name} cannot be read: {self.entry.note}"
            raise AtlasError(what, where=self.path, remedy="name another one, or save it as plain numbers")
        tensor = self.store.read(self.entry.name, rows)
        if tensor.is_complex():
            raise AtlasError(f"tensor {self.name} holds complex numbers", where=self.path, remedy="name a real one")
        return tensor.to(torch.float64).numpy()

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and values of ranges of rows, so many at a time that memory stays small."""
        rows = self.shape[0] if self.shape else 1
        width = max(1, int(np.prod(self.shape[1:], dtype=np.int64)))
        step = max(1, CHUNK // width)
        for first in range(0, rows, step):
            yield first, self.values(slice(first, min(first + step, rows)) if self.shape else None)


def tensors_of(path: Path) -> dict[str, NamedTensor]:
    """Every tensor of a file by its dotted name: from its headers alone; what is wrong with the file is an AtlasError.

    path: .safetensors, .npy, or a PyTorch file, which is opened by the restricted loader.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "the file does not exist"
        raise AtlasError(what, where=path, remedy="check the path")
    if path.suffix == ".npy":
        return _named(NumpyStore(path))
    if path.suffix == ".safetensors":
        return _named(SafetensorsStore(path.parent, [path.name]))
    if path.suffix not in PYTORCH:
        raise AtlasError(
            "not a file of tensors", where=path, remedy=f"give one of .safetensors, .npy, {', '.join(PYTORCH)}"
        )
    from weight_atlas.checkpoint.pytorch_file import stores_of

    found: dict[str, NamedTensor] = {}
    for key, store in stores_of(path).items():
        found |= _named(store, key)
    return found


def _named(store: Store, key: str | None = None) -> dict[str, NamedTensor]:
    check_names(store.entries, store.folder)
    names = {f"{key}.{name}" if key else name: entry for name, entry in store.entries.items()}
    return {name: NamedTensor(name, entry, store) for name, entry in names.items()}


def named_tensor(path: Path, key: str | None, usual: str, tensors: dict[str, NamedTensor] | None = None) -> NamedTensor:
    """The tensor of a file that a dotted key names.

    A key may leave out the dictionaries around the tensor where no other has its name. None: the only tensor, or the
    only one that is called `usual`. tensors: of the file, where they are known. AtlasError where none or several fit.
    """
    tensors = tensors_of(path) if tensors is None else tensors
    wanted = usual if key is None else key
    if key in tensors:
        return tensors[key]
    if key is None and len(tensors) == 1:
        return next(iter(tensors.values()))
    found = [name for name in tensors if name == wanted or name.endswith(f".{wanted}")]
    if len(found) == 1:
        return tensors[found[0]]
    if found:
        raise AtlasError(
            f"{len(found)} tensors are called {wanted}",
            where=path,
            remedy=f"set `key` to one of: {', '.join(found[:8])}",
        )
    if key is not None:
        raise unknown_name("tensor", key, sorted(tensors), path)
    if not tensors:
        raise AtlasError("the file holds no tensors by name", where=path, remedy="save a dictionary of tensors")
    offered = ", ".join(f"{name} {list(each.shape)}" for name, each in list(tensors.items())[:8])
    raise AtlasError(
        f"no tensor is called {usual}, and there are {len(tensors)}", where=path, remedy=f"set `key` to one: {offered}"
    )


class NumpyStore:
    """The one array of a .npy file, mapped; entries: its entry, under the name ARRAY."""

    def __init__(self, path: Path):
        self.folder = path.parent
        self._array = self._mapped(path)
        shape = tuple(map(int, self._array.shape))
        dtype = str(self._array.dtype)
        note = "" if self._array.dtype.kind in "biuf" else f"its type {dtype} is no number"
        self.entries = {ARRAY: TensorEntry(ARRAY, dtype, shape, path.name, self._array.nbytes, note=note)}

    @staticmethod
    def _mapped(path: Path) -> np.ndarray:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("it holds several arrays")
            return array
        except Exception as error:  # its header is a Python expression, so that damage surfaces as many types
            raise AtlasError(
                f"not a readable .npy file: {first_line(error)}",
                where=path,
                remedy="write it with numpy.save, as an array of numbers",
            ) from error

    def read(self, name: str, rows: slice | None = None) -> "torch.Tensor":
        """The array; with rows, that range of its first dimension."""
        import torch

        values = self._array
        if rows is not None:
            start, stop, _ = row_range(self.entries[name].shape, rows)
            values = values[start:stop]
        # torch knows neither all of numpy's types nor other byte orders; all numbers of these kinds go into one of two.
        exact = np.float64 if values.dtype.kind == "f" or values.dtype == np.uint64 else np.int64
        return torch.from_numpy(np.array(values, dtype=exact, order="C", copy=True))

    def raw(self, name: str) -> bytes:
        """The bytes of the array."""
        return self._array.tobytes()
