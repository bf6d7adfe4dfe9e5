"""Coverage of a corpus by the most frequent tokens of a vocabulary."""

import numpy as np
import pandas as pd

from weight_atlas.tokens.counts import TokenCounts

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
    unseen_share, below_share: of the vocabulary. mean_count, median_count: over the whole vocabulary.
    """
    ids = max(len(counts), 1)
    return {
        "documents": documents,
        "tokens": int(counts.sum()),
        "vocabulary": len(counts),
        "types": int((counts > 0).sum()),
        "unseen": int((counts == 0).sum()),
        "below": {limit: int((counts < limit).sum()) for limit in RARE},
        "unseen_share": int((counts == 0).sum()) / ids,
        "below_share": {limit: int((counts < limit).sum()) / ids for limit in RARE},
        "mean_count": float(counts.mean()) if len(counts) else 0.0,
        "median_count": float(np.median(counts)) if len(counts) else 0.0,
        "coverage_rank": {f"{share:.0%}": rank for share, rank in coverage_ranks(counts).items()},
    }


def group_summary(counts: TokenCounts) -> pd.DataFrame:
    """Summarize each group of documents: how much text, how many tokens, and how well the vocabulary fits it.

    Columns: group, documents, bytes, words, tokens, types (ids that occur), share (of the corpus's tokens),
    tokens_per_byte, tokens_per_word (NaN where there is no text).
    """
    rows, groups = len(counts.groups), counts.long["group"].to_numpy()
    # Sums of integers in float64 are exact below 2**53.
    tokens = np.bincount(groups, weights=counts.long["count"].to_numpy(), minlength=rows).astype(np.int64)
    summary = counts.groups.assign(tokens=tokens, types=np.bincount(groups, minlength=rows))
    total = max(int(tokens.sum()), 1)
    return summary.assign(
        share=summary["tokens"] / total,
        tokens_per_byte=_ratio(summary["tokens"], summary["bytes"]),
        tokens_per_word=_ratio(summary["tokens"], summary["words"]),
    )


def text_summary(groups: pd.DataFrame) -> dict:
    """The sums over the rows of group_summary: groups, bytes, words, tokens_per_byte, tokens_per_word."""
    tokens, size, words = (int(groups[name].sum()) for name in ("tokens", "bytes", "words"))
    return {
        "groups": len(groups),
        "bytes": size,
        "words": words,
        "tokens_per_byte": tokens / size if size else None,
        "tokens_per_word": tokens / words if words else None,
    }


def _ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    return above / below.where(below > 0)
