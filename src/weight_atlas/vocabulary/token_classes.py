"""Classes of the tokens of a vocabulary, such as digits, years, pronouns and punctuation, as a boolean matrix."""

import unicodedata
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

_PRONOUNS = """i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its
    itself we us our ours ourselves they them their theirs themselves who whom whose"""
# Words that carry grammar rather than content: articles, conjunctions, prepositions, auxiliaries, particles.
_OTHER_FUNCTION_WORDS = """a an the and or but nor so yet if then else than that this these those as at by for
    from in into of off on onto out over per to under until up upon via with within without about above across
    after against along among around before behind below beneath beside between beyond down during except
    inside near since through throughout toward towards because although though while whereas unless whether
    when where why how what which is am are was were be been being has have had having do does did doing will
    would shall should can could may might must not no only very too also just there here"""
PRONOUNS = frozenset(_PRONOUNS.split())
FUNCTION_WORDS = PRONOUNS | frozenset(_OTHER_FUNCTION_WORDS.split())
CLASSES = (
    "digits", "years", "parentheses", "leading_space", "capitalised", "pronouns", "punctuation", "function_words",
)  # fmt: skip
_BRACKETS = frozenset("()[]{}<>⟨⟩（）［］｛｝")
YEARS = range(1700, 2051)


def token_classes(
    texts: list[str], raw: list[str | None], special: set[int], untrained: Collection[int] = ()
) -> pd.DataFrame:
    """The class matrix of a vocabulary: id, token (raw), text (decoded), special, untrained, and a boolean column for
    each class.

    texts: each id's token as text, "" for ids without a token; raw: the token in the tokenizer's own
    notation, None for ids without. special: ids that are not text. Special ids and ids without a token are in no class.
    untrained: ids whose embeddings show no training, which analyses of the vocabulary leave out.

    digits: only digits, beside white space. years: a number from 1700 to 2050. parentheses: only brackets of any kind.
    leading_space: begins with a space, followed by something else. capitalised: its first letter is upper case.
    pronouns, function_words: English words, whatever their case. punctuation: only punctuation and symbols.
    """
    table = pd.DataFrame({"id": np.arange(len(texts), dtype=np.int32), "token": raw, "text": texts})
    table["special"] = table.id.isin(special)
    idle = table.id.isin(list(untrained))
    # Where that would leave nothing to read, as with embeddings that were never trained at all, nothing is left out.
    table["untrained"] = idle & bool((table.token.notna() & ~table.special & ~idle).any())
    belongs = np.array([_classes(text) for text in texts], dtype=bool).reshape(len(texts), len(CLASSES))
    belongs[table.special | table.token.isna()] = False
    return pd.concat([table, pd.DataFrame(belongs, columns=list(CLASSES))], axis=1)


def read_token_classes(tokenizer: Any, texts: list[str], untrained: Collection[int] = ()) -> pd.DataFrame:
    """The class matrix of a transformers tokenizer. texts: each id's token as it reads in a text, "" without one.

    untrained: see token_classes.
    """
    raw: list[str | None] = [None] * len(texts)
    for token, token_id in tokenizer.get_vocab().items():
        if token_id < len(texts):
            raw[token_id] = token
    added = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return token_classes(texts, raw, added | set(tokenizer.all_special_ids), untrained)


def _classes(text: str) -> tuple[bool, ...]:
    bare = text.strip()
    if not bare:
        return (False,) * len(CLASSES)
    word = bare.lower()
    digits = bare.isdecimal()
    first_letter = next((character for character in bare if character.isalpha()), "")
    return (
        digits,
        digits and len(bare) == 4 and int(bare) in YEARS,
        _BRACKETS.issuperset(bare),
        text[0] == " ",
        first_letter.isupper() or first_letter.istitle(),
        word in PRONOUNS,
        all(unicodedata.category(character)[0] in "PS" for character in bare),
        word in FUNCTION_WORDS,
    )


def rows_with_tokens(table: pd.DataFrame, vocabulary: int) -> np.ndarray:
    """Ids below `vocabulary` that have a token and were trained, without what pads an embedding to a round size."""
    return np.flatnonzero((table.token.notna() & ~table.untrained).to_numpy(bool)[:vocabulary])


def text_tokens(table: pd.DataFrame) -> np.ndarray:
    """Bool (V,): ids whose token stands for text and was trained, which lists of top tokens are made of."""
    return (table.token.notna() & ~table.special & ~table.untrained).to_numpy(bool)


def class_matrix(table: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Names of the classes and the boolean matrix (V, classes) of a table of `token_classes`."""
    return list(CLASSES), table[list(CLASSES)].to_numpy(bool)
