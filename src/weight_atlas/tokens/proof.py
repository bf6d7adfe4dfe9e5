"""What a tokenizer.json proves about where texts can be cut, so that each distinct piece is encoded once.

The library takes added tokens out of a text, normalizes each stretch between them, splits it (pre-tokenizer), and
encodes each piece by itself (model). A plan follows these four steps exactly, or there is none:

- added tokens that are taken as they stand are borders; documents with others are encoded whole;
- of normalizers, only those count here that do nothing to a piece that they would not do to it in its text;
- the pre-tokenizer is one whose expression is known, so that pieces are exactly its own; or, for a BPE model that gets
  whole texts, pieces end where no merge of the model has the two characters at the border as its own inner border;
- the model is BPE that knows every byte, which is then run here; or the library encodes each distinct piece.
"""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from weight_atlas.tokens.characters import character_classes, plainly_composed
from weight_atlas.tokens.cutting import JOINS, WORDS, Cutting
from weight_atlas.tokens.expressions import GPT2_EXPRESSION, KNOWN, Known
from weight_atlas.tokens.merges import Merges, key_table, merge_table
from weight_atlas.tokens.pieces import Words, words_to_find

META = "▁"
_TO_META = {"type": "Replace", "pattern": {"String": " "}, "content": META}
_NOTHING = np.zeros(0, np.int32)


class NotProven(Exception):
    """Why nothing is proven about a tokenizer."""


@dataclass(frozen=True)
class Model:
    """A BPE model: its merges, the id that each makes in the order of their ranks, and whether a space stands for ▁.

    whole: pieces that are tokens whatever the merges say (bytes of all, their lengths, ids); of none for most models.
    """

    merges: Merges
    by_rank: np.ndarray
    meta: bool
    whole: tuple[bytes, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How the pieces of texts are found and encoded.

    words: added tokens that are borders. left_out: those whose documents are encoded whole. composed: whether texts
    have to be in NFC, and plain: the characters that are. spaced: whether each stretch begins with a space that the
    text does not have. model: None where the library encodes the pieces.
    """

    cutting: Cutting
    words: Words
    left_out: Words
    composed: bool
    plain: np.ndarray
    spaced: bool
    model: Model | None


def plan_of(settings: dict[str, Any], added: dict[int, Any], *, special_as_text: bool = False) -> Plan:
    """The plan for a tokenizer; NotProven where there is none.

    settings: its tokenizer.json. added: its added tokens by id (Tokenizer.get_added_tokens_decoder). special_as_text:
    whether it reads special tokens as text (Tokenizer.encode_special_tokens).
    """
    if special_as_text:
        raise NotProven("special tokens are read as text")
    normalizers = _steps(settings["normalizer"], "normalizers")
    splits = _steps(settings["pre_tokenizer"], "pretokenizers")
    model = settings["model"]
    words, left_out = _added(added, normalizers)
    composed, spaced, run = False, False, None
    if model["type"] == "WordPiece" and splits == [{"type": "BertPreTokenizer"}]:
        if [each["type"] for each in normalizers] not in ([], ["BertNormalizer"]):
            raise NotProven("the normalizer is not known")
        cutting = _cutting(Known(WORDS))
    elif model["type"] != "BPE":
        raise NotProven(f"no way to cut is known for a model of type {model['type']}")
    elif splits and splits[-1]["type"] == "ByteLevel":
        composed = normalizers == [{"type": "NFC"}]
        if normalizers and not composed:
            raise NotProven("the normalizer is not known")
        cutting, run = _cutting(_expression(splits)), _model_of_bytes(model)
    else:
        meta, spaced = _meta(normalizers, splits)
        if spaced and any(" " in word for word in words):
            raise NotProven("an added token holds a space")
        cutting, run = _model_of_characters(model, meta)
    plain = plainly_composed() if composed else np.zeros(0, bool)
    return Plan(cutting, words_to_find(words), words_to_find(left_out), composed, plain, spaced, run)


def _steps(step: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer as the list of its steps."""
    if step is None:
        return []
    return [each for part in step[name] for each in _steps(part, name)] if step["type"] == "Sequence" else [step]


def _added(added: dict[int, Any], normalizers: list[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """Added tokens that are borders wherever they stand, and those whose documents are left to the library.

    Tokens that are looked for in normalized text come after the others; without a normalizer and without others, they
    are looked for in the text as it is.
    """
    later = {id: token for id, token in added.items() if token.normalized}
    if later and any(each["type"] not in ("NFC", "Replace", "Prepend") for each in normalizers):
        raise NotProven("added tokens are looked for in normalized text")
    if any(META in token.content or " " in token.content for token in later.values()) and normalizers:
        raise NotProven("an added token with a space is looked for in normalized text")
    later = later if normalizers or len(later) < len(added) else {}
    words: dict[str, int] = {}
    left_out: dict[str, int] = {}
    for id, token in added.items():
        awkward = id in later or token.single_word or token.lstrip or token.rstrip
        if token.content:
            (left_out if awkward else words)[token.content] = id
    return words, left_out


def _expression(splits: list[dict[str, Any]]) -> Known:
    """The known expression of a byte-level pre-tokenizer."""
    *before, last = splits
    if last.get("add_prefix_space", True):
        raise NotProven("a space is put before each text")
    if not all(each["type"] == "Split" and each["behavior"] == "Isolated" and not each["invert"] for each in before):
        raise NotProven("the pre-tokenizer is not known")
    expressions = tuple(each["pattern"].get("Regex", "") for each in before)
    if last.get("use_regex", True):
        expressions = (*expressions, GPT2_EXPRESSION)
    if expressions not in KNOWN:
        raise NotProven("the expression of the pre-tokenizer is not known")
    return KNOWN[expressions]


def _meta(normalizers: list[dict[str, Any]], splits: list[dict[str, Any]]) -> tuple[bool, bool]:
    """Whether spaces become ▁, and whether one is put before each stretch of text."""
    prepend = {"type": "Prepend", "prepend": META}
    meta, spaced = _TO_META in normalizers, normalizers == [prepend, _TO_META]
    if normalizers not in ([], [_TO_META], [prepend, _TO_META]):
        raise NotProven("the normalizer is not known")
    # Where no space is left, what splits at spaces does nothing.
    if not all(meta and each["type"] == "Split" and each["pattern"] == {"String": " "} for each in splits):
        raise NotProven("the pre-tokenizer is not known")
    return meta, spaced


def _check(model: dict[str, Any]) -> None:
    if model["dropout"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise NotProven("the BPE model has dropout, prefixes or suffixes")


def _model_of_bytes(model: dict[str, Any]) -> Model:
    _check(model)
    vocabulary = model["vocab"]
    alphabet = byte_alphabet()
    if not all(character in vocabulary for character in alphabet):
        raise NotProven("the BPE model does not know every byte")
    of_byte = np.array([vocabulary[character] for character in alphabet], np.int32)
    pairs, by_rank = _merges(vocabulary, *_pairs(model))
    whole = _whole(vocabulary, alphabet) if model.get("ignore_merges") else (b"", np.zeros(0, np.int64), _NOTHING)
    return Model(Merges(*pairs, of_byte, _NOTHING), by_rank, False, whole)


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2 has it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _whole(vocabulary: dict[str, int], alphabet: list[str]) -> tuple[bytes, np.ndarray, np.ndarray]:
    """All tokens as bytes, their lengths, and their ids: what a model that ignores merges takes a piece for at once."""
    byte_of = {ord(character): chr(byte) for byte, character in enumerate(alphabet)}
    known = set(alphabet)
    tokens = [token for token in vocabulary if token and known.issuperset(token)]
    lengths = np.array([len(token) for token in tokens], np.int64)
    content = "".join(tokens).translate(byte_of).encode("latin-1")
    return content, lengths, np.array([vocabulary[token] for token in tokens], np.int32)


def _pairs(model: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The first and the second part of each merge."""
    merges = model["merges"]
    pairs = [merge.split(" ") for merge in merges] if merges and isinstance(merges[0], str) else merges
    return [first for first, _ in pairs], [second for _, second in pairs]


def _merges(
    vocabulary: dict[str, int], first: list[str], second: list[str]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The table of merges, and the id that each makes."""
    ids = [
        np.array(list(map(vocabulary.__getitem__, words)), np.int64)
        for words in (first, second, map(operator.add, first, second))
    ]
    by_rank = ids[2].astype(np.int32)
    return merge_table(ids[0], ids[1], by_rank), by_rank


def _model_of_characters(model: dict[str, Any], meta: bool) -> tuple[Cutting, Model]:
    """A BPE model that gets whole texts; bytes stand for characters that it does not know."""
    _check(model)
    vocabulary, (first, second) = model["vocab"], _pairs(model)
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    if model.get("ignore_merges") or not model["byte_fallback"] or not all(name in vocabulary for name in names):
        raise NotProven("the BPE model does not know every byte")
    if meta and META not in vocabulary:
        raise NotProven(f"the BPE model does not know {META}")
    table, by_rank = _merges(vocabulary, first, second)
    of_byte = np.array([vocabulary[name] for name in names], np.int32)
    if not set(names).isdisjoint(first) or not set(names).isdisjoint(second):
        raise NotProven("bytes are merged")
    of_character = np.full(0x110000, -1, np.int32)
    single = [token for token in vocabulary if len(token) == 1]
    of_character[[ord(token) for token in single]] = [vocabulary[token] for token in single]
    cutting = _cutting(Known(JOINS), _joins(first, second), meta)
    return cutting, Model(Merges(*table, of_byte, of_character), by_rank, meta, (b"", np.zeros(0, np.int64), _NOTHING))


def _joins(first: list[str], second: list[str]) -> np.ndarray:
    """Keys of the pairs of characters at the inner borders of merges."""
    borders = set(zip((a[-1] for a in first), (b[0] for b in second), strict=True))
    return np.array([ord(last) << 21 | ord(following) for last, following in borders], np.int64)


def _cutting(known: Known, joins: np.ndarray = _NOTHING, meta: bool = False) -> Cutting:
    ascii_pairs = np.zeros((128, 128), np.uint8)
    first, second = joins >> 21, joins & 0x1FFFFF
    if meta:  # a space stands for ▁, which also stands for itself; a space of the model's own occurs in no text
        first, second = (
            np.where(each == ord(META), ord(" "), np.where(each == ord(" "), 0x200, each)) for each in (first, second)
        )
    small = (first < 128) & (second < 128)
    ascii_pairs[first[small], second[small]] = 1
    return Cutting(
        known.kind,
        known.digits,
        int(known.suffix),
        int(known.slash),
        character_classes(),
        key_table(joins),
        ascii_pairs,
        int(meta),
    )
