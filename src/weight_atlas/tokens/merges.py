"""Compiled: byte-pair encoding of distinct pieces, with the order of merges of the tokenizers library."""

from typing import NamedTuple

import numpy as np

from weight_atlas.tokens.kernels import borrowed, compiled, inlined
from weight_atlas.tokens.splitting import BLANK, decode

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Merges(NamedTuple):
    """A BPE model.

    pairs: keys of pairs of ids in a hash table (first << 32 | second, plus 1; 0: empty), with the rank of each merge
    and the id that it makes. of_byte: the id of each byte, (256,). of_character: the id of each code point, -1 where
    it has none and its bytes stand for it; of length 0 where the model works on bytes.
    """

    pairs: np.ndarray
    ranks: np.ndarray
    made: np.ndarray
    of_byte: np.ndarray
    of_character: np.ndarray


def merge_table(first: np.ndarray, second: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hash table of merges, in the order of their ranks; of a pair that stands twice the last counts."""
    size = 1 << max(4, int(2 * len(first)).bit_length())
    pairs, ranks, ids = np.zeros(size, np.uint64), np.zeros(size, np.int32), np.zeros(size, np.int32)
    _fill(first.astype(np.uint64), second.astype(np.uint64), made, pairs, ranks, ids)
    return pairs, ranks, ids


def key_table(keys: np.ndarray) -> np.ndarray:
    """A hash table of the keys of pairs of characters (first << 21 | second), as cutting.joined reads it."""
    table = np.zeros(1 << max(4, int(2 * len(keys)).bit_length()), np.uint64)
    _fill_keys(keys.astype(np.uint64), table)
    return table


@compiled
def _fill(first, second, made, pairs, ranks, ids):
    mask = np.uint64(len(pairs) - 1)
    for rank in range(len(first)):
        key = (first[rank] << np.uint64(32) | second[rank]) + np.uint64(1)
        place = (key * _GOLDEN) >> np.uint64(20) & mask
        while pairs[place] and pairs[place] != key:
            place = (place + np.uint64(1)) & mask
        pairs[place], ranks[place], ids[place] = key, rank, made[rank]


@compiled
def _fill_keys(keys, table):
    mask = np.uint64(len(table) - 1)
    for row in range(len(keys)):
        place = (keys[row] * _GOLDEN) >> np.uint64(20) & mask
        while table[place]:
            place = (place + np.uint64(1)) & mask
        table[place] = keys[row]


def joined_characters(content: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Keys of the pairs of characters (first << 21 | second) around places in a text, (n,) int64."""
    keys = np.empty(len(inner), np.int64)
    _around(content, inner, keys)
    return keys


@compiled
def _around(content, inner, keys):
    for row in range(len(inner)):
        at = inner[row] - 1
        while content[at] & 0xC0 == 0x80:
            at -= 1
        first, _ = decode(content, at)
        second, _ = decode(content, inner[row])
        keys[row] = first << 21 | second


@inlined
def _merge_of(first, second, pairs):
    """The place of a pair's merge in the table, or -1."""
    key = (np.uint64(first) << np.uint64(32) | np.uint64(second)) + np.uint64(1)
    mask = np.uint64(len(pairs) - 1)
    place = (key * _GOLDEN) >> np.uint64(20) & mask
    while pairs[place]:
        if pairs[place] == key:
            return np.int64(place)
        place = (place + np.uint64(1)) & mask
    return np.int64(-1)


@compiled
def _symbols(store, start, stop, of_byte, of_character, meta, symbols):
    """Write the ids that a piece begins with, of its bytes or characters; how many."""
    count = 0
    at = start
    while at < stop:
        if len(of_character):
            point, after = decode(store, at)
            id = of_character[0x2581 if meta and point == BLANK else point]
            if id >= 0:
                symbols[count] = id
                count += 1
                at = after
                continue
        else:
            after = at + 1
        while at < after:
            symbols[count] = of_byte[store[at]]
            count += 1
            at += 1
    return count


@compiled
def _push(heap, size, key):
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if heap[above] <= key:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = key


@compiled
def _pop(heap, size):
    """Take the smallest key off a heap of `size` keys."""
    smallest, key = heap[0], heap[size - 1]
    size -= 1
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= key:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = key
    return smallest


@compiled
def _merge(symbols, count, pairs, ranks, made, following, before, heap, by_rank):
    """Merge in place, the pair of lowest rank first, of equal ones the leftmost; how many symbols are left.

    As the library has it, a pair that waits is passed over only where the two that now stand in its place make another
    token: so a pair changed since can be merged by the rank that it had before.
    """
    size = 0
    for at in range(count):
        following[at], before[at] = at + 1, at - 1
    for at in range(count - 1):
        place = _merge_of(symbols[at], symbols[at + 1], pairs)
        if place >= 0:
            _push(heap, size, np.int64(ranks[place]) << 32 | at)
            size += 1
    left = count
    while size:
        top = _pop(heap, size)
        size -= 1
        at, token = top & 0xFFFFFFFF, by_rank[top >> 32]
        if symbols[at] < 0 or following[at] >= count:
            continue
        right = following[at]
        place = _merge_of(symbols[at], symbols[right], pairs)
        if place < 0 or made[place] != token:
            continue
        symbols[at], symbols[right] = token, -1
        following[at] = following[right]
        left -= 1
        if following[at] < count:
            before[following[at]] = at
            place = _merge_of(token, symbols[following[at]], pairs)
            if place >= 0:
                _push(heap, size, np.int64(ranks[place]) << 32 | at)
                size += 1
        if before[at] >= 0:
            place = _merge_of(symbols[before[at]], token, pairs)
            if place >= 0:
                _push(heap, size, np.int64(ranks[place]) << 32 | before[at])
                size += 1
    at, kept = 0, 0
    while at < count:
        symbols[kept] = symbols[at]
        kept += 1
        at = following[at]
    return left


@compiled
def encode_pieces(pieces, known, merges, meta, by_rank, ids, lengths):
    """Encode the pieces from number `known` on: ids one piece after the other, and how many each has; how many all do.

    ids: room for as many as these pieces have bytes.
    """
    store, ids, counts = borrowed(pieces.store), borrowed(ids), borrowed(lengths)
    sizes, starts, last = borrowed(pieces.lengths), borrowed(pieces.starts), pieces.used[0]
    pairs, ranks, made = borrowed(merges.pairs), borrowed(merges.ranks), borrowed(merges.made)
    of_byte, of_character = borrowed(merges.of_byte), borrowed(merges.of_character)
    room = 64
    symbols, following, before = np.empty(room, np.int32), np.empty(room, np.int64), np.empty(room, np.int64)
    heap = np.empty(3 * room, np.int64)
    taken = 0
    for number in range(known, last):
        size = sizes[number]
        if size > room:
            room = 2 * size
            symbols, following, before = np.empty(room, np.int32), np.empty(room, np.int64), np.empty(room, np.int64)
            heap = np.empty(3 * room, np.int64)
        start = starts[number]
        count = _symbols(store, start, start + size, of_byte, of_character, meta, symbols)
        if count > 1:
            count = _merge(symbols, count, pairs, ranks, made, following, before, heap, by_rank)
        ids[taken : taken + count] = symbols[:count]
        taken += count
        counts[number - known] = count
    return taken


@compiled
def tally(numbers, ends, rows, first, ids, id_starts, uses, counts, documents, seen, touched):
    """Add the tokens of some documents to counts and document frequencies, both (vocabulary,); how many ids they have.

    numbers, ends: see pieces.cut. rows: which documents. first: the number of this tally's first document, from 1 on,
    growing from call to call. uses: of each piece how often it occurred, is added to, too. seen: (vocabulary,) the last
    document that had each token. touched: takes the ids.
    """
    numbers, ends, ids, id_starts = borrowed(numbers), borrowed(ends), borrowed(ids), borrowed(id_starts)
    counts, documents, seen, touched = borrowed(counts), borrowed(documents), borrowed(seen), borrowed(touched)
    uses = borrowed(uses)
    found = 0
    for row in range(len(rows)):
        document = rows[row]
        this = first + row
        start = ends[document - 1] if document else 0
        for at in range(start, ends[document]):
            number = numbers[at]
            begin, stop = 0, 1
            if number >= 0:
                begin, stop = id_starts[number], id_starts[number + 1]
                uses[number] += 1
            for place in range(begin, stop):
                id = ids[place] if number >= 0 else -1 - number
                if not counts[id]:
                    touched[found] = id
                    found += 1
                counts[id] += 1
                if seen[id] != this:
                    seen[id] = this
                    documents[id] += 1
    return found
