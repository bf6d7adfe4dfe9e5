"""Unigram models of tokenizer.json: where their texts can be cut, and their tables for compiled code.

A model is run on each piece that Metaspace splits off, which begins with ▁ where a space was. Texts are cut before a
gap, a run of ASCII's white space between two of its other characters, where every step of the normalizer does the same
to both sides alone as together, leaves these characters as they are, and makes the gap begin with what becomes ▁. Where
nothing splits off pieces, the best path is one through the whole text, whose sums, and so whose choice between paths
that are as good, depend on all that stands before: there no way to cut is known.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from weight_atlas.tokens.bpe import META
from weight_atlas.tokens.characters import GAP, SOLID, character_classes
from weight_atlas.tokens.piece_table import Pieces
from weight_atlas.tokens.plan import NONE_WHOLE, NotProven, Whole
from weight_atlas.tokens.tries import Trie, trie_of
from weight_atlas.tokens.unigram_kernels import encode_best

VISIBLE = [chr(byte) for byte in range(0x21, 0x7F)]
GAPS = " \t\n\x0b\x0c"
# Steps that take characters, or characters with the marks on them, one by one.
_LOCAL = ("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "StripAccents")
# Expressions that match runs of white space, and those that match one character.
_RUNS = (" {2,}", " +", r"\s+", r"\s{2,}")
_ONE_CHARACTER = re.compile(r"\\s|\\p\{\w+\}|\[\^?(?:\\u[0-9A-Fa-f]{4}|\\[pP]\{\w+\}|\\[nrtfvs]|[^\[\]\\&])+\]")
_UNKNOWN_PENALTY = 10.0  # below the lowest score


@dataclass(frozen=True)
class Unigram:
    """A Unigram model.

    scores: of each id. unknown: the id of what is unknown, of score unknown_score. classes: those of characters, with
    the gaps. collapsed: whether a gap is one ▁, however long. prefixed: whether a text that begins with no gap gets
    one. own: whether pieces are encoded here.
    """

    trie: Trie
    scores: np.ndarray
    unknown: int
    unknown_score: float
    classes: np.ndarray
    collapsed: bool
    prefixed: bool
    own: bool
    whole: Whole = NONE_WHOLE

    def encode(self, pieces: Pieces, known: int) -> tuple[np.ndarray, np.ndarray]:
        """See plan.Model; the library encodes what is not of ASCII, and what is unknown."""
        count, size = map(int, pieces.used)
        if count == known or not self.own:
            return np.zeros(0, np.int32), np.full(count - known, -1, np.int64)
        ids = np.empty(size - int(pieces.starts[known]) + count - known, np.int32)
        lengths = np.empty(count - known, np.int64)
        unknown = (self.unknown, self.unknown_score, self.classes, self.collapsed, self.prefixed)
        return ids[: encode_best(pieces, known, self.trie, self.scores, *unknown, ids, lengths)], lengths


def unigram(
    model: dict[str, Any],
    normalizers: list[dict[str, Any]],
    splits: list[dict[str, Any]],
    normalize: Callable[[str], str],
) -> tuple[Unigram, np.ndarray]:
    """The model of a tokenizer, and the classes of characters with the gaps; NotProven where texts cannot be cut.

    model: that of tokenizer.json as the library writes it: reading a score, it may round otherwise. normalize: what the
    normalizer does to a text.
    """
    scheme = _scheme(splits)
    for step in normalizers:
        _check(step)
    if any(normalize(each) != each for each in VISIBLE):
        raise NotProven("the normalizer changes characters of ASCII")
    gaps = _gaps(normalize)
    split_at_spaces = len(splits) > 1
    widths = {len(normalize(f"a{first}{second}b")) - 2 for first in gaps for second in gaps}
    collapsed = split_at_spaces or widths == {1}
    classes = character_classes().copy()
    classes[[ord(gap) for gap in gaps]] |= GAP
    classes[[ord(each) for each in _solid(normalizers, gaps, normalize, split_at_spaces)]] |= SOLID
    own = not any(_joins_visible(each) for each in normalizers) and (collapsed or widths == {2})
    return _unigram(model, classes, collapsed, scheme != "never", own), classes


def _gaps(normalize: Callable[[str], str]) -> list[str]:
    """White space of ASCII that becomes a space or ▁; without \\r, which the rules of a normalizer join with a \\n."""
    gaps = [gap for gap in GAPS if normalize(f"a{gap}b") in ("a b", f"a{META}b")]
    if " " not in gaps:
        raise NotProven("the normalizer changes spaces")
    return gaps


def _solid(
    normalizers: list[dict[str, Any]], gaps: list[str], normalize: Callable[[str], str], split_at_spaces: bool
) -> list[str]:
    """Characters of ASCII beside which a gap is a border: that stay as they are, and are white space for no step."""
    strict = split_at_spaces or any(each["type"] == "Strip" or _pattern(each).startswith(r"\s") for each in normalizers)
    others = [] if strict else [chr(byte) for byte in (*range(0x20), 0x7F) if chr(byte) not in (*gaps, "\r")]
    # A step may take \r and \n as one.
    return VISIBLE + [each for each in others if all(normalize(text) == text for text in (f"a{each}b", f"a\r{each}b"))]


def _pattern(step: dict[str, Any]) -> str:
    """The expression of a step that replaces by one, else ""."""
    return str(step["pattern"].get("Regex", "")) if step["type"] == "Replace" else ""


def _scheme(splits: list[dict[str, Any]]) -> str:
    """When Metaspace puts a ▁ before a text: always, first, or never."""
    *before, last = splits or [{"type": "nothing"}]
    if last["type"] != "Metaspace" or last["replacement"] != META or not last.get("split", True):
        raise NotProven("no pieces are split off before the Unigram model")
    scheme = last.get("prepend_scheme", "always" if last.get("add_prefix_space", True) else "never")
    if before and ([each["type"] for each in before] != ["WhitespaceSplit"] or scheme != "always"):
        raise NotProven("the pre-tokenizer is not known")
    return str(scheme)


def _check(step: dict[str, Any]) -> None:
    """NotProven for a step that could do otherwise to two sides of a gap than to both together."""
    known = step["type"] in _LOCAL or (step["type"] == "Strip" and not step["strip_left"])
    if step["type"] == "Replace":
        pattern, content = next(iter(step["pattern"].values())), step["content"]
        if "Regex" in step["pattern"]:
            known = bool(_ONE_CHARACTER.fullmatch(pattern)) or (pattern in _RUNS and content in (" ", META))
        else:
            visible = bool(content) and not re.search(rf"[\s{META}]", pattern + content)
            known = len(pattern) == 1 or visible
    if not known:
        raise NotProven("the normalizer is not known")


def _joins_visible(step: dict[str, Any]) -> bool:
    """Whether a step can change several visible characters that it leaves alone one by one."""
    return step["type"] == "Replace" and len(step["pattern"].get("String", "")) > 1


def _unigram(model: dict[str, Any], classes: np.ndarray, collapsed: bool, prefixed: bool, own: bool) -> Unigram:
    vocabulary = model["vocab"]
    tokens = [token.encode() for token, _ in vocabulary]
    if set(model) != {"type", "unk_id", "vocab", "byte_fallback"} or not all(tokens):
        raise NotProven("the Unigram model is not known")
    scores = np.array([score for _, score in vocabulary], np.float64)
    # Without an id for what is unknown, such pieces are left to the library, which refuses them.
    unknown = len(vocabulary) if model["unk_id"] is None else model["unk_id"]
    return Unigram(
        trie=trie_of(tokens, np.arange(len(tokens)), np.zeros(len(tokens), np.int64)),
        scores=scores,
        unknown=unknown,
        unknown_score=float(scores.min(initial=np.inf)) - _UNKNOWN_PENALTY,
        classes=classes,
        collapsed=collapsed,
        prefixed=prefixed,
        own=own,
    )
