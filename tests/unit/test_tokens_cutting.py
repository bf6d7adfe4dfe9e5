"""Where texts are cut, against the tokenizers library: expressions of pre-tokenizers, and classes of characters."""

import numpy as np
import pytest
import regex
from counted_tokenizers import TEXT, TRICKY, splitting_by
from hypothesis import given, settings
from tokenizers import Regex, normalizers, pre_tokenizers

from weight_atlas.tokens.bpe import byte_alphabet
from weight_atlas.tokens.characters import LETTER, NUMBER, SPACE, UNKNOWN, character_classes, plainly_composed
from weight_atlas.tokens.cutting import piece_end
from weight_atlas.tokens.expressions import GPT2_EXPRESSION, KNOWN
from weight_atlas.tokens.proof import _cutting

EXPRESSIONS = pytest.mark.parametrize("expressions", KNOWN, ids=lambda each: each[-1][:24])


def library_pieces(expressions, text):
    cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(each), "isolated") for each in expressions])
    return [piece for piece, _ in cut.pre_tokenize_str(text)]


def own_pieces(expressions, text):
    cutting, content = _cutting(KNOWN[expressions]), np.frombuffer(text.encode(), np.uint8)
    at, pieces = 0, []
    while at < len(content):
        stop = piece_end(content, at, len(content), *cutting)
        pieces.append(content[at:stop].tobytes().decode())
        at = stop
    return pieces


def known(text):
    """Whether all characters have a class; documents with others are left to the library."""
    return not any(character_classes()[ord(character)] & UNKNOWN for character in text)


@EXPRESSIONS
def test_tricky_texts_are_cut_as_the_expression_cuts(expressions):
    for text in filter(known, TRICKY):
        assert own_pieces(expressions, text) == library_pieces(expressions, text)


@EXPRESSIONS
@settings(max_examples=150, deadline=None)
@given(text=TEXT.filter(known))
def test_fuzzed_texts_are_cut_as_the_expression_cuts(expressions, text):
    assert own_pieces(expressions, text) == library_pieces(expressions, text)


def test_the_expression_of_the_byte_level_pre_tokenizer_is_the_known_one():
    for text in TRICKY:
        itself, spelled = pre_tokenizers.ByteLevel(add_prefix_space=False), splitting_by(GPT2_EXPRESSION)
        assert itself.pre_tokenize_str(text) == spelled.pre_tokenize_str(text)


def test_the_alphabet_is_that_of_the_library():
    assert sorted(byte_alphabet()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for byte in range(128):
        ((shown, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))
        assert shown == byte_alphabet()[byte]


def test_classes_of_characters_against_another_library():
    classes = character_classes()
    for point in (*range(0x250), *range(0x400, 0x460), *range(0x4E00, 0x4E40), 0x2028, 0x3000, 0x0663, 0x2160, 0x1F600):
        for bit, expression in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")):
            assert bool(classes[point] & bit) == bool(regex.match(expression, chr(point))), hex(point)
    assert classes[0x50000] == UNKNOWN and classes[0xD800] == UNKNOWN


def test_plain_characters_stay_as_they_are_in_nfc():
    """Each alone, and all of them side by side, in both orders."""
    points = np.flatnonzero(plainly_composed())
    assert len(points) > 100_000 and not plainly_composed()[[0x301, 0x958, 0x1161, 0x9BE, 0x212B]].any()
    text = "".join(map(chr, points.tolist()))
    for each in (text, text[::-1]):
        assert normalizers.NFC().normalize_str(each) == each
