"""Compiled: WordPiece encoding of distinct pieces of ASCII."""

import numpy as np

from weight_atlas.tokens.kernels import borrowed, compiled
from weight_atlas.tokens.tries import child_of, trie_fields


@compiled
def _longest(store, at, stop, node, lower, edges, children, values):
    """The longest token from a byte on, by the root that it begins at: its id or -1, and where it ends."""
    id, end = np.int64(-1), at
    while at < stop:
        byte = store[at] + 32 if lower and 65 <= store[at] <= 90 else store[at]
        node = child_of(node, byte, edges, children)
        if node < 0:
            break
        at += 1
        if values[node] >= 0:
            id, end = np.int64(values[node]), at
    return id, end


@compiled
def encode_words(pieces, known, trie, most, lower, ids, lengths):
    """Encode the pieces from number `known` on: ids one piece after the other, and how many each has; how many all do.

    Of pieces that are not of ASCII alone, have over `most` bytes, or are no tokens the length is -1. ids: room for as
    many as the pieces have bytes.
    """
    edges, children, values = trie_fields(trie)
    store, starts, sizes = borrowed(pieces.store), borrowed(pieces.starts), borrowed(pieces.lengths)
    ids, counts = borrowed(ids), borrowed(lengths)
    taken = 0
    for number in range(known, pieces.used[0]):
        at, stop = starts[number], starts[number] + sizes[number]
        plain = stop - at <= most
        for place in range(at, stop):
            plain = plain and 0x21 <= store[place] <= 0x7E
        count, root = 0, 0
        while plain and at < stop:
            id, at = _longest(store, at, stop, root, lower, edges, children, values)
            plain, root = id >= 0, 1
            if plain:
                ids[taken + count] = id
                count += 1
        counts[number - known] = count if plain else -1
        taken += count if plain else 0
    return taken
