"""Pruning the rows of tokens of low weight in a model's embedding, beside as many random tokens."""

import numpy as np
import pandas as pd

from weight_atlas.interventions.changes import RowsZeroed
from weight_atlas.interventions.intervention import Impossible, Intervention
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.matrices import matrix_at
from weight_atlas.settings.ablations import TokenRows


def token_row_variants(live: Anatomy, tokens: pd.DataFrame, settings: TokenRows) -> list[Intervention]:
    """For each share of the tokens: those of lowest weight pruned, and `draws` random sets of as many.

    tokens: id, weight, masked and, where a tokenizer is known, special. Special and masked tokens are neither pruned
    nor drawn. Raises Impossible where the model has fewer rows than the vector has weights.
    """
    rows = matrix_at(live, Coordinate(0, None, None, role=settings.matrix)).shape[0]
    if len(tokens) > rows:
        raise Impossible(f"the vector has {len(tokens)} tokens and {settings.matrix} {rows} rows")
    ids, weights = _candidates(tokens)
    size = np.abs(weights) if settings.prune_by == "magnitude" else weights
    order = ids[np.argsort(size, kind="stable")]
    random = np.random.default_rng(settings.seed)
    draws = [random.permutation(ids) for _ in range(settings.draws)]
    variants = []
    for percentile in settings.percentiles:
        count = round(percentile / 100 * len(ids))
        if not count:
            continue
        name = f"{percentile:g} % of tokens"
        variants.append(Intervention("token_rows", _zeroed(settings.matrix, order[:count]), name=f"lowest {name}"))
        variants += [
            Intervention(
                "random_tokens", _zeroed(settings.matrix, drawn[:count]), draw=draw, name=f"random {name}, {draw}"
            )
            for draw, drawn in enumerate(draws, 1)
        ]
    if not variants:
        raise Impossible(f"the shares come to less than one of {len(ids)} tokens")
    return variants


def _candidates(tokens: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Ids and weights of the tokens that may be pruned."""
    free = ~tokens["masked"].to_numpy(bool) & np.isfinite(tokens["weight"].to_numpy())
    if "special" in tokens:
        free &= ~tokens["special"].to_numpy(bool)
    return tokens["id"].to_numpy()[free], tokens["weight"].to_numpy()[free]


def _zeroed(matrix: str, ids: np.ndarray) -> RowsZeroed:
    return RowsZeroed(matrix, tuple(sorted(map(int, ids))))
