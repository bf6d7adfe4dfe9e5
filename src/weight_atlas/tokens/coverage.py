"""Coverage of a corpus by the most frequent tokens of a vocabulary."""

import numpy as np
import pandas as pd

SHARES = (0.5, 0.9, 0.95, 0.99)
RARE = (10, 100)


def coverage_curve(counts: np.ndarray) -> pd.DataFrame:
    """Return the tokens that occur, most frequent first: rank (from 1), count, and coverage, their share so far.

    counts: (vocabulary,) occurrences by token id. Tokens of equal count are ranked by id.
    """
    ordered = np.sort(counts[counts > 0])[::-1]
    covered = np.cumsum(ordered)
    share = covered / covered[-1] if len(covered) else np.zeros(0)
    return pd.DataFrame({"rank": np.arange(1, len(ordered) + 1), "count": ordered, "coverage": share})


def coverage_ranks(counts: np.ndarray, shares: tuple[float, ...] = SHARES) -> dict[float, int]:
    """Return, for each share of a corpus, the least number of most frequent tokens that cover it."""
    coverage = coverage_curve(counts).coverage.to_numpy()
    # The tolerance is for rounding: shares compare as exact counts would.
    return {share: int(np.searchsorted(coverage, share - 1e-12)) + 1 if len(coverage) else 0 for share in shares}


def count_summary(counts: np.ndarray, documents: int) -> dict:
    """Summarize a table of counts: documents, tokens, vocabulary, types, rare tokens, coverage.

    tokens: all occurrences. types: different tokens that occur. unseen: ids that do not. below: tokens with fewer
    occurrences than the key. coverage_rank: number of most frequent tokens that cover that share of the occurrences.
    """
    return {
        "documents": documents,
        "tokens": int(counts.sum()),
        "vocabulary": len(counts),
        "types": int((counts > 0).sum()),
        "unseen": int((counts == 0).sum()),
        "below": {limit: int((counts < limit).sum()) for limit in RARE},
        "coverage_rank": {f"{share:.0%}": rank for share, rank in coverage_ranks(counts).items()},
    }
