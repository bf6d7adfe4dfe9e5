"""The language of a token, by the groups of documents that it occurs in, and the tokens of highest weight in each."""

import numpy as np
import pandas as pd

# A token is of a group that has more than this share of its occurrences.
MAJORITY = 0.5
COLUMNS = ["language", "rank", "id", "token", "weight", "count"]


def languages_of(counts: pd.DataFrame, size: int) -> np.ndarray | None:
    """For each token id below `size` the group that has most of its occurrences, "" where none has.

    counts: of a corpus by group, long: group, id, count. None for a corpus without groups or with one alone.
    """
    counts = counts[counts["id"] < size]
    if counts["group"].nunique() < 2:
        return None
    total = np.bincount(counts["id"], weights=counts["count"], minlength=size)
    most = counts[counts["count"] > MAJORITY * total[counts["id"]]]
    found = np.full(size, "", dtype=object)
    found[most["id"]] = most["group"]
    return found


def best_by_language(tokens: pd.DataFrame, top: int) -> pd.DataFrame:
    """The kept tokens of highest weight of each language: language, rank, id, token, weight, count.

    tokens: a token table with the columns count and, where it is known, language.
    """
    if "language" not in tokens:
        return pd.DataFrame(columns=COLUMNS)
    used = tokens[~tokens["masked"] & np.isfinite(tokens["weight"]) & (tokens["language"] != "")]
    ordered = used.sort_values("weight", ascending=False, kind="stable")
    best = ordered.groupby("language", sort=True).head(top).sort_values("language", kind="stable")
    return best.assign(rank=best.groupby("language").cumcount() + 1)[COLUMNS]
