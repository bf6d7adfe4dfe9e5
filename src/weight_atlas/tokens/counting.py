"""Exact counts of the tokens of a corpus."""

import gc
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from weight_atlas.errors import AtlasError, first_line, of_library
from weight_atlas.tokens.batches import Documents, by_group
from weight_atlas.tokens.counts import TokenCounts, added_up
from weight_atlas.tokens.tallies import Encode, Tally, count_whole

Counter: TypeAlias = Callable[[dict[str, list[str]]], dict[str, Tally]]
# Characters of a corpus below which encoding it whole is over before the tables of distinct pieces are made.
LEAST = 6_000_000
# Characters at the beginning of a corpus that are counted both ways.
SAMPLE = 1 << 17
# Rows of sparse counts that are kept before they are added up.
_ROWS = 1 << 17


def count_tokens(
    tokenizer: Any, batches: Iterable[Documents], vocabulary: int, *, file: Path | None = None
) -> TokenCounts:
    """Count the tokens of all documents: whole documents, no truncation, no special tokens added.

    tokenizer: one of transformers. batches: memory is bounded by the largest. vocabulary: number of ids, above the
    largest that the tokenizer gives. file: the tokenizer.json that it was read from, if it was. Of a large corpus, each
    distinct piece of text is encoded once, where the tokenizer proves that this is exact (proof.py), and after the
    beginning of the corpus gave the same counts both ways.
    """
    encode = encoder(tokenizer)

    def whole(texts: dict[str, list[str]]) -> dict[str, Tally]:
        return {group: count_whole(some, encode, vocabulary) for group, some in texts.items()}

    batches = iter(batches)
    first = _beginning(batches)
    large = sum(len(text) for batch in first for text in batch.texts) >= LEAST
    count: Counter = whole
    if large:
        with _no_garbage():
            count = _distinct_counter(tokenizer, encode, vocabulary, file, first, whole) or whole
    sums = _Sums()
    for batch in chain(first, batches):
        texts = by_group(batch)
        for group, tally in count(texts).items():
            sums.add(group, texts[group], tally)
    return sums.counts(vocabulary)


def _beginning(batches: Iterator[Documents]) -> list[Documents]:
    """The first batches, until they hold LEAST characters."""
    taken: list[Documents] = []
    left = LEAST
    while left > 0 and (batch := next(batches, None)):
        taken.append(batch)
        left -= sum(map(len, batch.texts))
    return taken


def encoder(tokenizer: Any) -> Encode:
    """Return the function from texts to ids: the Rust library's batch call where the tokenizer has one."""
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        print("this tokenizer runs text by text, many times slower than one with a tokenizer.json", flush=True)
        return lambda texts: (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    rust.no_truncation()
    rust.no_padding()

    def encode(texts: list[str]) -> Iterator[list[int]]:
        try:
            encodings = rust.encode_batch_fast(texts, add_special_tokens=False)
        except BaseException as error:
            # The library raises Exception itself, as for a text that needs an unknown token which there is none of.
            message = _not_encoded(error) if type(error) is Exception else of_library(error)
            if message is None:
                raise
            raise message from error
        return (encoding.ids for encoding in encodings)

    return encode


def _not_encoded(error: Exception) -> AtlasError:
    return AtlasError(
        f"the tokenizer cannot encode a text: {first_line(error)[:200]}",
        where="tokenizer.json",
        remedy="take the model's own tokenizer, with all of its tokens",
    )


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Let Python's collector rest: a vocabulary is a million objects, which it would look through many times."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _distinct_counter(
    tokenizer: Any, encode: Encode, vocabulary: int, file: Path | None, first: list[Documents], whole: Counter
) -> Counter | None:
    """The counter that encodes each distinct piece once; None where that is not proven exact, or was found wrong."""
    from tokenizers.normalizers import NFC

    from weight_atlas.tokens.distinct import DistinctPieces
    from weight_atlas.tokens.plan import NotProven
    from weight_atlas.tokens.proof import plan_of

    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None:
        return None
    settings = json.loads(file.read_bytes() if file else rust.to_str())
    if file and settings["model"]["type"] == "Unigram":  # scores as the library read them, which it rounds its own way
        settings = json.loads(rust.to_str())
    try:
        plan = plan_of(settings, rust.get_added_tokens_decoder(), special_as_text=rust.encode_special_tokens)
    except NotProven as reason:
        print(f"documents are encoded whole: {reason}", flush=True)
        return None
    counter = DistinctPieces(plan, encode, NFC(), vocabulary)
    sample = {"": _sample(first)}
    if not all(map(np.array_equal, counter.count(sample)[""], whole(sample)[""])):
        print("documents are encoded whole: cut into pieces, they would give other tokens", flush=True)
        return None
    return counter.count


def _sample(batches: list[Documents]) -> list[str]:
    texts, left = [], SAMPLE
    for text in chain.from_iterable(batch.texts for batch in batches):
        if left <= 0:
            break
        texts.append(text[:left])
        left -= len(text)
    return texts


def words_in(texts: list[str]) -> int:
    """Words of some texts, between white space, as str.split() finds them."""
    plain = "\n".join(filter(str.isascii, texts)).encode()
    return _ascii_words(plain) + sum(len(text.split()) for text in texts if not text.isascii())


def _ascii_words(text: bytes) -> int:
    codes = np.frombuffer(text, np.uint8)
    white = (codes - 9 < 5) | (codes - 28 < 5)  # \t to \r and \x1c to the space: what lies below wraps around
    return int(np.count_nonzero(white[:-1] > white[1:])) + int(len(white) > 0 and not white[0])


class _Sums:
    """Sums over batches: of each group, and of each token in it."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._sizes: list[list[int]] = []
        self._tallies: list[pd.DataFrame] = []
        self._held = 0

    def add(self, group: str, texts: list[str], tally: Tally) -> None:
        row = self._rows.setdefault(group, len(self._rows))
        if row == len(self._sizes):
            self._sizes.append([0, 0, 0])
        size = self._sizes[row]
        size[0] += len(texts)
        size[1] += sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        size[2] += words_in(texts)
        ids, counts, documents = tally
        self._tallies.append(
            pd.DataFrame({"group": np.full(len(ids), row), "id": ids, "count": counts, "document_frequency": documents})
        )
        self._held += len(ids)
        if self._held > _ROWS:
            self._tallies = [added_up(self._tallies)]
            self._held = len(self._tallies[0]) // 2  # so that adding up stays rare where groups hold many tokens

    def counts(self, vocabulary: int) -> TokenCounts:
        names = sorted(self._rows)
        order = np.array([self._rows[name] for name in names], np.int64)
        sizes = np.array(self._sizes, np.int64).reshape(-1, 3)[order]
        columns = dict(zip(("documents", "bytes", "words"), sizes.T, strict=True))
        long = added_up(self._tallies)
        row_of = np.empty(len(order), np.int64)
        row_of[order] = np.arange(len(order))
        long = added_up([long.assign(group=row_of[long["group"].to_numpy()])] if len(long) else [])
        groups = pd.DataFrame({"group": pd.Series(names, dtype=object), **columns})
        return TokenCounts(groups, long, vocabulary)
