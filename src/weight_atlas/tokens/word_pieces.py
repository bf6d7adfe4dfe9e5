"""WordPiece models of tokenizer.json as tables for compiled code."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from weight_atlas.tokens.piece_table import Pieces
from weight_atlas.tokens.plan import NONE_WHOLE, NotProven, Whole
from weight_atlas.tokens.tries import Trie, trie_of
from weight_atlas.tokens.word_piece_kernels import encode_words


@dataclass(frozen=True)
class WordPieces:
    """A WordPiece model.

    trie: tokens at the beginning of a word from root 0 on, those that go on in it from root 1. most: characters of a
    word that is not unknown. lower: whether capitals become small ones.
    """

    trie: Trie
    most: int
    lower: bool
    whole: Whole = NONE_WHOLE

    def encode(self, pieces: Pieces, known: int) -> tuple[np.ndarray, np.ndarray]:
        """See plan.Model; the library encodes what is not of ASCII, and what is unknown."""
        count, size = map(int, pieces.used)
        ids = np.empty(size - int(pieces.starts[known]) if count > known else 0, np.int32)
        lengths = np.empty(count - known, np.int64)
        return ids[: encode_words(pieces, known, self.trie, self.most, self.lower, ids, lengths)], lengths


def word_pieces(model: dict[str, Any], normalizers: list[dict[str, Any]]) -> WordPieces:
    """The model of a tokenizer that normalizes like BERT's or not at all; model: that of tokenizer.json."""
    if [each["type"] for each in normalizers] not in ([], ["BertNormalizer"]):
        raise NotProven("the normalizer is not known")
    prefix, vocabulary = model["continuing_subword_prefix"], model["vocab"]
    first = {token: id for token, id in vocabulary.items() if token}
    later = {token[len(prefix) :]: id for token, id in first.items() if token.startswith(prefix) and token != prefix}
    ids = np.array([*first.values(), *later.values()], np.int32)
    roots = np.repeat([0, 1], [len(first), len(later)])
    lower = any(each["lowercase"] for each in normalizers)
    return WordPieces(
        trie_of([*map(str.encode, (*first, *later))], ids, roots), model["max_input_chars_per_word"], lower
    )
