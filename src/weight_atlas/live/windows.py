"""Fixed windows of token ids over a corpus, and which of their tokens are scored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.errors import AtlasError, NotApplicable

# The window that published perplexities of this size of models use.
DEFAULT_WINDOW = 2048
# About as many stand for a token of ordinary text.
CHARACTERS_OF_A_TOKEN = 4


@dataclass(frozen=True)
class Windows:
    """Equally long pieces of one stream of tokens.

    ids: int64 (n_windows, length), each window beginning with `prefix` special tokens, as a rule the tokenizer's own
    (BOS). scored: bool (n_windows, length); a scored token is predicted from the tokens before it in its window, and is
    scored in exactly one window.
    """

    ids: torch.Tensor
    scored: torch.Tensor
    prefix: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> "Windows":
        """The first `count` windows."""
        return Windows(self.ids[:count], self.scored[:count], self.prefix)


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


def token_stream(corpus: pd.DataFrame, tokenizer: Any, tokens: int | None = None) -> np.ndarray:
    """Tokenize the documents of a corpus, joined by blank lines, into one int64 stream without special tokens.

    tokens: stop after that many; documents beyond are not read. The column `text` holds the documents.
    """
    texts = corpus["text"].tolist()
    taken = len(texts)
    if tokens is not None:
        # A token seldom has fewer than two characters; where it has, more documents are read.
        lengths = np.cumsum([len(text) + 2 for text in texts])
        taken = min(int(np.searchsorted(lengths, 2 * tokens)) + 1, len(texts))
    while True:
        ids = tokenizer("\n\n".join(texts[:taken]), add_special_tokens=False, verbose=False)["input_ids"]
        if tokens is None or len(ids) >= tokens or taken == len(texts):
            return np.asarray(ids[:tokens], dtype=np.int64)
        taken = min(2 * taken, len(texts))


def fixed_windows(
    stream: np.ndarray,
    *,
    window: int,
    stride: int | None = None,
    prefix: list[int] | None = None,
    limit: int | None = None,
    where: object = None,
) -> Windows:
    """Cut a stream into windows of `window` tokens, the prefix included, each starting `stride` new tokens on.

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
    body = stream[starts[:, None] + np.arange(content)]
    ids = np.concatenate([np.tile(np.asarray(prefix, np.int64), (count, 1)), body], axis=1)
    scored = np.zeros(ids.shape, bool)
    scored[0, len(prefix) :] = True
    scored[1:, window - stride :] = True
    # A window's first token has nothing before it to be predicted from.
    scored[:, 0] = False
    return Windows(torch.from_numpy(ids), torch.from_numpy(scored), len(prefix))


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
    the corpus, so that what is inferred from their differences holds for all of it, not for its beginning.
    """
    length = min(limit or DEFAULT_WINDOW, DEFAULT_WINDOW) if window is None else fitting(window, limit)
    drawn = drawn_over(corpus, seed=seed, characters=max(1, length * CHARACTERS_OF_A_TOKEN))
    return corpus_windows(drawn, tokenizer, window=length, tokens=tokens, limit=limit, where=where)


def drawn_over(corpus: pd.DataFrame, *, seed: int, characters: int) -> pd.DataFrame:
    """The documents of a corpus in random order, cut into passages of at most so many characters.

    Returns text, and document: the number of the row that it comes from. Passages end at white space where there is
    some within them.
    """
    passages = [(text, number) for number, each in enumerate(corpus["text"]) for text in _passages(each, characters)]
    order = np.random.default_rng(seed).permutation(len(passages))
    return pd.DataFrame([passages[number] for number in order], columns=["text", "document"])


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
    return fixed_windows(stream, window=window, prefix=prefix_ids(tokenizer), limit=limit, where=where)


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
