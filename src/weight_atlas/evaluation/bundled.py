"""The items of three small tasks, made from any corpus: word order, perplexity of paragraphs, fixed phrases.

They stand in for the usual benchmarks where there is no network, and are easy enough for a model of a million
parameters: what an ablation does to it shows. The words of a paragraph are its pieces between spaces.
"""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd

from weight_atlas.errors import AtlasError

SHORTEST, LONGEST = 30, 110  # words of a paragraph that is taken
CHOICES, CHOICE_WORDS = 4, 12
# Text that is read of a large corpus: the first documents.
CHARACTERS = 20_000_000
BLANK_LINE = re.compile(r"\n\s*\n")
# A phrase: two words after which the third is nearly certain, seen so often and in so many documents.
PHRASE_COUNT, PHRASE_DOCUMENTS, PHRASE_SHARE, PHRASE_CONTEXT = 8, 3, 0.8, 12


def bundled_items(corpus: pd.DataFrame, *, items: int, seed: int) -> dict[str, pd.DataFrame]:
    """Return the items of the tasks `order`, `documents` and `phrase`, at most `items` of each.

    corpus: columns document and text, paragraphs apart by an empty line. An AtlasError where the corpus has too few.
    """
    corpus = corpus[corpus.text.str.len().cumsum().shift(fill_value=0) < CHARACTERS]
    paragraphs = _paragraphs(corpus)
    shuffled = [paragraphs[place] for place in np.random.default_rng(seed).permutation(len(paragraphs))]
    tasks = {
        "order": order_items(shuffled, items=items, seed=seed),
        "documents": pd.DataFrame({"page": shuffled[:items]}),
        "phrase": phrase_items(shuffled, phrases(corpus), items=items, seed=seed),
    }
    for name, table in tasks.items():
        if table.empty:
            raise AtlasError(
                f"the corpus has no paragraph for the bundled task {name}",
                remedy=f"set bundled_tasks.corpus to one with more paragraphs ({SHORTEST} to {LONGEST} words, apart by "
                f"blank lines), or leave bundled:{name} out of `tasks`",
            )
    return tasks


def order_items(paragraphs: list[str], *, items: int, seed: int) -> pd.DataFrame:
    """Multiple choice: the first half of a paragraph, then its next twelve words as they stand or in three shuffles.

    Columns: context, choices (list of four texts), label (which one is right).
    """
    rows = []
    for number, paragraph in enumerate(paragraphs[:items]):
        rng = np.random.default_rng([seed, number])
        words = paragraph.split()
        half = len(words) // 2
        true = words[half : half + CHOICE_WORDS]
        false: list[str] = []
        for _ in range(100):
            shuffled = " ".join(rng.permutation(true).tolist())
            if len(false) < CHOICES - 1 and shuffled != " ".join(true) and shuffled not in false:
                false.append(shuffled)
        label = int(rng.integers(CHOICES))
        choices = [*false[:label], " ".join(true), *false[label:]]
        if len(choices) == CHOICES:
            rows.append((" ".join(words[:half]), choices, label))
    return pd.DataFrame(rows, columns=["context", "choices", "label"])


def phrase_items(paragraphs: list[str], phrases: dict[tuple[str, str], str], *, items: int, seed: int) -> pd.DataFrame:
    """Generation: a paragraph up to a place where two words all but fix the next one.

    Columns: context, answer (the one word). One item a paragraph; an answer is taken for at most a tenth of the items
    as long as there are others, so that no single word decides the score.
    """
    rows, taken = [], Counter()
    for number, paragraph in enumerate(paragraphs):
        words = paragraph.split()
        places = [
            place
            for place in range(PHRASE_CONTEXT, len(words))
            if phrases.get((words[place - 2], words[place - 1])) == words[place]
            and taken[words[place]] < max(items // 10, 1)
        ]
        if places and len(rows) < items:
            place = places[int(np.random.default_rng([seed, number]).integers(len(places)))]
            taken[words[place]] += 1
            rows.append((" ".join(words[:place]), words[place]))
    return pd.DataFrame(rows, columns=["context", "answer"])


def phrases(corpus: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Pairs of words that are nearly always followed by the same word, and that word (letters only)."""
    following: dict[tuple[str, str], Counter] = {}
    documents: dict[tuple[str, str], set] = {}
    for document, text in zip(corpus.document, corpus.text, strict=True):
        for paragraph in BLANK_LINE.split(text):
            words = paragraph.split()
            for pair, third in zip(pairwise(words), words[2:], strict=False):
                following.setdefault(pair, Counter())[third] += 1
                documents.setdefault(pair, set()).add(document)
    fixed = {}
    for pair, counts in following.items():
        word, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
        total = counts.total()
        often = total >= PHRASE_COUNT and len(documents[pair]) >= PHRASE_DOCUMENTS
        if often and count >= PHRASE_SHARE * total and re.fullmatch("[A-Za-z]+", word):
            fixed[pair] = word
    return fixed


def _paragraphs(corpus: pd.DataFrame) -> list[str]:
    pieces = (piece for text in corpus.text for piece in BLANK_LINE.split(text))
    return list(dict.fromkeys(piece for piece in pieces if SHORTEST <= len(piece.split()) <= LONGEST))
