"""The embeddings and unembeddings of a model, looked through for rows without training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import Load
from weight_atlas.weights.untrained_rows import known_unused, untrained_rows

VOCABULARY_ROLES = ("W_E", "W_U")


def untrained_tokens(
    inventory: pd.DataFrame, load: Load, tokens: Sequence[str | None], config: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All rows of the embeddings and unembeddings that have data of their own, and a row a matrix.

    load: gives a tensor by its row of the inventory. tokens: the names of ids, none where there is no tokenizer.
    config: config.json, for initializer_range. Rows: id, role, token_id, token, in_tokenizer, then those of
    untrained_rows. NotApplicable for a model without such a matrix.
    """
    chosen = inventory[inventory["role"].isin(VOCABULARY_ROLES) & inventory["cols"].notna() & inventory["readable"]]
    chosen = chosen[(chosen["tied_to"] == "") & (chosen["parameters"] > 0) & (chosen["component"] == "")]
    if chosen.empty:
        raise NotApplicable("the model has no token embedding of its own")
    initial = config.get("initializer_range")
    tables, summaries = [], []
    for row in chosen.itertuples(index=False):
        tensor = load(row)

        def values(start: int, end: int, tensor: Any = tensor) -> np.ndarray:
            return tensor[start:end].double().numpy()

        found = untrained_rows(
            values,
            (tensor.shape[0], tensor.shape[1]),
            unused=known_unused(tokens, len(tensor)),
            initial=initial if isinstance(initial, float) else None,
            embedding=row.role == "W_E",
        )
        names = [tokens[token] or "" if token < len(tokens) else "" for token in found.rows["token_id"]]
        named = {"token": names, "in_tokenizer": [bool(name) for name in names]}
        tables.append(pd.DataFrame({"id": row.id, "role": row.role, **named}).join(found.rows))
        summaries.append({"id": row.id, "role": row.role, "tokens": sum(map(bool, tokens)), **found.summary})
    columns = ["id", "role", "token_id", "token", "in_tokenizer", "signs", "norm", "norm_z", "cosine", "partner"]
    return pd.concat(tables, ignore_index=True)[columns], pd.DataFrame(summaries)
