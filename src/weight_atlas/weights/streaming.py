"""Histograms and profiles of all tensors of a checkpoint, several at a time, within a bound on memory.

Both come from one reading of the bytes: on a network disk that is most of the time.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from weight_atlas.dtypes import DTYPES
from weight_atlas.errors import AtlasError
from weight_atlas.weights.histogram import Histogram
from weight_atlas.weights.profile import CELLS, EXPERT_CELLS, Profile, Profiler
from weight_atlas.weights.stored_types import stored_as
from weight_atlas.weights.value_histogram import block_histogram

Load = Callable[[Any, Any], Any]

BLOCK_BYTES = 4 << 20  # stays in the cache between reading and counting
# Memory allowed beyond twice the largest portion, so that small tensors keep all threads busy.
SPARE_BYTES = 16 << 20
_AHEAD = 4  # portions submitted ahead for each thread

_thread = threading.local()  # holds a buffer for each thread


class Reading(NamedTuple):
    """What one tensor's bytes say: its histogram, and the profile of a matrix; a vector has none."""

    id: str
    histogram: Histogram
    profile: Profile | None = None


@dataclass(frozen=True)
class Portion:
    """Tensors that are read together. bytes: memory that reading them takes; make(): reads and counts them."""

    bytes: int
    make: Callable[[], list[Reading]]


def readings(portions: Iterable[Portion], threads: int = 1) -> Iterator[Reading]:
    """Id, histogram and profile of every tensor, in the order of the portions, whatever the number of threads.

    At most `threads` portions are read at a time, and no more than fit into twice the largest portion so far and
    SPARE_BYTES.
    """
    pending: deque[tuple[Future, int]] = deque()
    largest = 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for portion in portions:
                largest = max(largest, portion.bytes)
                while not _fits(pending, portion.bytes, 2 * largest + SPARE_BYTES, threads):
                    wait([future for future, _ in pending if not future.done()], return_when=FIRST_COMPLETED)
                    yield from _finished(pending)
                pending.append((pool.submit(portion.make), portion.bytes))
            while pending:
                yield from pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()


def _fits(pending: deque[tuple[Future, int]], needed: int, allowed: int, threads: int) -> bool:
    running = [held for future, held in pending if not future.done()]
    # Results are given in order: those behind a large tensor must not pile up while it is counted.
    return not pending or (len(pending) < _AHEAD * threads and sum(running) + needed <= allowed)


def _finished(pending: deque[tuple[Future, int]]) -> Iterator[Reading]:
    while pending and pending[0][0].done():
        yield from pending.popleft()[0].result()


def portions(inventory: pd.DataFrame, checkpoint: Any, load: Load) -> Iterator[Portion]:
    """The tensors of an inventory, portion by portion in its order.

    A tensor that is stored as it is used is read in blocks; the pieces of a fused tensor (or of one expert of it) are
    read together, so that what they share is read once. Tied and unreadable tensors and stored constants are left out.

    checkpoint: has `entries`, `read(name, rows)` and `stored`, whose `folder` its files lie in. load(checkpoint, row):
    one tensor, read through these.
    """
    checkpoint.require_values()
    readable = inventory[_reason(inventory) == ""]
    for _, rows in groupby(readable.itertuples(index=False), key=lambda row: (row.tensor, str(row.expert))):
        pieces = list(rows)
        entry = checkpoint.entries[pieces[0].tensor]
        viewed = entry.dtype in DTYPES and bool(DTYPES[entry.dtype].numpy)
        if viewed and not pieces[0].selection and entry.offset >= 0 and not entry.parts:
            shape = tuple(int(size) for size in (pieces[0].rows, pieces[0].cols) if size is not pd.NA)
            yield Portion(0, partial(_by_blocks, pieces[0], entry, checkpoint.stored.folder / entry.shard, shape))
            continue
        # A packed type unfolds to two bytes a value or more, and a piece is copied out of what is stored.
        needed = [max(row.bytes, 2 * row.parameters) for row in pieces]
        copied = max(needed) if pieces[0].selection else 0
        yield Portion(sum(needed) + copied, partial(_by_pieces, pieces, checkpoint, load))


def profiled(inventory: pd.DataFrame) -> pd.DataFrame:
    """The rows of an inventory that have a profile: the matrices among those that portions() gives."""
    return inventory[(_reason(inventory) == "") & inventory["cols"].notna()]


def skipped(inventory: pd.DataFrame) -> pd.DataFrame:
    """The tensors of an inventory that portions() leaves out, and the reason of each."""
    reason = _reason(inventory)
    return inventory[["id", "role", "layer", "dtype"]].assign(reason=reason)[reason != ""]


def _reason(inventory: pd.DataFrame) -> pd.Series:
    """Why a tensor has no histogram; "" where it has one."""
    reason = pd.Series("", index=inventory.index)
    reason[(inventory["parameters"] == 0) & (inventory["bytes"] > 0)] = "a stored constant, not a parameter"
    reason[~inventory["readable"]] = "cannot be read: " + inventory["note"]
    reason[inventory["tied_to"] != ""] = "the same data as " + inventory["tied_to"]
    return reason


def _by_blocks(row: Any, entry: Any, path: Path, shape: tuple[int, ...]) -> list[Reading]:
    def blocks() -> Iterator[np.ndarray]:
        return (block.view(DTYPES[entry.dtype].numpy) for block in _blocks(path, entry.offset, entry.bytes))

    return [_reading(row, blocks, entry.dtype, shape)]


def _reading(row: Any, blocks: Callable[[], Iterable[np.ndarray]], dtype: str, shape: tuple[int, ...]) -> Reading:
    if len(shape) != 2:
        return Reading(row.id, block_histogram(blocks, dtype, shape))
    profiler = Profiler(dtype, shape, CELLS if pd.isna(row.expert) else EXPERT_CELLS)
    histogram = block_histogram(profiler.watching(blocks), dtype, shape)
    return Reading(row.id, histogram, profiler.profile())


def _blocks(path: Path, offset: int, size: int) -> Iterator[np.ndarray]:
    """Part of a file in blocks, all in one buffer: allocating memory for each would cost more than reading."""
    if not hasattr(_thread, "buffer"):
        _thread.buffer = np.empty(BLOCK_BYTES, dtype=np.uint8)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            for start in range(0, size, BLOCK_BYTES):
                block = _thread.buffer[: min(BLOCK_BYTES, size - start)]
                left = memoryview(block)
                while left:
                    if not (count := file.readinto(left)):
                        raise AtlasError("the file ends inside a tensor", where=path, remedy="restore it and run again")
                    left = left[count:]
                yield block
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error


def _by_pieces(pieces: list, checkpoint: Any, load: Load) -> list[Reading]:
    stored, found = _ReadOnce(checkpoint), []
    for row in pieces:
        tensor = load(stored, row).detach().cpu().contiguous()
        dtype, flat = stored_as(tensor)
        found.append(_reading(row, partial(iter, (flat,)), dtype, tuple(tensor.shape)))
    return found


class _ReadOnce:
    """A checkpoint that keeps what it read last: pieces of one fused tensor often need the same bytes."""

    def __init__(self, checkpoint: Any):
        self.entries = checkpoint.entries
        self._checkpoint = checkpoint
        self._last: tuple[Any, Any] | None = None

    def read(self, name: str, rows: slice | None = None) -> Any:
        if self._last is None or self._last[0] != (name, rows):
            self._last = None  # before the next one is read
            self._last = (name, rows), self._checkpoint.read(name, rows)
        return self._last[1]


def warned(read: Iterable[Reading]) -> Iterator[Reading]:
    """Pass the readings on, and print a warning for each tensor that has NaN or infinite elements."""
    for reading in read:
        histogram = reading.histogram
        if lost := histogram.nan + histogram.inf:
            print(
                f"warning: {reading.id}: {histogram.nan} NaN and {histogram.inf} infinite of {histogram.n} elements; "
                f"its statistics are those of the other {histogram.n - lost}",
                flush=True,
            )
        yield reading
