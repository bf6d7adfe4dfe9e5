"""Counting by distinct pieces: each is encoded once, and counted wherever it stands."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from weight_atlas.tokens.bpe import starts_of
from weight_atlas.tokens.characters import character_classes
from weight_atlas.tokens.merges import tally
from weight_atlas.tokens.piece_table import add_all, empty_pieces, enlarged, keep_only, together
from weight_atlas.tokens.pieces import BEGIN, cut, find, left_out, with_spaces
from weight_atlas.tokens.plan import Plan
from weight_atlas.tokens.tallies import Encode, Tally, count_whole, joined_tallies

# Pieces that are kept beside a model's own tokens, and their bytes: beyond, those that occurred once since the last
# time are forgotten, and of the others the later or longer ones, so that memory does not grow with the corpus. Less
# than a power of two, to which the table has room, by what a batch of documents brings.
MOST_PIECES, MOST_BYTES = 150_000, 1 << 24
_WHOLE, _COMPOSE = 1, 2


class DistinctPieces:
    """Counts documents by a plan, with the pieces that it knows already.

    encode: the library's, for documents and pieces that are left to it; compose: its NFC.
    """

    def __init__(self, plan: Plan, encode: Encode, compose: Any, vocabulary: int) -> None:
        self._plan, self._encode, self._compose, self._vocabulary = plan, encode, compose, vocabulary
        self._documents = 0
        self._seen = np.zeros(vocabulary, np.int64)
        self._counts, self._frequency = np.zeros((2, vocabulary), np.int64)
        self._touched = np.zeros(vocabulary, np.int64)
        # Pieces at first: those that are tokens by themselves.
        content, ends, ids = plan.model.whole
        most = 1 << max(16, (2 * len(ends)).bit_length())
        self._pieces = empty_pieces(most, max(1 << 20, 2 * len(content)))
        numbers = np.zeros(len(ends), np.int64)
        add_all(np.frombuffer(content, np.uint8), starts_of(ends), ends, self._pieces, numbers)
        self._known = int(self._pieces.used[0])
        self._ids = np.zeros(len(self._pieces.store), np.int32)
        self._ids[numbers] = ids
        self._id_starts = np.zeros(most + 1, np.int64)
        self._id_starts[: self._known + 1] = np.arange(self._known + 1)
        self._uses = np.zeros(most, np.int64)
        self._own = tuple(map(int, self._pieces.used))  # these pieces, and their bytes

    def _forget(self) -> None:
        """Forget the pieces that are seldom used where there are too many."""
        own, own_bytes = self._own
        count, size = map(int, self._pieces.used)
        if count - own <= MOST_PIECES and size - own_bytes <= MOST_BYTES:
            return
        again = own + np.flatnonzero(self._uses[own:count] > 1)[: MOST_PIECES // 2]
        lengths = self._pieces.lengths[again]
        shortest = np.argsort(lengths, kind="stable")
        again = again[shortest[np.cumsum(lengths[shortest], dtype=np.int64) <= MOST_BYTES // 2]]
        kept = np.concatenate([np.arange(own), np.sort(again)])
        lengths = np.diff(self._id_starts[: count + 1])[kept]
        together(self._ids, self._id_starts[kept], lengths)
        self._id_starts[1 : len(kept) + 1] = np.cumsum(lengths)
        keep_only(self._pieces, kept)
        self._uses[:] = 0
        self._known = len(kept)

    def count(self, texts: dict[str, list[str]]) -> dict[str, Tally]:
        """Count the documents of each group."""
        self._forget()
        groups = [group for group, some in texts.items() for _ in some]
        encoded = [text.encode() for some in texts.values() for text in some]
        whole, encoded = self._left_to_the_library(encoded)
        numbers, ends = self._cut(encoded)
        self._encode_new()
        row, counted = 0, {}
        for group, some in texts.items():
            rows = np.arange(row, row + len(some))
            row += len(some)
            mine = self._tally(numbers, ends, rows)
            others = [text for place, text in whole.items() if groups[place] == group] if whole else []
            counted[group] = (
                joined_tallies(mine, count_whole(others, self._encode, self._vocabulary)) if others else mine
            )
        return counted

    def _left_to_the_library(self, encoded: list[bytes]) -> tuple[dict[int, str], list[bytes]]:
        """Documents encoded whole, by their places, and the others at theirs, in NFC where the plan needs it."""
        flags = self._flags(encoded)
        whole, kept = {}, list(encoded)
        for place in np.flatnonzero(flags).tolist():
            text, kept[place] = encoded[place].decode(), b""
            if flags[place] == _COMPOSE and not self._has_word(encoded[place]):
                composed = self._compose.normalize_str(text).encode()
                if self._flags([composed])[0] != _WHOLE and not self._has_word(composed):
                    kept[place] = composed
                    continue
            whole[place] = text
        return whole, kept

    def _flags(self, encoded: Sequence[bytes]) -> np.ndarray:
        flags = np.zeros(len(encoded), np.int64)
        text, ends = _together(encoded)
        left_out(text, ends, self._plan.left_out, character_classes(), self._plan.plain, flags)
        return flags

    def _has_word(self, text: bytes) -> bool:
        content = np.frombuffer(text, np.uint8)
        return bool(find(content, 0, len(content), self._plan.words)[2] >= 0)

    def _cut(self, encoded: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the pieces of all documents, and where those of each document end."""
        plan = self._plan
        text, ends = _together(encoded)
        if plan.spaced:
            room, moved = np.empty(2 * len(text) + len(ends), np.uint8), np.zeros_like(ends)
            size = with_spaces(text, ends, plan.words, room, moved)
            room.setflags(write=False)  # as the text is otherwise: of another type, all would be compiled again
            text, ends = room[:size], moved
        numbers, out_ends = np.empty(len(text) + 1, np.int32), np.zeros_like(ends)
        state = np.array(BEGIN, np.int64)
        while not cut(text, ends, plan.cutting, plan.words, self._pieces, state, numbers, out_ends):
            self._pieces = enlarged(self._pieces)
        return numbers, out_ends

    def _encode_new(self) -> None:
        """Encode the pieces that are not known yet, each by the model or by the library."""
        count = int(self._pieces.used[0])
        ids, lengths = self._plan.model.encode(self._pieces, self._known)
        left = lengths < 0
        if left.any():
            others = list(self._encode(self._texts(self._known + np.flatnonzero(left))))
            lengths[left] = [len(each) for each in others]
            together = np.empty(lengths.sum(), np.int32)
            of_others = np.repeat(left, lengths)
            together[of_others] = [id for each in others for id in each]
            together[~of_others] = ids
            ids = together
        taken = int(self._id_starts[self._known])
        self._ids, self._id_starts = _with_room(self._ids, taken + len(ids)), _with_room(self._id_starts, count + 1)
        self._ids[taken : taken + len(ids)] = ids
        self._id_starts[self._known + 1 : count + 1] = taken + np.cumsum(lengths)
        self._uses = _with_room(self._uses, count)
        self._known = count

    def _texts(self, numbers: np.ndarray) -> list[str]:
        starts, lengths = self._pieces.starts[numbers].tolist(), self._pieces.lengths[numbers].tolist()
        store = self._pieces.store
        return [store[start : start + length].tobytes().decode() for start, length in zip(starts, lengths, strict=True)]

    def _tally(self, numbers: np.ndarray, ends: np.ndarray, rows: np.ndarray) -> Tally:
        first = self._documents + 1
        self._documents += len(rows)
        arrays = (self._uses, self._counts, self._frequency, self._seen, self._touched)
        found = tally(numbers, ends, rows, first, self._ids, self._id_starts, *arrays)
        ids = np.sort(self._touched[:found])
        tallied = Tally(ids, self._counts[ids], self._frequency[ids])
        self._counts[ids] = self._frequency[ids] = 0
        return tallied


def _together(encoded: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Documents one after the other, (n,) uint8, and where each ends."""
    ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def _with_room(array: np.ndarray, size: int) -> np.ndarray:
    if len(array) >= size:
        return array
    larger = np.zeros(max(size, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger
