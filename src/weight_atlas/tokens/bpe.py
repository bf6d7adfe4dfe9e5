"""BPE models of tokenizer.json as tables for compiled code."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from weight_atlas.tokens.merges import Merges, encode_pieces, joined_characters, merge_table
from weight_atlas.tokens.piece_table import Pieces, add_all, empty_pieces
from weight_atlas.tokens.plan import NONE_WHOLE, NotProven, Whole

META = "▁"
_NOTHING = np.zeros(0, np.int32)
_BETWEEN = 0xFF  # a byte that UTF-8 does not have


@dataclass(frozen=True)
class BytePairs:
    """A BPE model: its merges, the id that each makes in the order of their ranks, and whether a space stands for ▁."""

    merges: Merges
    by_rank: np.ndarray
    meta: bool
    whole: Whole

    def encode(self, pieces: Pieces, known: int) -> tuple[np.ndarray, np.ndarray]:
        """See plan.Model; every piece is encoded."""
        count, size = map(int, pieces.used)
        if count == known:
            return _NOTHING, np.zeros(0, np.int64)
        ids = np.empty(size - int(pieces.starts[known]), np.int32)
        lengths = np.empty(count - known, np.int64)
        taken = encode_pieces(pieces, known, self.merges, self.meta, self.by_rank, ids, lengths)
        return ids[:taken], lengths


def byte_pairs_of_bytes(model: dict[str, Any]) -> BytePairs:
    """A model whose characters stand for bytes; model: that of tokenizer.json."""
    _check(model)
    vocabulary = model["vocab"]
    alphabet = byte_alphabet()
    if not all(character in vocabulary for character in alphabet):
        raise NotProven("the BPE model does not know every byte")
    of_byte = np.array([vocabulary[character] for character in alphabet], np.int32)
    content, stops = _parts(model)
    numbers = _numbers(vocabulary, content, stops)
    whole = _whole(vocabulary, alphabet) if model.get("ignore_merges") else NONE_WHOLE
    return BytePairs(_merges(numbers, of_byte, _NOTHING), numbers[:, 2].copy(), False, whole)


def byte_pairs_of_characters(model: dict[str, Any], meta: bool) -> tuple[BytePairs, np.ndarray]:
    """A model that gets whole texts, and the keys of the pairs of characters at the inner borders of its merges.

    Bytes stand for characters that it does not know. meta: whether a space stands for ▁.
    """
    _check(model)
    vocabulary = model["vocab"]
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    if model.get("ignore_merges") or not model["byte_fallback"] or not all(name in vocabulary for name in names):
        raise NotProven("the BPE model does not know every byte")
    if meta and META not in vocabulary:
        raise NotProven(f"the BPE model does not know {META}")
    content, stops = _parts(model)
    numbers = _numbers(vocabulary, content, stops)
    of_byte = np.array([vocabulary[name] for name in names], np.int32)
    if np.isin(of_byte, numbers[:, :2]).any():
        raise NotProven("bytes are merged")
    of_character = np.full(0x110000, -1, np.int32)
    single = [token for token in vocabulary if len(token) == 1]
    of_character[[ord(token) for token in single]] = [vocabulary[token] for token in single]
    pairs = BytePairs(_merges(numbers, of_byte, of_character), numbers[:, 2].copy(), meta, NONE_WHOLE)
    return pairs, np.unique(joined_characters(content, stops[::2]))


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2 has it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _check(model: dict[str, Any]) -> None:
    if model["dropout"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise NotProven("the BPE model has dropout, prefixes or suffixes")


def _whole(vocabulary: dict[str, int], alphabet: list[str]) -> Whole:
    """All tokens as bytes: what a model that ignores merges takes a piece for at once."""
    byte_of = np.full(max(map(ord, alphabet)) + 2, -1, np.int16)  # the last: of all other characters
    byte_of[[ord(character) for character in alphabet]] = range(256)
    tokens = [token for token in vocabulary if token]
    points = np.frombuffer("".join(tokens).encode("utf-32-le"), np.uint32)
    content = byte_of[np.minimum(points, len(byte_of) - 1)]
    lengths = np.array(list(map(len, tokens)), np.int64)
    known = np.ones(len(tokens), bool)
    known[np.repeat(np.arange(len(tokens)), lengths)[content < 0]] = False
    content = content[np.repeat(known, lengths)].astype(np.uint8)
    ids = np.array([vocabulary[token] for token in tokens], np.int32)
    return Whole(content.tobytes(), np.cumsum(lengths[known]), ids[known])


def _parts(model: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The parts of all merges, first and second in turn, as bytes one after the other, and where each ends."""
    merges = model["merges"]
    together = bytes([_BETWEEN])
    if merges and isinstance(merges[0], str):
        content = together.join(map(str.encode, merges)).replace(b" ", together)
    else:
        content = together.join(map(str.encode, chain.from_iterable(merges)))
    # A part more ends where the content does.
    with_borders = np.frombuffer(content + together if merges else b"", np.uint8)
    borders = np.flatnonzero(with_borders == _BETWEEN)
    if len(borders) != 2 * len(merges):
        raise NotProven("merges are not pairs")
    return with_borders[with_borders != _BETWEEN], borders - np.arange(len(borders))


def _numbers(vocabulary: dict[str, int], content: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The ids of the first part, the second part, and the token of each merge, (n, 3) int32."""
    tokens = b"".join(map(str.encode, vocabulary))
    ends = np.cumsum([len(token.encode()) for token in vocabulary], dtype=np.int64)
    table = empty_pieces(1 << max(4, len(ends).bit_length()), len(tokens))
    add_all(np.frombuffer(tokens, np.uint8), starts_of(ends), ends, table, np.empty(len(ends), np.int64))
    first, second = stops[::2], stops[1::2]
    before = starts_of(stops)[::2]
    starts, ends = (np.stack(each, 1).reshape(-1) for each in ((before, first, before), (first, second, second)))
    numbers = np.empty(len(starts), np.int64)
    # What is no token is added to the table, as far as there is room.
    add_all(content, starts, ends, table, numbers)
    if ((numbers < 0) | (numbers >= len(vocabulary))).any():
        raise NotProven("the BPE model merges what is no token")
    ids = np.array(list(vocabulary.values()), np.int32)
    return ids[numbers].reshape(-1, 3)


def starts_of(ends: np.ndarray) -> np.ndarray:
    """Where pieces begin that lie one after the other."""
    return np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends


def _merges(numbers: np.ndarray, of_byte: np.ndarray, of_character: np.ndarray) -> Merges:
    first, second, made = numbers.T.copy()
    return Merges(*merge_table(first, second, made), of_byte, of_character)
