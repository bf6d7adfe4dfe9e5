"""What to mask, in words and in numbers."""

from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.numbers_of import number_of


def as_text(summary: dict[str, Any], advice: pd.DataFrame) -> str:
    """Recommendations as a text: what each least count takes away, and what the chosen one leaves.

    summary: of frequency.summary; advice: of frequency.recommendations.
    """
    vocabulary = summary["vocabulary"]
    lines = [
        "Token filtering recommendations",
        "",
        f"Vocabulary: {vocabulary:,}",
        f"Tokens in the corpus: {summary['tokens']:,}",
        "",
        "Tokens with fewer occurrences than",
        *(
            f"  {row.threshold:>6,}: {row.tokens:>9,} ({row.share:7.2%}), {row.share_of_corpus:.4%} of the corpus"
            for row in advice.itertuples()
        ),
        "",
    ]
    chosen = advice[advice["chosen"]].iloc[0]
    lines += [
        f"Chosen threshold: {number_of(chosen['threshold'], 'occurrence')}",
        f"  tokens to mask: {chosen['tokens']:,} ({chosen['share']:.2%})",
        f"  tokens that stay: {vocabulary - chosen['tokens']:,} ({1 - chosen['share']:.2%})",
        f"  their combined weight: {chosen['combined_weight']:.6g}",
        f"  their mean weight: {chosen['mean_weight']:.6g}, of the others {chosen['mean_weight_above']:.6g}",
        f"  of high weight among them: {chosen['outliers']:,}",
        "",
        summary["reading"],
        "",
        "Tokens of high weight that occur rarely: review them (outliers.csv), keep those that mean something in a",
        "language, and ignore them where they are below 1 % of the vocabulary.",
    ]
    return "\n".join(lines) + "\n"


def masked_and_kept(counts: np.ndarray, keep: np.ndarray) -> list[dict[str, Any]]:
    """For masked and for kept tokens how many they are and how often they occur, with shares of vocabulary and corpus.

    counts: (V,); keep: (V,) bool.
    """
    total, size = max(1, int(counts.sum())), max(1, len(counts))
    rows = []
    for name, part in (("masked", counts[~keep]), ("kept", counts[keep])):
        there = len(part) > 0
        rows.append(
            {
                "tokens": name,
                "n": len(part),
                "share": len(part) / size,
                "occurrences": int(part.sum()),
                "share_of_corpus": int(part.sum()) / total,
                "mean": float(part.mean()) if there else 0.0,
                "min": int(part.min()) if there else 0,
                "max": int(part.max()) if there else 0,
            }
        )
    return rows
