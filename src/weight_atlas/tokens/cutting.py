"""Compiled: where a text is cut into pieces that are encoded by themselves.

By the expression of its pre-tokenizer; or, for BPE models that get whole texts, where no merge joins two characters; or
at the white space and signs of ASCII; or, for Unigram models, before the gaps between words. Arguments are those of
splitting.py.
"""

from typing import NamedTuple

import numpy as np

from weight_atlas.tokens.characters import GAP, SIGN, SOLID
from weight_atlas.tokens.kernels import compiled, inlined
from weight_atlas.tokens.splitting import APOSTROPHE, BLANK, NEWLINE, RETURN, decode, deepseek, gpt2, llama3, o200k

# As GPT-2's, Llama 3's and Qwen's, o200k's, DeepSeek's expression has it, where no merge joins, at white space and
# signs, or before gaps.
GPT2, LLAMA3, O200K, DEEPSEEK, JOINS, WORDS, WORDS_WITH_GAPS = range(7)
_META = ord("▁")
# What a byte of ASCII can be in a plain word: a letter, or what an expression takes along with the letters after it.
SMALL, CAPITAL, BEFORE = 1, 2, 4


class Cutting(NamedTuple):
    """What cuts a text. kind: one of these. digits: how many make a piece at most. suffix: whether contractions stay

    with the word before them, and slash: whether slashes stay with signs before them (both of o200k). joins: keys of
    pairs of characters that a merge can join, in a hash table; joins_ascii: (128, 128) the same of ASCII. meta: whether
    a space stands for ▁. plain: (256,) of each byte what it can be in a plain word.
    """

    kind: int
    digits: int
    suffix: int
    slash: int
    classes: np.ndarray
    joins: np.ndarray
    joins_ascii: np.ndarray
    meta: int
    plain: np.ndarray


def plain_bytes(kind: int) -> np.ndarray:
    """What each byte can be in a plain word of a kind of cutting, (256,) uint8."""
    plain = np.zeros(256, np.uint8)
    if kind > DEEPSEEK:
        return plain
    plain[ord("a") : ord("z") + 1], plain[ord("A") : ord("Z") + 1] = SMALL, CAPITAL
    if kind == GPT2:
        plain[BLANK] = BEFORE
        return plain
    digits = range(ord("0"), ord("9") + 1)
    # In Llama 3's expression contractions come first.
    not_before = (NEWLINE, RETURN, *digits, *([APOSTROPHE] if kind == LLAMA3 else []))
    plain[[byte for byte in range(128) if not plain[byte] and byte not in not_before]] = BEFORE
    return plain


@inlined
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


@inlined
def _plain_word(text, at, end, kind, plain):
    """Where a word of ASCII letters ends, and what is taken along before it, if ASCII follows; `at` if there is none.

    Most pieces are of this kind.
    """
    begin = at + 1 if plain[text[at]] & BEFORE else at
    stop = begin
    if kind == O200K:  # capitals, then small ones
        while stop < end and plain[text[stop]] & CAPITAL:
            stop += 1
        while stop < end and plain[text[stop]] & SMALL:
            stop += 1
    else:
        while stop < end and plain[text[stop]] & (SMALL | CAPITAL):
            stop += 1
    followed = stop < end and text[stop] < 128 and (kind != O200K or text[stop] != APOSTROPHE)
    return stop if followed and stop > begin else at


@inlined
def piece_end(text, at, end, kind, digits, suffix, slash, classes, joins, joins_ascii, meta, plain):
    """Where the piece ends that begins at a byte; the last nine: the fields of a Cutting."""
    if kind <= DEEPSEEK:
        stop = _plain_word(text, at, end, kind, plain)
        if stop > at:
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
