"""Words and passages of a text in any script: what the bundled tasks are made of.

A word is a piece between spaces. In scripts that put no spaces between words, such as Chinese, Japanese, Thai and
Khmer, each character with its marks counts as one.
"""

import math
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import regex

SHORTEST, LONGEST = 30, 110  # words of a passage that is taken
BLANK_LINE = re.compile(r"\n\s*\n")
_UNSPACED = "".join(
    rf"\p{{Script={script}}}"
    for script in (
        "Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Balinese", "Javanese", "Tai_Le",
        "New_Tai_Lue", "Tai_Tham",
    )
)  # fmt: skip
_PIECES = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[^{_UNSPACED}]+")
_LETTERS = regex.compile(rf"(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}])+")


def words(text: str) -> list[str]:
    """Return the words of a text, each with a space before it where the text has any: `joined` puts them together."""
    found = []
    for run in text.split():
        first, *others = [run] if run.isascii() else _PIECES.findall(run)
        found += [f" {first}", *others]
    return found


def joined(some_words: Iterable[str]) -> str:
    """Return words as a text, with one space where their text has spaces."""
    return "".join(some_words).strip()


def is_plain(word: str) -> bool:
    """Say whether a word is made of letters alone, of a script that puts spaces between words."""
    return _LETTERS.fullmatch(word) is not None


def passages(texts: Iterable[str], wanted: float) -> list[str]:
    """Return passages of SHORTEST to LONGEST words from texts, each once.

    These are the paragraphs, which blank lines part. Only where fewer fit than are wanted, the others are made to fit:
    short ones put together, long ones cut, at ends of lines if there are any.
    """
    paragraphs = [BLANK_LINE.split(text) for text in texts]
    fitting = dict.fromkeys(piece for pieces in paragraphs for piece in pieces if _fits(piece))
    if len(fitting) < wanted:
        fitting |= dict.fromkeys(block for pieces in paragraphs for block in _blocks(pieces))
    return list(fitting)


def as_documents(corpus: pd.DataFrame) -> pd.DataFrame:
    """Return each passage of a corpus as a document of its own: for corpora of one long text."""
    pieces = passages(corpus.text, wanted=math.inf)
    return pd.DataFrame({"document": np.arange(len(pieces)), "text": pieces})


def _fits(piece: str) -> bool:
    return SHORTEST <= len(words(piece)) <= LONGEST


def _blocks(pieces: list[str]) -> Iterator[str]:
    """Yield what does not fit of a document's paragraphs, as blocks that do."""
    block: list[str] = []
    size = 0
    for line in (line for piece in pieces if not _fits(piece) for line in _lines(piece)):
        length = len(words(line))
        if size + length > LONGEST:
            if size >= SHORTEST:
                yield "\n".join(block)
            block, size = [], 0
        block.append(line)
        size += length
        if size >= 2 * SHORTEST:
            yield "\n".join(block)
            block, size = [], 0
    if size >= SHORTEST:
        yield "\n".join(block)


def _lines(piece: str) -> Iterator[str]:
    """Yield the lines of a paragraph; one of more words than a passage may have is cut into parts of like length."""
    for line in piece.split("\n"):
        found = words(line)
        if len(found) <= LONGEST:
            yield line
            continue
        for places in np.array_split(np.arange(len(found)), -(-len(found) // LONGEST)):
            yield joined(found[places[0] : places[-1] + 1])
