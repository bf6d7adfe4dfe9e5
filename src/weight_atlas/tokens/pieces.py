"""Compiled: texts as sequences of distinct pieces."""

from typing import NamedTuple

import numpy as np

from weight_atlas.tokens.characters import UNKNOWN
from weight_atlas.tokens.cutting import WORDS, piece_end
from weight_atlas.tokens.kernels import borrowed, compiled
from weight_atlas.tokens.piece_table import fields, number_of
from weight_atlas.tokens.splitting import BLANK, RETURN, decode

# Where cutting begins: document, byte, end of the stretch of text (-1: not known), the word at that end, where the word
# ends, and numbers written.
BEGIN = (0, 0, -1, -1, 0, 0)


class Words(NamedTuple):
    """Byte strings to look for, as a trie: of each node the first child, next sibling, byte, and number, or -1.

    roots: the node of each first byte, (256,).
    """

    roots: np.ndarray
    child: np.ndarray
    sibling: np.ndarray
    byte: np.ndarray
    number: np.ndarray


def words_to_find(words: dict[str, int]) -> Words:
    """The trie of some words, each with its number of 0 or more."""
    nodes: list[list[int]] = []  # child, sibling, byte, number
    roots = np.full(256, -1, np.int32)
    for word, number in words.items():
        first, *rest = word.encode()
        if roots[first] < 0:
            roots[first] = len(nodes)
            nodes.append([-1, -1, first, -1])
        node = int(roots[first])
        for byte in rest:
            below = nodes[node][0]
            while below >= 0 and nodes[below][2] != byte:
                below = nodes[below][1]
            if below < 0:
                below = len(nodes)
                nodes.append([-1, nodes[node][0], byte, -1])
                nodes[node][0] = below
            node = below
        nodes[node][3] = number
    child, sibling, bytes_, numbers = np.array(nodes, np.int32).reshape(-1, 4).T.copy()
    return Words(roots, child, sibling, bytes_, numbers)


@compiled
def find(text, at, end, words):
    """The first of some words from a byte on, of several the longest: where it begins and ends, its number or -1."""
    while at < end:
        node = words.roots[text[at]]
        if node >= 0:
            stop, number, place = at, np.int32(-1), at + 1
            while True:
                if words.number[node] >= 0:
                    stop, number = place, words.number[node]
                if place == end:
                    break
                node = words.child[node]
                while node >= 0 and words.byte[node] != text[place]:
                    node = words.sibling[node]
                if node < 0:
                    break
                place += 1
            if number >= 0:
                return at, stop, np.int64(number)
        at += 1
    return end, end, np.int64(-1)


@compiled
def left_out(text, ends, words, classes, plain, flags):
    """Flag the documents that have one of some words, or a character without a class (1), or one that is not plain (2).

    ends: where each document ends. plain: see characters.plainly_composed; of length 0 all are.
    """
    start = 0
    for document in range(len(ends)):
        end = ends[document]
        _, _, number = find(text, start, end, words)
        flag = 1 if number >= 0 else 0
        at = start
        while at < end and not flag & 1:
            if text[at] < 0xC0:
                at += 1
                continue
            point, at = decode(text, at)
            if classes[point] & UNKNOWN:
                flag = 1
            elif len(plain) and not plain[point]:
                flag = 2
        flags[document] = flag
        start = end


@compiled
def with_spaces(text, ends, words, out, out_ends):
    """Copy documents with a space before each stretch of text between words; out: room for that. Bytes written.

    No word may hold a space.
    """
    taken, at = 0, 0
    for document in range(len(ends)):
        end = ends[document]
        while at < end:
            stop, after, _ = find(text, at, end, words)
            if stop > at:
                out[taken] = BLANK
                taken += 1
            out[taken : taken + after - at] = text[at:after]
            taken += after - at
            at = after
        out_ends[document] = taken
    return taken


@compiled
def cut(text, ends, cutting, words, pieces, state, out, out_ends):
    """Cut documents into pieces, and write their numbers, and -1 - number for a word that is found; False: no room.

    ends: where each document ends; out_ends: where its numbers do. words: those that are tokens as they stand, whatever
    is around them. Called again with the same state, it goes on where it stopped.
    """
    kind, digits, suffix, slash = cutting.kind, cutting.digits, cutting.suffix, cutting.slash
    classes, joins, meta = borrowed(cutting.classes), borrowed(cutting.joins), cutting.meta
    joins_ascii, plain, text = borrowed(cutting.joins_ascii), borrowed(cutting.plain), borrowed(text)
    slots, starts, lengths, store, used = fields(pieces)
    document, at, stop = state[0], state[1], state[2]
    match, after, taken = state[3], state[4], state[5]
    while document < len(ends):
        end = ends[document]
        while at < end:
            if stop < 0:  # a stretch of text begins
                stop, after, match = find(text, at, end, words)
            while at < stop:
                if kind == WORDS and (text[at] == BLANK or 9 <= text[at] <= 10 or text[at] == RETURN):
                    at += 1
                    continue
                following = piece_end(
                    text, at, stop, kind, digits, suffix, slash, classes, joins, joins_ascii, meta, plain
                )
                number = number_of(text, at, following, slots, starts, lengths, store, used)
                if number < 0:
                    state[0], state[1], state[2] = document, at, stop
                    state[3], state[4], state[5] = match, after, taken
                    return False
                out[taken] = number
                taken += 1
                at = following
            if match >= 0:
                out[taken] = -1 - match
                taken += 1
            at, stop = after, -1
        out_ends[document] = taken
        document += 1
    return True
