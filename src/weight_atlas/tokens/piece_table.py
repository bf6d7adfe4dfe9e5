"""Compiled: distinct byte strings, each known by its number in a table that grows."""

from typing import NamedTuple

import numpy as np

from weight_atlas.tokens.kernels import borrowed, compiled, inlined

# Spread keys over a table (Fibonacci hashing; the second is another odd number without a pattern).
_GOLDEN, _SPREAD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(32)
_EIGHT, _TOP = np.uint64(8), np.uint64(56)


class Pieces(NamedTuple):
    """Distinct pieces.

    slots: a hash table, (n, 3): the two keys of a piece, the second 0 where empty, and its number. starts, lengths: of
    each piece, where it lies in `store`. used: pieces, and bytes of the store. The keys of up to 15 bytes are these
    bytes, with their number on top, so that most pieces are found without a look at the store; those of more are their
    hash and 255 on top.
    """

    slots: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    store: np.ndarray
    used: np.ndarray


def empty_pieces(most: int, size: int) -> Pieces:
    """A table with room for `most` pieces (a power of two) of `size` bytes in all."""
    return Pieces(
        np.zeros((2 * most, 3), np.uint64),
        np.zeros(most, np.int64),
        np.zeros(most, np.int32),
        np.zeros(size, np.uint8),
        np.zeros(2, np.int64),
    )


def enlarged(pieces: Pieces, factor: int = 2) -> Pieces:
    """The same table with more room; the numbers of the pieces stay."""
    count, size = map(int, pieces.used)
    larger = empty_pieces(factor * len(pieces.starts), factor * len(pieces.store))
    for new, old, length in zip(larger[1:4], pieces[1:4], (count, count, size), strict=True):
        new[:length] = old[:length]
    larger.used[:] = pieces.used
    _move(pieces.slots, larger.slots)
    return larger


def keep_only(pieces: Pieces, kept: np.ndarray) -> None:
    """Forget all pieces but some, which are numbered anew in their order; kept: their numbers, ascending."""
    numbers = np.full(int(pieces.used[0]), -1, np.int64)
    numbers[kept] = np.arange(len(kept))
    slots = pieces.slots[pieces.slots[:, 1] != 0]
    slots[:, 2] = numbers[slots[:, 2].astype(np.int64)].view(np.uint64)
    starts, lengths = pieces.starts, pieces.lengths
    pieces.used[:] = len(kept), together(pieces.store, starts[kept], lengths[kept])
    lengths[: len(kept)] = lengths[kept]
    starts[: len(kept)] = np.cumsum(lengths[: len(kept)], dtype=np.int64) - lengths[: len(kept)]
    pieces.slots[:] = 0
    _move(slots[slots[:, 2].view(np.int64) >= 0], pieces.slots)


@compiled
def together(values, starts, lengths):
    """Move stretches of an array, in ascending order, to its beginning, one after the other; how long they are."""
    taken = 0
    for row in range(len(starts)):
        for place in range(starts[row], starts[row] + lengths[row]):
            values[taken] = values[place]
            taken += 1
    return taken


@inlined
def _place(low, high, mask):
    return ((low ^ high * _SPREAD) * _GOLDEN) >> _SHIFT & mask


@compiled
def _move(slots, larger):
    mask = np.uint64(len(larger) - 1)
    for row in range(len(slots)):
        low, high = slots[row, 0], slots[row, 1]
        if high:
            place = _place(low, high, mask)
            while larger[place, 1]:
                place = (place + np.uint64(1)) & mask
            larger[place, 0], larger[place, 1], larger[place, 2] = low, high, slots[row, 2]


@compiled
def fields(pieces):
    """The fields of Pieces, borrowed."""
    slots, starts, lengths, store, used = pieces
    return borrowed(slots), borrowed(starts), borrowed(lengths), borrowed(store), borrowed(used)


@compiled
def _same(text, start, length, store, begin):
    same = True
    at = 0
    while same and at < length:
        same = store[begin + at] == text[start + at]
        at += 1
    return same


@inlined
def _keys(text, start, stop):
    low, high, length = np.uint64(0), np.uint64(0), stop - start
    if length < 16:
        for at in range(start, min(stop, start + 8)):
            low = low << _EIGHT | np.uint64(text[at])
        for at in range(start + 8, stop):
            high = high << _EIGHT | np.uint64(text[at])
        return low, high | np.uint64(length + 1) << _TOP
    for at in range(start, stop):
        low = (low ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
    return low, np.uint64(0xFF) << _TOP


@inlined
def number_of(text, start, stop, slots, starts, lengths, store, used):
    """The number of a piece, which is added if it is new; -1: no room. The last five: the fields of Pieces."""
    length = stop - start
    low, high = _keys(text, start, stop)
    mask = np.uint64(len(slots) - 1)
    place = _place(low, high, mask)
    while slots[place, 1]:
        if slots[place, 0] == low and slots[place, 1] == high:
            number = np.int64(slots[place, 2])
            if length < 16 or (lengths[number] == length and _same(text, start, length, store, starts[number])):
                return number
        place = (place + np.uint64(1)) & mask
    number, begin = used[0], used[1]
    if number == len(starts) or begin + length > len(store):
        return np.int64(-1)
    for at in range(length):
        store[begin + at] = text[start + at]
    starts[number], lengths[number] = begin, length
    slots[place, 0], slots[place, 1], slots[place, 2] = low, high, np.uint64(number)
    used[0], used[1] = number + 1, begin + length
    return number


@compiled
def add_all(text, starts, stops, pieces, numbers):
    """Add pieces that lie in a text, and note their numbers: -1 where there is no room."""
    table = fields(pieces)
    text, starts, stops = borrowed(text), borrowed(starts), borrowed(stops)
    for row in range(len(stops)):
        numbers[row] = number_of(text, starts[row], stops[row], *table)
