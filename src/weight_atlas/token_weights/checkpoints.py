"""The weights of tokens in each checkpoint of a training run, and their study."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.numbers_of import number_of
from weight_atlas.settings.token_weights import Evolution
from weight_atlas.token_weights.choices import checkpoint_files
from weight_atlas.token_weights.evolution import evolution, labels_of, most_moved, trend
from weight_atlas.token_weights.reading import read_token_weights


@dataclass(frozen=True)
class Followed:
    """Tables of a training run: of evolution, of most_moved, and the reading of trend."""

    course: pd.DataFrame
    moved: pd.DataFrame
    summary: dict[str, Any]


def followed(tokens: pd.DataFrame, settings: Evolution) -> Followed:
    """Read the weights of every checkpoint, one file after the other, and follow them.

    tokens: of token_table; its masked tokens are left out. AtlasError where a checkpoint has other tokens.
    """
    paths = checkpoint_files(settings.checkpoints or [])
    if not paths:
        raise AtlasError("no checkpoints to follow", remedy="give `checkpoints`: files or patterns of them")
    plain = settings.model_copy(update={"columns": None} if settings.column is None else {})
    kept = np.flatnonzero(~tokens["masked"].to_numpy(bool))
    vectors = []
    for path in paths:
        weights = read_token_weights(path, plain, top=1).weights
        if len(weights) != len(tokens):
            raise AtlasError(
                f"{number_of(len(weights), 'weight')}, where the vector has {len(tokens)}",
                where=path,
                remedy="give checkpoints of the run that the vector is from",
            )
        vectors.append(weights[kept])
    labels = labels_of(paths)
    course = evolution(vectors, labels, settings.initial)
    moved = most_moved(vectors, kept, tokens["token"].tolist(), labels, settings.moved)
    return Followed(course, moved, trend(course, settings.initial))
