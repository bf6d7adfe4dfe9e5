"""Text of any length without repetition, whose distinct words grow in number as those of natural language do.

How often the word of rank r occurs falls as 1 / r up to rank 7,873 and as r**-1.77 beyond, as Gerlach and Altmann found
in English books ("Stochastic Model for the Vocabulary Growth in Natural Languages", Physical Review X 3, 021006, 2013).
The words are those of Python's own documentation by frequency, then strings of a Markov chain of letters (each given
the three before it) that is learned from them. Numbers, capitals, signs and line ends are strewn in.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pydoc_data.topics import topics

import numpy as np

BEND, STEEP, RANKS = 7873, 1.77, 30_000_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
END = len(LETTERS)  # also what stands before a word
MOST_LETTERS = 24
# What stands after a word, and how often.
AFTER = {
    " ": 0.79,
    ", ": 0.06,
    ". ": 0.05,
    ".\n": 0.02,
    "\n": 0.02,
    "-": 0.02,
    "\n\n": 0.01,
    " (": 0.01,
    ") ": 0.01,
    "'s ": 0.01,
}
NUMBERS, CAPITALS = 0.02, 0.04  # shares of words
AT_ONCE = 250_000  # words
DOCUMENT = 1_500  # words of a document


def generated_texts(megabytes: float, seed: int = 0) -> Iterator[str]:
    """Documents of so many megabytes in all, the same for a seed."""
    random = np.random.default_rng(seed)
    known, chain = _prose()
    words = np.array(known, dtype=object)
    share = _shares()
    after, odds = np.array([*AFTER], dtype=object), np.cumsum([*AFTER.values()])
    left = megabytes * 1e6
    while left > 0:
        ranks = np.searchsorted(share, random.random(AT_ONCE))
        # Made anew in every batch, so that memory does not grow with the text.
        fresh = np.unique(ranks[ranks >= len(known)])
        made = dict(zip(fresh.tolist(), _made(chain, fresh), strict=True))
        text = np.empty(AT_ONCE, dtype=object)
        frequent = ranks < len(known)
        text[frequent] = words[ranks[frequent]]
        text[~frequent] = [made[rank] for rank in ranks[~frequent].tolist()]
        capitals = random.random(AT_ONCE) < CAPITALS
        text[capitals] = [word.capitalize() for word in text[capitals]]
        numbers = random.random(AT_ONCE) < NUMBERS
        text[numbers] = [str(int(each)) for each in 10 ** random.uniform(0, 6, int(numbers.sum()))]
        both = text + after[np.searchsorted(odds, random.random(AT_ONCE)).clip(max=len(after) - 1)]
        for start in range(0, AT_ONCE, DOCUMENT):
            document = "".join(both[start : start + DOCUMENT])
            yield document
            left -= len(document)
            if left <= 0:
                return


def _shares() -> np.ndarray:
    """The share of words up to each rank, (RANKS,) float64."""
    rank = np.arange(1.0, RANKS + 1)
    weight = np.where(rank <= BEND, 1 / rank, BEND ** (STEEP - 1) * rank**-STEEP)
    share = np.cumsum(weight)
    return share / share[-1]


def _prose() -> tuple[list[str], np.ndarray]:
    """Words by frequency, and odds of the next letter after three, cumulative, (27**3, 27)."""
    counts = Counter(re.findall(r"[a-z]+", "\n".join(topics.values()).lower()))
    size = END + 1
    chain = np.zeros((size**3, size))
    for word, count in counts.items():
        codes = [END, END, END, *map(LETTERS.index, word), END]
        for place in range(3, len(codes)):
            first, second, third = codes[place - 3 : place]
            chain[(first * size + second) * size + third, codes[place]] += np.sqrt(count)
    chain[chain.sum(1) == 0, END] = 1
    return [word for word, _ in counts.most_common()], np.cumsum(chain, 1) / chain.sum(1, keepdims=True)


def _made(chain: np.ndarray, ranks: np.ndarray) -> list[str]:
    """The word of each rank: whatever the seed, and in whatever batch it is asked for, the same."""
    size = END + 1
    state = np.full(len(ranks), (END * size + END) * size + END)
    letters = np.full((len(ranks), MOST_LETTERS), END, np.uint8)
    open_ = np.arange(len(ranks))
    for place in range(MOST_LETTERS):
        draw = _hashed(ranks[open_], place)
        letter = (chain[state[open_]] <= draw[:, None]).sum(1).clip(max=END)
        letters[open_, place] = letter
        state[open_] = state[open_] % size**2 * size + letter
        open_ = open_[letter != END]
        if not len(open_):
            break
    alphabet = np.frombuffer((LETTERS + "\0").encode(), np.uint8)
    return [each.decode() for each in alphabet[letters].view(f"S{MOST_LETTERS}").reshape(-1)]


def _hashed(ranks: np.ndarray, place: int) -> np.ndarray:
    """Numbers from 0 to 1 that depend on these alone (SplitMix64)."""
    mixed = ranks.astype(np.uint64) * np.uint64(64) + np.uint64(place)
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    return (mixed ^ mixed >> np.uint64(31)).astype(np.float64) / 2.0**64
