"""Compiled: where regular expressions of byte-level pre-tokenizers cut a text.

Each function says where the piece ends that begins at a byte of a text, which is UTF-8. They follow known regular
expressions of pre-tokenizers (expressions.py) alternative by alternative, with what backtracking finds worked out by
hand. text: (n,) uint8; end: where the text ends, as far as the expression sees; classes: see
characters.character_classes.
"""

import numpy as np

from weight_atlas.tokens.characters import KANA, LETTER, LOWER, MARK, NUMBER, SIGN, SPACE, UPPER
from weight_atlas.tokens.kernels import compiled, inlined

APOSTROPHE, BLANK, NEWLINE, RETURN, SLASH = (ord(each) for each in "' \n\r/")
_SINGLE, _R, _V, _E, _L = (1 << bit for bit in range(9, 14))


@inlined
def decode(text, at):
    """The code point at a byte that begins one, and where the next begins."""
    lead = np.int64(text[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | text[at + 1] & 0x3F, at + 2
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | (text[at + 1] & 0x3F) << 6 | text[at + 2] & 0x3F, at + 3
    high = (lead & 0x07) << 18 | (text[at + 1] & 0x3F) << 12
    return high | (text[at + 2] & 0x3F) << 6 | text[at + 3] & 0x3F, at + 4


@compiled
def _run(text, at, end, classes, wanted, unwanted):
    """Where a run of characters ends that have a wanted bit and no unwanted one."""
    while at < end:
        point, after = decode(text, at)
        kind = classes[point]
        if not kind & wanted or kind & unwanted:
            break
        at = after
    return at


@compiled
def _run_without(text, at, end, classes, unwanted):
    while at < end:
        point, after = decode(text, at)
        if classes[point] & unwanted:
            break
        at = after
    return at


@compiled
def _run_of_ends(text, at, end, slash):
    while at < end and (text[at] == NEWLINE or text[at] == RETURN or (slash and text[at] == SLASH)):
        at += 1
    return at


@compiled
def _numbers(text, at, end, classes, most):
    taken = 0
    while at < end and taken < most:
        point, after = decode(text, at)
        if not classes[point] & NUMBER:
            break
        at = after
        taken += 1
    return at


@compiled
def _contraction(text, at, end, classes):
    """Where 's 't 're 've 'm 'll 'd in any case ends that begins at an apostrophe; its beginning if there is none."""
    if at + 1 >= end:
        return at
    point, after = decode(text, at + 1)
    kind = classes[point]
    if kind & _SINGLE:
        return after
    if after >= end or not kind & (_R | _V | _L):
        return at
    point, last = decode(text, after)
    second = classes[point]
    return last if second & (_L if kind & _L else _E) else at


@compiled
def _space(text, at, end, classes, stops, newlines):
    r"""The last alternatives, from white space on: \\s*[\\r\\n]+ (with newlines), \\s+(?!\\S), \\s+.

    stops: bits of characters at which the text ends for the expression.
    """
    stop, last, line = at, at, at
    while stop < end:
        point, after = decode(text, stop)
        if not classes[point] & SPACE:
            break
        last = stop
        if point in (NEWLINE, RETURN):
            line = after
        stop = after
    if newlines and line > at:
        return line
    if stop == end or last == at:
        return stop
    point, _ = decode(text, stop)
    return stop if classes[point] & stops else last


@compiled
def gpt2(text, at, end, classes):
    point, after = decode(text, at)
    if point == APOSTROPHE and after < end and 97 <= text[after] <= 122:
        stop = _contraction(text, at, end, classes)
        # Of two letters the second has to be small, too.
        if stop == at + 2 or (stop == at + 3 and 97 <= text[at + 2] <= 122):
            return stop
    first, start = classes[point], after
    if point == BLANK and after < end:
        point, start = decode(text, after)
        first = classes[point]
        if first & SPACE:  # white space of its own
            return _space(text, at, end, classes, 0, False)
    if first & LETTER:
        return _run(text, start, end, classes, LETTER, 0)
    if first & NUMBER:
        return _run(text, start, end, classes, NUMBER, 0)
    if not first & SPACE:
        return _run_without(text, start, end, classes, SPACE | LETTER | NUMBER)
    return _space(text, at, end, classes, 0, False)


@compiled
def _signs_or_space(text, at, end, classes, slash):
    r"""Alternatives that Llama 3's expression and o200k share: ` ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*`, then white space."""
    point, after = decode(text, at)
    if point == BLANK and after < end:
        point, start = decode(text, after)
        if not classes[point] & (SPACE | LETTER | NUMBER):
            stop = _run_without(text, start, end, classes, SPACE | LETTER | NUMBER)
            return _run_of_ends(text, stop, end, slash)
        point = BLANK
    if not classes[point] & SPACE:
        stop = _run_without(text, after, end, classes, SPACE | LETTER | NUMBER)
        return _run_of_ends(text, stop, end, slash)
    return _space(text, at, end, classes, 0, True)


@compiled
def llama3(text, at, end, classes, digits):
    point, after = decode(text, at)
    if point == APOSTROPHE:
        stop = _contraction(text, at, end, classes)
        if stop > at:
            return stop
    first = classes[point]
    if first & LETTER:
        return _run(text, after, end, classes, LETTER, 0)
    if first & NUMBER:
        return _numbers(text, at, end, classes, digits)
    if point != NEWLINE and point != RETURN and after < end:
        second, start = decode(text, after)
        if classes[second] & LETTER:
            return _run(text, start, end, classes, LETTER, 0)
    return _signs_or_space(text, at, end, classes, 0)


@compiled
def _cased_word(text, at, end, classes):
    r"""Where `[U]*[W]+` ends, with backtracking, or `at`; U: letters but small ones, W: but capitals, marks in both."""
    stop, last = at, at
    while stop < end:
        point, after = decode(text, stop)
        kind = classes[point]
        if not kind & UPPER:
            if kind & LOWER:
                return _run(text, after, end, classes, LOWER, 0)
            break
        if kind & LOWER:
            last = after
        stop = after
    return last


@compiled
def o200k(text, at, end, classes, digits, suffix, slash):
    point, after = decode(text, at)
    kind = classes[point]
    prefixed = point != NEWLINE and point != RETURN and not kind & (LETTER | NUMBER) and after < end
    stop = at
    if prefixed:
        found = _cased_word(text, after, end, classes)
        stop = found if found > after else at
    if stop == at:
        stop = _cased_word(text, at, end, classes)
    if stop == at and prefixed:
        found = _run(text, after, end, classes, UPPER, 0)
        stop = found if found > after else at
    if stop == at:
        stop = _run(text, at, end, classes, UPPER, 0)
    if stop > at:
        if suffix and stop < end and text[stop] == APOSTROPHE:
            return _contraction(text, stop, end, classes)
        return stop
    if kind & NUMBER:
        return _numbers(text, at, end, classes, digits)
    return _signs_or_space(text, at, end, classes, slash)


@compiled
def _ascii_letters(text, at, end):
    while at < end and (65 <= text[at] <= 90 or 97 <= text[at] <= 122):
        at += 1
    return at


@compiled
def _deepseek_match(text, at, end, classes, beyond):
    """Where DeepSeek's third expression ends that matches here, or `at`; beyond: bits at which the text ends for it."""
    point, after = decode(text, at)
    kind = classes[point]
    if point < 128 and kind & SIGN:
        stop = _ascii_letters(text, after, end)
        if stop > after:
            return stop
    if point != NEWLINE and point != RETURN and not kind & (LETTER | SIGN) and after < end:
        second, start = decode(text, after)
        if classes[second] & (LETTER | MARK) and not classes[second] & beyond:
            return _run(text, start, end, classes, LETTER | MARK, beyond)
    if kind & (LETTER | MARK):
        return _run(text, after, end, classes, LETTER | MARK, beyond)
    start = at
    if point == BLANK and after < end:
        start = after
    stop = _run(text, start, end, classes, SIGN, beyond)
    if stop > start:
        return _run_of_ends(text, stop, end, False)
    return _space(text, at, end, classes, beyond, True) if kind & SPACE else at


@compiled
def deepseek(text, at, end, classes, digits):
    """DeepSeek V3's three expressions: each cuts the pieces of the ones before it."""
    point, after = decode(text, at)
    if classes[point] & NUMBER:
        return _numbers(text, at, end, classes, digits)
    beyond = NUMBER | KANA
    if classes[point] & KANA:
        end, beyond = _run(text, after, end, classes, KANA, 0), 0
    stop = _deepseek_match(text, at, end, classes, beyond)
    if stop > at:
        return stop
    while after < end:  # characters that the expression leaves out are one piece
        point, following = decode(text, after)
        if classes[point] & beyond or _deepseek_match(text, after, end, classes, beyond) > after:
            break
        after = following
    return after
