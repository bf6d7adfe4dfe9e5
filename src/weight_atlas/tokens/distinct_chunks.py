"""Count tokens by encoding each distinct piece of text once, several times faster than encoding whole documents.

A byte-level BPE tokenizer first splits a text by a regular expression and then encodes the pieces one by one. Where the
text is cut only at places that are sure to be borders of such pieces, and that hide nothing which the expression looks
ahead for, the tokens of the parts are the tokens of the whole. Such places are known for three expressions; with any
other tokenizer, documents are encoded whole.
"""

import json
from collections.abc import Callable

import numpy as np

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

Encode = Callable[[list[str]], list[list[int]]]

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


def cutting_rule(tokenizer_json: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the function that finds safe cuts for a tokenizer (given as tokenizer.json), or None: encode it whole.

    The function takes the bytes of a text, (n,) uint8, and returns (n,) bool: a cut before the byte.
    """
    settings = json.loads(tokenizer_json)
    normalizer, model = settings["normalizer"], settings["model"]
    # An ASCII character never combines with the one before it: composing (NFC) parts composes the whole.
    composed = normalizer is not None
    if composed and (normalizer != {"type": "NFC"} or any(token["normalized"] for token in settings["added_tokens"])):
        return None
    if model["type"] != "BPE" or model["dropout"] or settings["truncation"] or settings["padding"]:
        return None
    return {GPT2: gpt2_cuts, LLAMA3: llama3_cuts, QWEN2: llama3_cuts}.get(_expression(settings["pre_tokenizer"]))


def _expression(pre_tokenizer: dict | None) -> str | None:
    """Return the regular expression by which a byte-level pre-tokenizer splits, or None where it does anything else."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer and pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    if any(step is None or step.get("add_prefix_space") for step in steps):
        return None
    match [{**step, "type": step["type"]} for step in steps]:
        case [{"type": "ByteLevel", "use_regex": True}]:
            return GPT2
        case [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ]:
            return expression
    return None


def gpt2_cuts(text: np.ndarray) -> np.ndarray:
    """Find safe cuts for GPT-2's expression, which takes no character of a run of white space but the last to a word."""
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

    They let punctuation take a letter after it, and line ends, so that nothing is cut there.
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
    return np.logical_or.reduce([classes == one for one in wanted])


def _graphic(classes: np.ndarray) -> np.ndarray:
    return classes >= LETTER


def count_by_chunks(
    texts: list[str], cuts: Callable[[np.ndarray], np.ndarray], encode: Encode, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (counts, document_frequency), each (vocabulary,) int64, of documents without added tokens in their text."""
    chunks, chunk_of, document_of = _chunks(texts, cuts)
    encoded = encode(chunks)
    lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
    flat = np.array([id for ids in encoded for id in ids], dtype=np.int64)
    occurrences = np.repeat(np.bincount(chunk_of, minlength=len(chunks)), lengths)
    # Sums of integers in float64 are exact below 2**53.
    counts = np.bincount(flat, weights=occurrences, minlength=vocabulary).astype(np.int64)
    return counts, _document_frequency(chunk_of, document_of, flat, lengths, vocabulary)


def _document_frequency(
    chunk_of: np.ndarray, document_of: np.ndarray, flat: np.ndarray, lengths: np.ndarray, vocabulary: int
) -> np.ndarray:
    """Count the documents of each token: distinct pairs of document and chunk, then of document and token."""
    pairs = np.unique(document_of * len(lengths) + chunk_of)
    documents, chunks = np.divmod(pairs, max(len(lengths), 1))
    sizes, starts = lengths[chunks], (lengths.cumsum() - lengths)[chunks]
    # The places in `flat` of every pair's tokens: its start, and on from there.
    places = np.arange(sizes.sum()) + np.repeat(starts - (sizes.cumsum() - sizes), sizes)
    tokens = np.unique(np.repeat(documents, sizes) * vocabulary + flat[places]) % vocabulary
    return np.bincount(tokens, minlength=vocabulary)


def _chunks(texts: list[str], cuts: Callable) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Cut documents; return the distinct chunks, and for every occurrence its chunk and its document, (n,) int64."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    # A zero byte stands between documents, since a cut depends on what follows it.
    data = np.frombuffer(b"\0".join([*encoded, b""]), np.uint8)
    sizes = np.array([len(text) for text in encoded], dtype=np.int64)
    ends = (sizes + 1).cumsum() - 1
    begins = cuts(data) if len(data) else np.zeros(0, bool)
    begins[ends - sizes] = True
    begins[ends] = True
    starts = np.flatnonzero(begins)
    offsets = pa.array(np.append(starts, len(data)), pa.int64())
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(starts), [None, offsets.buffers()[1], pa.py_buffer(data)])
    kept = np.isin(starts, ends, invert=True)
    dictionary = array.filter(pa.array(kept)).dictionary_encode()
    document_of = np.searchsorted(ends, starts[kept])
    chunks = [chunk.decode() for chunk in dictionary.dictionary.to_pylist()]
    return chunks, dictionary.indices.to_numpy(zero_copy_only=False).astype(np.int64), document_of
