"""How the documents of a corpus are cut into pieces and encoded: what proof.py finds, and distinct.py follows."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from weight_atlas.tokens.cutting import Cutting
from weight_atlas.tokens.piece_table import Pieces
from weight_atlas.tokens.pieces import Words


class NotProven(Exception):
    """Why nothing is proven about a tokenizer."""


class Whole(NamedTuple):
    """Pieces that are tokens whatever the model does: the bytes of all, where each ends, and its id."""

    content: bytes
    ends: np.ndarray
    ids: np.ndarray


NONE_WHOLE = Whole(b"", np.zeros(0, np.int64), np.zeros(0, np.int32))


class Model(Protocol):
    """A model that encodes pieces here, not by the library."""

    @property
    def whole(self) -> Whole:
        """Pieces that need no encoding."""
        ...

    def encode(self, pieces: Pieces, known: int) -> tuple[np.ndarray, np.ndarray]:
        """Encode the pieces from number `known` on: ids one piece after the other, and how many each has.

        int32 and int64; -1 for pieces that are left to the library, which have no ids.
        """
        ...


@dataclass(frozen=True)
class Plan:
    """How the pieces of texts are found and encoded.

    words: added tokens that are borders. left_out: those whose documents are encoded whole. composed: whether texts
    have to be in NFC, and plain: the characters that are. spaced: whether each stretch begins with a space that the
    text does not have. model: what encodes the pieces.
    """

    cutting: Cutting
    words: Words
    left_out: Words
    composed: bool
    plain: np.ndarray
    spaced: bool
    model: Model
