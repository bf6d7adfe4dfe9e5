"""Compiled: where a text is cut into pieces that are encoded by themselves.

By the expression of its pre-tokenizer; or, for BPE models that get whole texts, where no merge joins two characters; or
at the white space and signs of ASCII; or, for Unigram models, before the gaps between words. Arguments are those of
splitting.py.
"""

from typing import NamedTuple

import numpy as np

from weight_atlas.tokens.characters import GAP, LETTER, SIGN, SOLID
from weight_atlas.tokens.kernels import compiled
from weight_atlas.tokens.splitting import APOSTROPHE, BLANK, RETURN, decode, deepseek, gpt2, llama3, o200k

# As GPT-2's, Llama 3's and Qwen's, o200k's, DeepSeek's expression has it, where no merge joins, at white space and
# signs, or before gaps.
GPT2, LLAMA3, O200K, DEEPSEEK, JOINS, WORDS, WORDS_WITH_GAPS = range(7)
_META = ord("▁")


class Cutting(NamedTuple):
    """What cuts a text. kind: one of these. digits: how many make a piece at most. suffix: whether contractions stay

    with the word before them, and slash: whether slashes stay with signs before them (both of o200k). joins: keys of
    pairs of characters that a merge can join, in a hash table; joins_ascii: (128, 128) the same of ASCII. meta: whether
    a space stands for ▁.
    """

    kind: int
    digits: int
    suffix: int
    slash: int
    classes: np.ndarray
    joins: np.ndarray
    joins_ascii: np.ndarray
    meta: int


@compiled
def joined(first, second, joins, joins_ascii, meta):
    """Whether some merge of the model can join two characters (code points)."""
    if first < 128 and second < 128:
        return joins_ascii[first, second] != 0
    if meta:
        first = _META if first == BLANK else first
        second = _META if second == BLANK else second
    key = np.uint64(first) << np.uint64(21) | np.uint64(second)
    mask = np.uint64(len(joins) - 1)
    place = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20) & mask
    while joins[place]:
        if joins[place] == key:
            return True
        place = (place + np.uint64(1)) & mask
    return False


@compiled
def _joins(text, at, end, joins, joins_ascii, meta):
    point, at = decode(text, at)
    while at < end:
        following, after = decode(text, at)
        if not joined(point, following, joins, joins_ascii, meta):
            break
        point, at = following, after
    return at


@compiled
def _words(text, at, end, classes):
    """A sign of ASCII, white space of ASCII, or what lies between them."""
    if text[at] < 128 and classes[text[at]] & SIGN:
        return at + 1
    while at < end:
        byte = text[at]
        if byte in (BLANK, RETURN) or 9 <= byte <= 10 or (byte < 128 and classes[byte] & SIGN):
            break
        at += 1
    return at


@compiled
def _is(byte, kind, classes):
    return byte < 128 and classes[byte] & kind != 0


@compiled
def _words_with_gaps(text, at, end, classes):
    """A gap, if the text begins with one, and what follows up to a gap between two solid characters."""
    while at < end and _is(text[at], GAP, classes):
        at += 1
    while at < end:
        if not _is(text[at], GAP, classes):
            at += 1
            continue
        stop = at + 1
        while stop < end and _is(text[stop], GAP, classes):
            stop += 1
        if stop < end and _is(text[stop], SOLID, classes) and _is(text[at - 1], SOLID, classes):
            break
        at = stop
    return at


@compiled
def _is_lower(text, at, end):
    """Whether ASCII letters are small but for the first."""
    for place in range(at + 1, end):
        if text[place] < 97:
            return False
    return text[end - 1] >= 97


@compiled
def piece_end(text, at, end, kind, digits, suffix, slash, classes, joins, joins_ascii, meta):
    """Where the piece ends that begins at a byte; the last eight: the fields of a Cutting."""
    if kind <= DEEPSEEK:
        # Most pieces are a word of ASCII letters, with or without a space before it, that ASCII follows.
        stop = at + 1 if text[at] == BLANK else at
        begin = stop
        while stop < end and text[stop] < 128 and classes[text[stop]] & LETTER:
            stop += 1
        plain = stop > begin and stop < end and text[stop] < 128
        if plain and (kind != O200K or (text[stop] != APOSTROPHE and _is_lower(text, begin, stop))):
            return stop
    if kind == LLAMA3:
        return llama3(text, at, end, classes, digits)
    if kind == O200K:
        return o200k(text, at, end, classes, digits, suffix, slash)
    if kind == GPT2:
        return gpt2(text, at, end, classes)
    if kind == DEEPSEEK:
        return deepseek(text, at, end, classes, digits)
    if kind == JOINS:
        return _joins(text, at, end, joins, joins_ascii, meta)
    if kind == WORDS_WITH_GAPS:
        return _words_with_gaps(text, at, end, classes)
    return _words(text, at, end, classes)
