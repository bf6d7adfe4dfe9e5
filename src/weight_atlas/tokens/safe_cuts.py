"""Positions where a text can be cut so that the tokens of the parts are the tokens of the whole.

A byte-level BPE tokenizer first splits a text by a regular expression and then encodes the pieces one by one. A cut is
safe where two such pieces certainly meet and the expression does not look ahead across the cut. Such positions are
known for three expressions.
"""

from collections.abc import Callable

import numpy as np

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

CuttingRule = Callable[[np.ndarray], np.ndarray]

# Classes of bytes. Bytes of characters outside ASCII, and control characters, are OTHER: no cut is made beside them.
OTHER, BLANK, NEWLINE, LETTER, DIGIT, PUNCTUATION = range(6)
_CLASSES = np.array(
    [
        BLANK if char in " \t" else NEWLINE if char in "\r\n" else OTHER if not "!" <= char <= "~"
        else LETTER if char.isalpha() else DIGIT if char.isdigit() else PUNCTUATION
        for char in map(chr, range(256))
    ],
    dtype=np.uint8,
)  # fmt: skip


def cutting_rule(settings: dict) -> CuttingRule | None:
    """Return the function that finds safe cuts for a tokenizer, or None where none is known.

    settings: tokenizer.json. The function takes the bytes of a text, (n,) uint8, and returns before which of them a cut
    is safe, (n,) bool.
    """
    normalizer, model = settings["normalizer"], settings["model"]
    # An ASCII character never combines with the one before it, so that composing (NFC) the parts composes the whole;
    # but an added token that is looked for after that need not be in the text as it stands.
    if normalizer not in (None, {"type": "NFC"}):
        return None
    if normalizer and any(token["normalized"] for token in settings["added_tokens"]):
        return None
    if model["type"] != "BPE" or model["dropout"] or settings["truncation"] or settings["padding"]:
        return None
    rules = {GPT2: gpt2_cuts, LLAMA3: llama3_cuts, QWEN2: llama3_cuts}
    expression = _expression(settings["pre_tokenizer"])
    return None if expression is None else rules.get(expression)


def _expression(pre_tokenizer: dict | None) -> str | None:
    """Return the regular expression by which a byte-level pre-tokenizer splits, or None where it does anything else."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer and pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    if any(step is None or step.get("add_prefix_space") for step in steps):
        return None
    match steps:
        case [{"type": "ByteLevel", "use_regex": True}]:
            return GPT2
        case [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ]:
            return expression
    return None


def gpt2_cuts(text: np.ndarray) -> np.ndarray:
    """Find safe cuts for GPT-2's expression, which joins the last space of white space to the word after it."""
    before, here, after = _neighbours(text)
    space, space_before = _is(here, BLANK, NEWLINE), _is(before, BLANK, NEWLINE)
    return (
        (space & _graphic(before))
        | (space_before & space & _graphic(after))
        | (_is(before, LETTER) & _is(here, DIGIT, PUNCTUATION))
        | (_is(before, DIGIT) & _is(here, LETTER, PUNCTUATION))
    )


def llama3_cuts(text: np.ndarray) -> np.ndarray:
    """Find safe cuts for the expressions of Llama 3 and Qwen 2.

    Their punctuation can take in a letter or line ends after it, so that nothing is cut there.
    """
    before, here, after = _neighbours(text)
    blank = _is(here, BLANK)
    return (
        (blank & _graphic(before))
        | (blank & _is(before, BLANK, NEWLINE) & _graphic(after))
        | (_is(before, NEWLINE) & _graphic(here))
        | (_is(here, NEWLINE) & _is(before, LETTER, DIGIT))
        | (_is(before, LETTER) & _is(here, DIGIT, PUNCTUATION))
        | (_is(before, DIGIT) & _is(here, LETTER, PUNCTUATION))
    )


def _neighbours(text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the classes of the byte before each byte, of itself, and of the one after it."""
    padded = np.pad(_CLASSES[text], 1, constant_values=OTHER)
    return padded[:-2], padded[1:-1], padded[2:]


def _is(classes: np.ndarray, *wanted: int) -> np.ndarray:
    return np.logical_or.reduce([classes == wanted_class for wanted_class in wanted])


def _graphic(classes: np.ndarray) -> np.ndarray:
    return classes >= LETTER
