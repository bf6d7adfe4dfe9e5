"""The study of token weights beside counts of the tokens: all of its tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_array
from weight_atlas.checkpoint.named_tensor import named_tensor
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path
from weight_atlas.settings.token_weights import Frequency
from weight_atlas.token_weights import frequency
from weight_atlas.token_weights.languages import best_by_language, languages_of
from weight_atlas.token_weights.pruning import pruning_study
from weight_atlas.weights.cdf import value_cdf


@dataclass(frozen=True)
class BesideCounts:
    """Tables of one vector and one set of counts; see the functions of `frequency` that make them.

    tokens: the token table with columns count, outlier and, where it is known, language. mask: (V,) bool, true for
    tokens that occur at least `threshold` times and are not masked already. line: slope and intercept of the
    regression.
    """

    tokens: pd.DataFrame
    correlations: pd.DataFrame
    statistics: pd.DataFrame
    bins: pd.DataFrame
    outliers: pd.DataFrame
    divergence: pd.DataFrame
    recommendations: pd.DataFrame
    languages: pd.DataFrame
    pruning: pd.DataFrame
    mask: np.ndarray
    cdf: pd.DataFrame
    line: tuple[float, float]
    summary: dict[str, Any]
    label: str = "token weight"


def occurrences(counted: Path | None, counts: str | None) -> np.ndarray:
    """Counts (V,) int64 by token id: of a corpus, or of a .npy file that settings name."""
    if counted is not None:
        return read_array(counted)
    if counts is None:
        raise AtlasError("no counts to compare with", remedy="give `counts`")
    return counts_in(user_path(counts))


def counts_in(path: Path) -> np.ndarray:
    """The counts (V,) int64 of a .npy file of shape (V,), (V, 1) or (1, V); AtlasError for what counts nothing."""
    stored = named_tensor(path, None, "token_counts")
    if sum(size != 1 for size in stored.shape) > 1 or not stored.shape:
        raise AtlasError(
            f"counts of shape {list(stored.shape)}", where=path, remedy="give one count a token: (V,) or (V, 1)"
        )
    counts = stored.values().reshape(-1)
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.floor(counts)).all()):
        raise AtlasError("counts are whole numbers from 0, and these are not", where=path, remedy="check the file")
    if counts.sum() >= 2**63:  # also what a difference below 0 becomes without a sign
        raise AtlasError(
            f"counts that add up to {counts.sum():.3g}",
            where=path,
            remedy="check the file: no corpus has so many tokens",
        )
    return counts.astype(np.int64)


def beside_counts(
    tokens: pd.DataFrame, counts: np.ndarray, settings: Frequency, by_group: pd.DataFrame | None = None
) -> BesideCounts:
    """All tables of weights beside counts.

    tokens: of token_table; counts: (V,). by_group: the counts of each group of documents, such as a language.
    """
    table = frequency.with_counts(tokens, counts)
    if by_group is not None and (languages := languages_of(by_group, len(table))) is not None:
        table["language"] = languages
    table["outlier"] = frequency.is_outlier(table, settings.threshold)
    correlations = frequency.correlations(table)
    recommendations = frequency.recommendations(table, settings.threshold)
    used = table[~table["masked"] & np.isfinite(table["weight"])]["weight"].to_numpy()
    return BesideCounts(
        tokens=table,
        correlations=correlations,
        statistics=frequency.statistics_of_seen(table),
        bins=frequency.weights_by_count(table),
        outliers=frequency.outliers(table, settings.threshold, settings.outliers),
        divergence=frequency.divergence(table, settings.divergent),
        recommendations=recommendations,
        languages=best_by_language(table, settings.best),
        pruning=pruning_study(table),
        mask=((table["count"] >= settings.threshold) & ~table["masked"]).to_numpy(bool),
        cdf=value_cdf(*np.unique(used, return_counts=True)),
        line=frequency.regression(table),
        summary=frequency.summary(table, correlations, recommendations, len(counts)),
    )
