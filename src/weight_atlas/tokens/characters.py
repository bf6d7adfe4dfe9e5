"""Which characters a tokenizer's regular expressions take for letters, numbers, white space and the like.

The tokenizers library itself is asked, so that the answer is that of the version of Unicode it knows.
"""

from functools import cache

import numpy as np

CODE_POINTS = 0x110000
# Those that are asked for: all that Unicode 17 gives a letter, number, mark or sign to. The rest are without a class,
# and texts with them are left to the library.
ASKED = (range(0xD800), range(0xE000, 0x33480), range(0xE0000, 0xE1000))
# What a code point can be, as bits of its class.
LETTER, NUMBER, SPACE, UPPER, LOWER, SIGN, MARK, KANA, UNKNOWN = (1 << bit for bit in range(9))
_CLASSES = {
    LETTER: r"\p{L}",
    NUMBER: r"\p{N}",
    SPACE: r"\s",
    UPPER: r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
    LOWER: r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
    SIGN: r"[\p{P}\p{S}]",
    MARK: r"\p{M}",
    KANA: "[一-龥぀-ゟ゠-ヿ]",  # of DeepSeek's expression
}
# White space between words of a Unigram model, and characters of ASCII in them, by unigram.py: each model has its own.
GAP, SOLID = 1 << 14, 1 << 15
# Letters of English contractions, from bit 9 on: 's 't 'm 'd are one letter, 're 've 'll two. Case is ignored there, so
# that the long s (U+017F) is an s.
CONTRACTION_LETTERS = {
    1 << 9: "(?i:[stmd])",
    1 << 10: "(?i:r)",
    1 << 11: "(?i:v)",
    1 << 12: "(?i:e)",
    1 << 13: "(?i:l)",
}

# What all of these consist of: categories that exclude each other and white space, letters of contractions one by one,
# and the range of its own.
_CATEGORIES = ("Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S")
_CUTS = (
    "|".join([*(rf"\p{{{each}}}+" for each in _CATEGORIES), r"\s+"]),
    "(?i:[stmdrvel])",
    f"{_CLASSES[KANA]}+",
)


@cache
def character_classes() -> np.ndarray:
    """The class of each code point, (0x110000,) uint16: the bits of what it is."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Sequence, Split

    points = np.concatenate([np.arange(part.start, part.stop) for part in ASKED])
    # Cut where any class begins or ends: the characters of a piece are of the same ones, those of its first.
    cuts = Sequence([Split(Regex(each), behavior="isolated") for each in _CUTS])
    pieces = [piece for piece, _ in cuts.pre_tokenize_str("".join(map(chr, points.tolist())))]
    first = "".join(piece[0] for piece in pieces)
    of_piece = np.zeros(len(pieces), np.uint16)
    for bit, expression in (_CLASSES | CONTRACTION_LETTERS).items():
        kept = Split(Regex(expression), behavior="removed", invert=True).pre_tokenize_str(first)
        of_piece[[place for _, (place, _) in kept]] |= bit
    classes = np.full(CODE_POINTS, UNKNOWN, np.uint16)
    classes[points] = np.repeat(of_piece, [len(piece) for piece in pieces])
    return classes


def plainly_composed() -> np.ndarray:
    """Characters whose texts NFC leaves as they are, whatever the version of Unicode: (0x110000,) bool.

    They are assigned in the version that Python knows, combine with nothing before them, and decompose into nothing; by
    Unicode's policy of stability other versions either say the same of them or do not know them yet.
    """
    import unicodedata

    plain = np.zeros(CODE_POINTS, bool)
    seconds = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))  # vowels and final consonants of Hangul
    for point in range(0x33480):
        character = chr(point)
        decomposed = unicodedata.decomposition(character)
        if decomposed and not decomposed.startswith("<"):
            seconds.update(int(each, 16) for each in decomposed.split()[1:])
        plain[point] = (
            unicodedata.combining(character) == 0
            and unicodedata.category(character) not in ("Cn", "Cs")
            and unicodedata.is_normalized("NFC", character)
        )
    plain[list(seconds)] = False
    return plain
