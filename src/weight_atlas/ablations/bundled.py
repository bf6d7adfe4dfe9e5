"""The items of three small tasks, made from any corpus: word order, perplexity of paragraphs, fixed phrases.

They stand in for the usual benchmarks where there is no network, and are easy enough for a model of a million
parameters: what an ablation does to it shows. What a word and a paragraph are in any script is said in `passages`.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pandas as pd

from weight_atlas.ablations.choices import BUNDLED_TASKS
from weight_atlas.ablations.passages import (
    BLANK_LINE,
    LONGEST,
    SHORTEST,
    as_documents,
    is_plain,
    joined,
    passages,
    words,
)  # fmt: skip
from weight_atlas.errors import NotApplicable

CHOICES, CHOICE_WORDS = 4, 12
# Text that is read of a large corpus: the first documents, and of each no more than that.
CHARACTERS, DOCUMENT_CHARACTERS = 20_000_000, 20_000_000
# A phrase: two words after which the third is nearly certain, seen so often and in so many documents.
PHRASE_COUNT, PHRASE_DOCUMENTS, PHRASE_SHARE, PHRASE_CONTEXT = 8, 3, 0.8, 12


def bundled_items(
    corpus: pd.DataFrame, *, items: int, seed: int, tasks: Iterable[str] = BUNDLED_TASKS
) -> dict[str, pd.DataFrame]:
    """Return the items of the tasks named, of `order`, `documents` and `phrase`: at most `items` of each.

    corpus: columns document and text, paragraphs apart by an empty line. NotApplicable where it does not make a task.
    """
    corpus = corpus[corpus.text.str.len().cumsum().shift(fill_value=0) < CHARACTERS]
    corpus = corpus.assign(text=corpus.text.str[:DOCUMENT_CHARACTERS])
    paragraphs = passages(corpus.text, wanted=items)
    shuffled = [paragraphs[place] for place in np.random.default_rng(seed).permutation(len(paragraphs))]
    made = {task: _items(task, shuffled, corpus, items, seed) for task in tasks}
    for task, table in made.items():
        if table.empty:
            raise _not_made(task, bool(paragraphs))
    return made


def _items(task: str, paragraphs: list[str], corpus: pd.DataFrame, items: int, seed: int) -> pd.DataFrame:
    match task:
        case "order":
            return order_items(paragraphs, items=items, seed=seed)
        case "documents":
            return pd.DataFrame({"page": paragraphs[:items]})
        case "phrase":
            return phrase_items(paragraphs, phrases(corpus), items=items, seed=seed)
    raise ValueError(f"no bundled task {task!r}")


def _not_made(task: str, has_paragraphs: bool) -> NotApplicable:
    if task == "phrase" and has_paragraphs:
        return NotApplicable(
            "the corpus has no fixed phrase for the bundled task phrase: no two words fix the one after them",
            remedy="set bundled_tasks.corpus to a longer text in a script that puts spaces between words, or leave "
            "bundled:phrase out of `tasks`",
        )
    return NotApplicable(
        f"the corpus has no paragraph for the bundled task {task}",
        remedy=f"set bundled_tasks.corpus to one with more text ({SHORTEST} to {LONGEST} words make a paragraph), or "
        f"leave bundled:{task} out of `tasks`",
    )


def order_items(paragraphs: list[str], *, items: int, seed: int) -> pd.DataFrame:
    """Multiple choice: the first half of a paragraph, then its next twelve words as they stand or in three shuffles.

    Columns: context, choices (list of four texts), label (which one is right).
    """
    rows = []
    for number, paragraph in enumerate(paragraphs[:items]):
        rng = np.random.default_rng([seed, number])
        found = words(paragraph)
        half = len(found) // 2
        true = found[half : half + CHOICE_WORDS]
        false: list[str] = []
        for _ in range(100):
            shuffled = joined(rng.permutation(true).tolist())
            if len(false) < CHOICES - 1 and shuffled != joined(true) and shuffled not in false:
                false.append(shuffled)
        label = int(rng.integers(CHOICES))
        choices = [*false[:label], joined(true), *false[label:]]
        if len(choices) == CHOICES:
            rows.append((joined(found[:half]), choices, label))
    return pd.DataFrame(rows, columns=["context", "choices", "label"])


def phrase_items(paragraphs: list[str], phrases: dict[tuple[str, str], str], *, items: int, seed: int) -> pd.DataFrame:
    """Generation: a paragraph up to a place where two words all but fix the next one.

    Columns: context, answer (the one word). One item a paragraph; an answer is taken for at most a tenth of the items
    as long as there are others, so that no single word decides the score.
    """
    rows: list[tuple[str, str]] = []
    taken: Counter[str] = Counter()
    for number, paragraph in enumerate(paragraphs):
        found = words(paragraph)
        bare = [word.strip() for word in found]
        places = [
            place
            for place in range(PHRASE_CONTEXT, len(bare))
            if phrases.get((bare[place - 2], bare[place - 1])) == bare[place]
            and taken[bare[place]] < max(items // 10, 1)
        ]
        if places and len(rows) < items:
            place = places[int(np.random.default_rng([seed, number]).integers(len(places)))]
            taken[bare[place]] += 1
            rows.append((joined(found[:place]), bare[place]))
    return pd.DataFrame(rows, columns=["context", "answer"])


def phrases(corpus: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Pairs of words that are nearly always followed by the same word, and that word (letters alone).

    In a corpus of fewer documents than a phrase must be seen in, each passage counts as a document.
    """
    if len(corpus) < PHRASE_DOCUMENTS:
        corpus = as_documents(corpus)
    following: dict[tuple[str, str], Counter] = {}
    documents: dict[tuple[str, str], set] = {}
    for document, text in zip(corpus.document, corpus.text, strict=True):
        for paragraph in BLANK_LINE.split(text):
            bare = [word.strip() for word in words(paragraph)]
            for pair, third in zip(pairwise(bare), bare[2:], strict=False):
                following.setdefault(pair, Counter())[third] += 1
                documents.setdefault(pair, set()).add(document)
    fixed = {}
    for pair, counts in following.items():
        word, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
        total = counts.total()
        often = total >= PHRASE_COUNT and len(documents[pair]) >= PHRASE_DOCUMENTS
        if often and count >= PHRASE_SHARE * total and is_plain(word):
            fixed[pair] = word
    return fixed
