"""Fixed windows of token ids over a corpus, and which of their tokens are scored."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.errors import AtlasError, NotApplicable

# The window that published perplexities of this size of models use.
DEFAULT_WINDOW = 2048
# About as many stand for a token of ordinary text.
CHARACTERS_OF_A_TOKEN = 4
# What stands between two documents.
BETWEEN = "\n\n"
# Intervals from fewer documents than this would be too wide to say anything: windows are resampled then.
FEWEST_DOCUMENTS = 8


@dataclass(frozen=True)
class Windows:
    """Equally long pieces of one stream of tokens.

    ids: int64 (n_windows, length), each window beginning with `prefix` special tokens, as a rule the tokenizer's own
    (BOS). scored: bool (n_windows, length); a scored token is predicted from the tokens before it in its window, and is
    scored in exactly one window. documents: int64 (n_windows,), what is resampled as one: the document that most of a
    window's scored tokens are from. None, for text of too few documents: each window by itself.
    """

    ids: torch.Tensor
    scored: torch.Tensor
    prefix: int = 0
    documents: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def units(self) -> np.ndarray:
        """Numbers of the documents, or of the windows where there are none, (n_windows,)."""
        return np.arange(len(self)) if self.documents is None else self.documents

    def part(self, start: int, end: int) -> "Windows":
        """The windows from one number up to another, with the units that they have among all."""
        return Windows(self.ids[start:end], self.scored[start:end], self.prefix, self.units[start:end])

    def first(self, count: int) -> "Windows":
        """The first `count` windows."""
        return self.part(0, count)

    def scoring(self, scored: torch.Tensor) -> "Windows":
        """The same windows with other tokens scored."""
        return replace(self, scored=scored)

    def said(self) -> str:
        """What is measured on, for a sentence."""
        count = len(np.unique(self.units))
        units = f"{count} documents" if self.documents is not None else "a text without enough documents"
        return f"{int(self.scored.sum())} tokens of {units}, in windows of {self.ids.shape[1]}"


def prefix_ids(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer itself puts before a text: [BOS], two tokens for some, often none."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    special = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = [start for start in range(len(special) - len(plain) + 1) if special[start : start + len(plain)] == plain]
    return list(special[: starts[0]]) if starts else []


def prefix_by(tokenizer: Any, bos: str) -> list[int]:
    """The special tokens to put before a window by a policy: what the tokenizer itself does, a BOS always, or never.

    bos: tokenizer, always or never. A tokenizer that has no BOS, and is always to put one, is an AtlasError.
    """
    own, start = prefix_ids(tokenizer), getattr(tokenizer, "bos_token_id", None)
    match bos:
        case "tokenizer":
            return own
        case "never":
            return []
        case "always" if start in own:
            return own
        case "always" if start is not None:
            return [start, *own]
        case "always":
            raise AtlasError(
                "the tokenizer has no BOS token", where="bos: always", remedy="set bos to tokenizer or never"
            )
    raise AtlasError(f"{bos!r} is no policy", where="bos", remedy="give tokenizer, always or never")


@dataclass(frozen=True)
class Stream:
    """Token ids, int64 (n,), and the number of the document that each is from, int64 (n,)."""

    ids: np.ndarray
    documents: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def token_stream(corpus: pd.DataFrame, tokenizer: Any, tokens: int | None = None) -> Stream:
    """Tokenize the documents of a corpus, joined by blank lines, into one stream without special tokens.

    tokens: stop after that many; documents beyond are not read. The column `text` holds the documents, or passages of
    them, and `row`, if there, the numbers of the documents that these are from.
    """
    texts = corpus["text"].tolist()
    numbers = corpus["row"].to_numpy(np.int64) if "row" in corpus else np.arange(len(corpus))
    taken = len(texts)
    if tokens is not None:
        # A token seldom has fewer than two characters; where it has, more documents are read.
        lengths = np.cumsum([len(text) + len(BETWEEN) for text in texts])
        taken = min(int(np.searchsorted(lengths, 2 * tokens)) + 1, len(texts))
    while True:
        places = {"return_offsets_mapping": True} if tokenizer.is_fast else {}
        encoded = tokenizer(BETWEEN.join(texts[:taken]), add_special_tokens=False, verbose=False, **places)
        ids = np.asarray(encoded["input_ids"][:tokens], dtype=np.int64)
        if tokens is None or len(ids) == tokens or taken == len(texts):
            return Stream(ids, numbers[_owners(encoded, texts[:taken], tokenizer, len(ids))])
        taken = min(2 * taken, len(texts))


def _owners(encoded: Any, texts: list[str], tokenizer: Any, count: int) -> np.ndarray:
    """Which of the joined texts each token is from, the blank line behind a text counted to it."""
    if tokenizer.is_fast:
        begins = np.asarray([start for start, _ in encoded["offset_mapping"][:count]], dtype=np.int64)
        ends = np.cumsum([len(text) + len(BETWEEN) for text in texts])
    else:
        # Without places of tokens in the text: as many as each text has alone.
        begins = np.arange(count)
        alone = [tokenizer(text + BETWEEN, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
        ends = np.cumsum([len(each) for each in alone])
    return np.minimum(np.searchsorted(ends, begins, side="right"), len(texts) - 1)


def fixed_windows(
    stream: np.ndarray,
    *,
    documents: np.ndarray | None = None,
    window: int,
    stride: int | None = None,
    prefix: list[int] | None = None,
    limit: int | None = None,
    where: object = None,
) -> Windows:
    """Cut a stream into windows of `window` tokens, the prefix included, each starting `stride` new tokens on.

    documents: the number of the document that each token is from; None: each window is a unit of its own.
    stride: new tokens a window scores; by default all its tokens but the prefix, so that windows do not overlap.
    Every token is scored once, except a rest shorter than a stride and, where there is no prefix, what has nothing
    before it: the first token of all or, if windows do not overlap, the first of each. limit: the model's longest
    context. Raises AtlasError where no window fits, naming the largest that would.
    """
    prefix = list(prefix or [])
    content = window - len(prefix)
    stride = content if stride is None else stride
    _check(len(stream), window, stride, len(prefix), limit, where)
    count = 1 + (len(stream) - content) // stride
    starts = np.arange(count) * stride
    places = starts[:, None] + np.arange(content)
    body = stream[places]
    ids = np.concatenate([np.tile(np.asarray(prefix, np.int64), (count, 1)), body], axis=1)
    scored = np.zeros(ids.shape, bool)
    scored[0, len(prefix) :] = True
    scored[1:, window - stride :] = True
    # A window's first token has nothing before it to be predicted from.
    scored[:, 0] = False
    owners = None if documents is None else _owners_of(documents[places[:, content - stride :]])
    return Windows(torch.from_numpy(ids), torch.from_numpy(scored), len(prefix), owners)


def _owners_of(of_tokens: np.ndarray) -> np.ndarray | None:
    """The document that most tokens of each window are from, (n_windows,); None if all are from too few documents."""
    most = np.asarray([np.bincount(row).argmax() for row in of_tokens], dtype=np.int64)
    return most if len(np.unique(most)) >= FEWEST_DOCUMENTS else None


def drawn_windows(
    corpus: pd.DataFrame,
    tokenizer: Any,
    *,
    window: int | None,
    tokens: int | None,
    limit: int | None,
    where: object,
    seed: int,
) -> Windows:
    """Windows over `tokens` tokens of passages drawn at random from all over a corpus; see corpus_windows.

    A passage is a document, or a piece of a long one of about a window: windows are then nearly independent draws from
    the corpus, so that what is inferred from their differences holds for all of it, not for its beginning. tokens: None
    takes the whole corpus, in its order.
    """
    length = min(limit or DEFAULT_WINDOW, DEFAULT_WINDOW) if window is None else window
    texts = corpus if tokens is None else drawn_over(corpus, seed=seed, window=length)
    return corpus_windows(texts, tokenizer, window=length, tokens=tokens, limit=limit, where=where)


def drawn_over(corpus: pd.DataFrame, *, seed: int, window: int) -> pd.DataFrame:
    """The documents of a corpus cut into passages of at most about `window` tokens, in random order.

    Returns text, and row: the number of the document in the corpus that it comes from. Passages end at white space
    where there is some within them.
    """
    characters = max(1, window * CHARACTERS_OF_A_TOKEN)
    passages = [(text, number) for number, each in enumerate(corpus["text"]) for text in _passages(each, characters)]
    order = np.random.default_rng(seed).permutation(len(passages))
    return pd.DataFrame([passages[number] for number in order], columns=["text", "row"])


def _passages(text: str, characters: int) -> Iterator[str]:
    start = 0
    while len(text) - start > characters:
        end = start + characters
        while end > start and not text[end].isspace():
            end -= 1
        end = end if end > start else start + characters
        yield text[start:end]
        start = end
    yield text[start:]


def corpus_windows(
    corpus: pd.DataFrame, tokenizer: Any, *, window: int | None, tokens: int | None, limit: int | None, where: object
) -> Windows:
    """Windows over the first `tokens` tokens of a corpus (all of them if None), without overlap.

    window: None takes the model's longest context (`limit`), at most 2048.
    """
    window = min(limit or DEFAULT_WINDOW, DEFAULT_WINDOW) if window is None else window
    stream = token_stream(corpus, tokenizer, tokens)
    return fixed_windows(
        stream.ids, documents=stream.documents, window=window, prefix=prefix_ids(tokenizer), limit=limit, where=where
    )


def fitting(window: int, limit: int | None) -> int:
    """A default window for a model whose context (`limit`) may be shorter."""
    return window if limit is None else min(window, limit)


def _check(available: int, window: int, stride: int, n_prefix: int, limit: int | None, where: object) -> None:
    if limit is not None and window > limit:
        raise NotApplicable(
            f"windows of {window} tokens exceed the model's context of {limit}",
            where=where,
            remedy=f"set window to {limit} or less",
        )
    content = window - n_prefix
    if content < 2 or not 1 <= stride <= content:
        raise AtlasError(
            f"window {window} and stride {stride} make no windows",
            where=where,
            remedy=f"window must exceed {n_prefix + 1} and stride lie between 1 and window - {n_prefix}",
        )
    if available < content:
        raise AtlasError(
            f"the corpus is too short: {available} tokens, but one window of {window} takes {content}",
            where=where,
            remedy=f"set window to {available + n_prefix} or less, or give more text"
            if available >= 2
            else "give more text",
        )
