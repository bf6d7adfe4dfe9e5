"""Compiled: many byte strings as a trie, whose edges are a hash table; it is made in a fraction of a second."""

from typing import NamedTuple

import numpy as np

from weight_atlas.tokens.kernels import borrowed, compiled, inlined

_GOLDEN, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(24)


class Trie(NamedTuple):
    """edges: keys (node << 8 | byte, plus 1; 0: empty) in a hash table; children: the node that each leads to.

    values: of each node that of the string which ends there, or -1.
    """

    edges: np.ndarray
    children: np.ndarray
    values: np.ndarray


def trie_of(strings: list[bytes], values: np.ndarray, roots: np.ndarray) -> Trie:
    """The trie of some strings, none empty, with a value of 0 or more each; of equal ones the last counts.

    roots: the node that each string begins at, from 0 on without a gap.
    """
    content = np.frombuffer(b"".join(strings), np.uint8)
    ends = np.cumsum([len(each) for each in strings], dtype=np.int64)
    count = int(roots.max(initial=0)) + 1
    size = 1 << max(4, (2 * len(content)).bit_length())
    trie = Trie(np.zeros(size, np.uint64), np.zeros(size, np.int32), np.full(count + len(content), -1, np.int32))
    used = _fill(content, ends, values.astype(np.int32), roots.astype(np.int32), count, *trie)
    return trie._replace(values=trie.values[:used].copy())


@compiled
def _fill(content, ends, given, roots, count, edges, children, values):
    mask = np.uint64(len(edges) - 1)
    used, at = count, 0
    for row in range(len(ends)):
        node = roots[row]
        while at < ends[row]:
            key = (np.uint64(node) << np.uint64(8) | np.uint64(content[at])) + np.uint64(1)
            place = (key * _GOLDEN) >> _SHIFT & mask
            while edges[place] and edges[place] != key:
                place = (place + np.uint64(1)) & mask
            if not edges[place]:
                edges[place], children[place] = key, used
                used += 1
            node = children[place]
            at += 1
        values[node] = given[row]
    return used


@inlined
def child_of(node, byte, edges, children):
    """The node that a byte leads to from a node, or -1."""
    key = (np.uint64(node) << np.uint64(8) | np.uint64(byte)) + np.uint64(1)
    mask = np.uint64(len(edges) - 1)
    place = (key * _GOLDEN) >> _SHIFT & mask
    while edges[place]:
        if edges[place] == key:
            return np.int64(children[place])
        place = (place + np.uint64(1)) & mask
    return np.int64(-1)


@compiled
def trie_fields(trie):
    """The fields of a Trie, borrowed."""
    edges, children, values = trie
    return borrowed(edges), borrowed(children), borrowed(values)
