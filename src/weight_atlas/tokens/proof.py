"""What a tokenizer.json proves about where texts can be cut, so that each distinct piece is encoded once.

The library takes added tokens out of a text, normalizes each stretch between them, splits it (pre-tokenizer), and
encodes each piece by itself (model). A plan follows these four steps exactly, or there is none:

- added tokens that are taken as they stand are borders; documents with others are encoded whole;
- of normalizers, only those count here that do nothing to a piece that they would not do to it in its text;
- the pre-tokenizer is one whose expression is known, so that pieces are exactly its own; or, for a BPE model that gets
  whole texts, pieces end where no merge of the model has the two characters at the border as its own inner border; or,
  for a Unigram model, before gaps that begin a piece of the pre-tokenizer;
- the model is BPE that knows every byte, WordPiece or Unigram, and is run here; for the last two the library encodes
  what is not of ASCII.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from weight_atlas.tokens.bpe import META, byte_pairs_of_bytes, byte_pairs_of_characters
from weight_atlas.tokens.characters import character_classes, plainly_composed
from weight_atlas.tokens.cutting import JOINS, WORDS, WORDS_WITH_GAPS, Cutting, plain_bytes
from weight_atlas.tokens.expressions import GPT2_EXPRESSION, KNOWN, Known
from weight_atlas.tokens.merges import key_table
from weight_atlas.tokens.pieces import words_to_find
from weight_atlas.tokens.plan import Model, NotProven, Plan
from weight_atlas.tokens.unigram import unigram
from weight_atlas.tokens.word_pieces import word_pieces

_TO_META = {"type": "Replace", "pattern": {"String": " "}, "content": META}
_NOTHING = np.zeros(0, np.int64)


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
    composed = spaced = False
    run: Model
    if model["type"] == "WordPiece" and splits == [{"type": "BertPreTokenizer"}]:
        cutting, run = _cutting(Known(WORDS)), word_pieces(model, normalizers)
    elif model["type"] == "Unigram":
        run, classes = unigram(model, normalizers, splits, _normalizer(settings["normalizer"]))
        cutting = _cutting(Known(WORDS_WITH_GAPS))._replace(classes=classes)
        # What stands beside an added token begins a text for Metaspace, or not.
        words, left_out = {}, words | left_out
    elif model["type"] != "BPE":
        raise NotProven(f"no way to cut is known for a model of type {model['type']}")
    elif splits and splits[-1]["type"] == "ByteLevel":
        composed = normalizers == [{"type": "NFC"}]
        if normalizers and not composed:
            raise NotProven("the normalizer is not known")
        cutting, run = _cutting(_expression(splits)), byte_pairs_of_bytes(model)
    else:
        meta, spaced = _meta(normalizers, splits)
        if spaced and any(" " in word for word in words):
            raise NotProven("an added token holds a space")
        run, joins = byte_pairs_of_characters(model, meta)
        cutting = _cutting(Known(JOINS), joins, meta)
    plain = plainly_composed() if composed else np.zeros(0, bool)
    return Plan(cutting, words_to_find(words), words_to_find(left_out), composed, plain, spaced, run)


def _normalizer(step: dict[str, Any] | None) -> Callable[[str], str]:
    """What a normalizer does to a text."""
    from tokenizers import Tokenizer

    model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    normalizer = Tokenizer.from_str(json.dumps({"version": "1.0", "normalizer": step, "model": model})).normalizer
    return normalizer.normalize_str if normalizer else str


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
        plain_bytes(known.kind),
    )
