"""A vector's study by itself: from where it lies to all of its tables."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.paths import user_path
from weight_atlas.settings.token_weights import Vector
from weight_atlas.token_weights.diagnoses import diagnoses, findings_of, sparsity_reading
from weight_atlas.token_weights.diagnoses import table_of as diagnoses_table
from weight_atlas.token_weights.hub_file import open_vector
from weight_atlas.token_weights.pruning import pruned, pruning_study
from weight_atlas.token_weights.reading import TokenWeights, matrix_row_norms, read_token_weights
from weight_atlas.token_weights.statistics import KEPT, NEAR_ZERO, statistics_by_set
from weight_atlas.token_weights.token_table import class_columns, extreme_tokens, token_table, with_texts
from weight_atlas.weights.cdf import value_cdf


@dataclass(frozen=True)
class Study:
    """Tables of one vector; see the functions that make them.

    tokens: of token_table. columns: the tokens of highest weight in each column of a table. pruned: (V,). used: the
    finite weights of kept tokens. label: what the weights are, for an axis.
    """

    tokens: pd.DataFrame
    statistics: pd.DataFrame
    diagnoses: pd.DataFrame
    extremes: pd.DataFrame
    columns: pd.DataFrame
    pruning: pd.DataFrame
    pruned: np.ndarray
    cdf: pd.DataFrame
    used: np.ndarray
    summary: dict[str, Any]
    label: str


def read_vector(
    settings: Vector, checkpoint: Path | None = None, inventory: Path | None = None, fetched: Path | None = None
) -> TokenWeights:
    """The weights that settings name: of a file, or, by its manifest and inventory, of a model's matrix.

    fetched: the manifest of a file on the hub.
    """
    if checkpoint is not None and inventory is not None:
        return matrix_row_norms(open_checkpoint(checkpoint), read_table(inventory), settings.matrix)
    if settings.source is None:
        raise AtlasError("no weights to read", remedy="give a source, or a model's manifest and inventory")
    path = user_path(settings.source) if fetched is None else open_vector(fetched)
    return read_token_weights(path, settings, settings.top)


def study(read: TokenWeights, settings: Vector, classes: pd.DataFrame | None, tokenizer: Path | None = None) -> Study:
    """All tables of a vector. classes: what the tokens are; else tokenizer: the manifest of one, or None."""
    if classes is None and tokenizer is not None:
        classes = classes_of(tokenizer)
    tokens = token_table(read.weights, read.kept, classes)
    kept = ~tokens["masked"].to_numpy(bool)
    found, shape = diagnoses(read.weights, read.kept, settings.initial)
    statistics = statistics_by_set(tokens, class_columns(tokens))
    used = read.weights[kept & np.isfinite(read.weights)]
    values, counts = np.unique(used, return_counts=True)
    # Of the kept tokens, as all the rest of the summary is.
    of_kept = statistics[statistics["tokens"] == KEPT]
    whole = (of_kept if len(of_kept) else statistics).iloc[0].to_dict() if len(statistics) else {}
    summary = {
        "weights": read.made_of,
        "vocabulary": len(tokens),
        "masked": int((~kept).sum()),
        "initial": settings.initial,
        **{name: whole.get(name) for name in ("mean", "median", "std", "min", "max", "sparsity")},
        "sparsity_reading": sparsity_reading(float((np.abs(used) < NEAR_ZERO).mean())) if len(used) else None,
        **asdict(shape),
        "pruned_at": {"percentile": settings.prune, "by": settings.prune_by},
        "findings": findings_of(found),
    }
    return Study(
        tokens=tokens,
        statistics=statistics,
        diagnoses=diagnoses_table(found),
        extremes=extreme_tokens(tokens, settings.top),
        columns=with_texts(read.best, tokens),
        pruning=pruning_study(tokens),
        pruned=_stored(pruned(read.weights, kept, settings.prune, settings.prune_by)),
        cdf=value_cdf(values, counts),
        used=used,
        summary=summary,
        label="L2 norm" if "L2 norm" in read.made_of or "norm of each row" in read.made_of else "token weight",
    )


def _stored(weights: np.ndarray) -> np.ndarray:
    """As float32, which holds all types of weights but float64; as that where it would lose a number."""
    with np.errstate(over="ignore"):
        single = weights.astype(np.float32)
    exact = np.array_equal(single.astype(np.float64), weights, equal_nan=True)
    return single if exact else weights


def classes_of(tokenizer: Path) -> pd.DataFrame:
    """What the tokens of a tokenizer are (see vocabulary.token_classes); tokenizer: its manifest."""
    from weight_atlas.tokens.tokenizer_source import open_tokenizer

    return _classes_at(open_tokenizer(tokenizer))


def classes_in(source: str) -> pd.DataFrame:
    """What the tokens are of a tokenizer that is named by its place: a folder, a file, or hf://organisation/name."""
    from weight_atlas.tokens.tokenizer_fetch import place_of

    return _classes_at(place_of(source))


def _classes_at(place: Path) -> pd.DataFrame:
    from weight_atlas.tokens.model_vocabulary import tokenizer_vocabulary
    from weight_atlas.vocabulary.token_classes import read_token_classes

    vocabulary = tokenizer_vocabulary(place, trust_remote_code=False)
    # Which rows are untrained is asked of embeddings, not of a vector of weights.
    return read_token_classes(vocabulary.tokenizer, vocabulary.texts).drop(columns="untrained")
