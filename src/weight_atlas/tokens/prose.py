"""Prose from Python source: the sentences of docstrings and other long string constants, without code and tables.

Nothing is imported or executed; the source is only parsed.
"""

import ast
import hashlib
import re
import textwrap
import warnings
from collections.abc import Iterator
from itertools import pairwise

SHORTEST_STRING = 80  # characters; shorter constants are messages and names rather than prose
SHORTEST_PARAGRAPH = 12  # words
LETTER_SHARE = 0.86  # letters and spaces among the characters of a paragraph
LOWER_CASE_SHARE = 0.6  # words that begin with a small letter

_WORD = re.compile(r"[A-Za-z][a-z']*")
_BLANK_LINE = re.compile(r"\n\s*\n")
_PARAMETER_LINE = re.compile(r"\s*[\w*, ]+ : ")  # numpydoc's "name : type"
_RULE_LINE = re.compile(r"\s*[-=~^\"*]{3,}\s*$")  # underlines of headings, borders of tables
_MARKUP_STARTS = (".. ", ":", "#", "$", "|", "+-", "==", "--", "@", "{", "[", "<")
_SENTENCE_ENDS = tuple(".!?:;)\"'")
# reStructuredText's inline markup, each with its replacement: the words without the marks.
_INLINE_MARKS = (
    (re.compile(r":[a-zA-Z:]+:`[~!.]*([^`<]*?)(?:\s*<[^`>]*>)?`"), r"\1"),  # :role:`text <target>`
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`([^`]*)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"\1"),
    (re.compile(r"\*([^*\s][^*]*)\*"), r"\1"),
)


def paragraphs(source: bytes) -> list[str]:
    """Return the prose paragraphs of one Python file, in order of appearance; none where it does not parse."""
    return [text for string in _long_strings(source) for block in _BLANK_LINE.split(string) if (text := _prose(block))]


def fingerprint(paragraph: str) -> bytes:
    """Return a hash that is equal for paragraphs with the same words, whatever their case, spacing and marks."""
    return hashlib.sha1(re.sub(r"\W+", "", paragraph.lower()).encode()).digest()


def _long_strings(source: bytes) -> Iterator[str]:
    """Yield the long string constants in order of line and column, dedented; parts of f-strings are left out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    constants: list[tuple[int, int, ast.Constant, str]] = []
    formatted: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) >= SHORTEST_STRING:
            constants.append((node.lineno, node.col_offset, node, node.value))
        elif isinstance(node, ast.JoinedStr):
            formatted.update(id(part) for part in ast.walk(node))
    for _, _, node, text in sorted(constants, key=lambda constant: constant[:2]):
        if id(node) not in formatted:
            yield textwrap.dedent(text)


def _prose(block: str) -> str | None:
    """Return a block of lines as one paragraph without markup, or None where it is not prose."""
    raw = " ".join(" ".join(_text_lines(block)).split())
    if ">>>" in raw or raw.startswith(_MARKUP_STARTS) or not raw.endswith(_SENTENCE_ENDS):
        return None
    for pattern, replacement in _INLINE_MARKS:
        raw = pattern.sub(replacement, raw)
    text = " ".join(raw.split())
    words = _WORD.findall(text)
    if len(words) < SHORTEST_PARAGRAPH:
        return None
    letters = sum(character.isalpha() or character == " " for character in text)
    lower_case = sum(word[0].islower() for word in words)
    return text if letters >= LETTER_SHARE * len(text) and lower_case >= LOWER_CASE_SHARE * len(words) else None


def _text_lines(block: str) -> Iterator[str]:
    """Yield the lines of a block without headings, the rules under and over them, and numpydoc's parameter lines."""
    lines = [*block.split("\n"), ""]
    for line, below in pairwise(lines):
        if not (_RULE_LINE.match(line) or _RULE_LINE.match(below) or _PARAMETER_LINE.match(line)):
            yield line
