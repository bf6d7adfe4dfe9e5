"""The table of a vocabulary's weights, one row a token, and the tokens at its ends."""

import numpy as np
import pandas as pd

from weight_atlas.numbers_of import number_of

# Boolean columns of what a token is, where a tokenizer says it; see vocabulary.token_classes.
SPECIAL = "special"


def token_table(weights: np.ndarray, kept: np.ndarray | None, classes: pd.DataFrame | None) -> pd.DataFrame:
    """One row per id: id, token (its text), weight, masked; and, of a tokenizer, special and its classes.

    weights: (V,); kept: (V,) bool or None. classes: of vocabulary.token_classes; ids that it lacks have no text, and
    those beyond the weights are left out; the log says so. None: tokens have no texts.
    """
    size = len(weights)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "token": "",
            "weight": weights,
            "masked": np.zeros(size, dtype=bool) if kept is None else ~kept,
        }
    )
    if classes is None:
        return table
    if len(classes) != size:
        print(
            f"the tokenizer has {number_of(len(classes), 'id')}, the vector {number_of(size, 'weight')}: "
            "ids are matched as far as both go"
        )
    flags = class_columns(classes)
    matched = classes.set_index("id").reindex(range(size))
    table["token"] = matched["text"].fillna("").astype(str).to_numpy()
    return table.assign(**{name: matched[name].eq(True).to_numpy(bool) for name in flags})


def class_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a table that say what a token is."""
    flags = [name for name in table.columns if table[name].dtype == bool]
    return [name for name in flags if name != "masked"]


def extreme_tokens(tokens: pd.DataFrame, top: int) -> pd.DataFrame:
    """The tokens of highest and of lowest weight: end ("highest", "lowest"), rank (from 1), id, token, weight.

    tokens: of token_table; masked tokens and weights that are no numbers are left out. Equal weights are in the order
    of ids.
    """
    used = tokens[~tokens["masked"] & np.isfinite(tokens["weight"])]
    parts = []
    for end, ascending in (("highest", False), ("lowest", True)):
        part = used.sort_values("weight", ascending=ascending, kind="stable").head(top)
        parts.append(part.assign(end=end, rank=np.arange(1, len(part) + 1)))
    return pd.concat(parts, ignore_index=True)[["end", "rank", "id", "token", "weight"]]


def with_texts(listed: pd.DataFrame, tokens: pd.DataFrame) -> pd.DataFrame:
    """A table that lists ids, with a column `token` of their texts behind the id."""
    table = listed.copy()
    table.insert(int(list(table.columns).index("id")) + 1, "token", tokens["token"].to_numpy()[listed["id"]])
    return table
