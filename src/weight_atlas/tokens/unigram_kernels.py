"""Compiled: the best path of a Unigram model through distinct pieces of ASCII."""

import numpy as np

from weight_atlas.tokens.characters import GAP, SOLID
from weight_atlas.tokens.kernels import borrowed, compiled
from weight_atlas.tokens.tries import child_of, trie_fields

_META = np.frombuffer("▁".encode(), np.uint8).copy()


@compiled
def _word(store, at, stop, classes, collapsed, prefixed, text):
    """Write a word as the model gets it, ▁ for the gap before it; its length, or -1 if it is not plain, and its end.

    prefixed: whether a word without a gap gets a ▁.
    """
    begin, size = at, 0
    while at < stop and store[at] < 128 and classes[store[at]] & GAP:
        at += 1
        if not collapsed:
            break
    if at > begin or prefixed:
        for byte in _META:
            text[size] = byte
            size += 1
    plain = at < stop or size == 0
    while at < stop and plain:
        kind = classes[store[at]] if store[at] < 128 else 0
        if kind & GAP:
            break
        plain = kind & SOLID != 0
        text[size] = store[at]
        size += 1
        at += 1
    return size if plain else -1, at


@compiled
def _best_path(text, size, scores, unknown, unknown_score, edges, children, values, best, begins, tokens):
    """Fill in, for each byte at which a token can end, the best score of a path, where its last token begins, its id.

    As the library has it: sums from the left, candidates by their beginnings and then their ends, of equal ones the
    first.
    """
    begins[: size + 1] = -1
    best[0] = 0.0
    at = 0
    while at < size:
        width = 1 if text[at] < 128 else 3
        single, node, place = False, 0, at
        while place < size:
            node = child_of(node, text[place], edges, children)
            if node < 0:
                break
            place += 1
            token = values[node]
            if token >= 0:
                score = scores[token] + best[at]
                if begins[place] < 0 or score > best[place]:
                    best[place], begins[place], tokens[place] = score, at, token
                single = single or place == at + width
        if not single:
            place = at + width
            score = unknown_score + best[at]
            if begins[place] < 0 or score > best[place]:
                best[place], begins[place], tokens[place] = score, at, unknown
        at += width


@compiled
def encode_best(pieces, known, trie, scores, unknown, unknown_score, classes, collapsed, prefixed, ids, lengths):
    """Encode the pieces from number `known` on: ids one piece after the other, and how many each has; how many all do.

    Of pieces that have a character which is not solid and no gap, end with a gap, or have something unknown, the length
    is -1. collapsed: whether a gap of several characters is one ▁, or each is one of its own. prefixed: whether a piece
    without a gap gets a ▁. ids: room for one more than each piece has bytes.
    """
    edges, children, values = trie_fields(trie)
    store, starts, sizes = borrowed(pieces.store), borrowed(pieces.starts), borrowed(pieces.lengths)
    scores, classes, ids, counts = borrowed(scores), borrowed(classes), borrowed(ids), borrowed(lengths)
    room = 0
    text, best = np.empty(0, np.uint8), np.empty(0, np.float64)
    begins, tokens = np.empty(0, np.int64), np.empty(0, np.int64)
    taken = 0
    for number in range(known, pieces.used[0]):
        if sizes[number] + 4 > room:
            room = 2 * sizes[number] + 64
            text, best = np.empty(room, np.uint8), np.empty(room, np.float64)
            begins, tokens = np.empty(room, np.int64), np.empty(room, np.int64)
        at, stop, first = starts[number], starts[number] + sizes[number], taken
        plain = True
        while plain and at < stop:
            size, at = _word(store, at, stop, classes, collapsed, prefixed and at == starts[number], text)
            plain = size >= 0
            if plain:
                _best_path(text, size, scores, unknown, unknown_score, edges, children, values, best, begins, tokens)
                count, place = 0, size
                while place > 0 and tokens[place] != unknown:
                    place, count = begins[place], count + 1
                plain, place = place == 0, size
                for token in range(count if plain else 0):
                    ids[taken + count - 1 - token] = tokens[place]
                    place = begins[place]
                taken += count if plain else 0
        counts[number - known] = taken - first if plain else -1
        taken = taken if plain else first
    return taken
