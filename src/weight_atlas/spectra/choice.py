"""Choice of single matrices and heads by short texts: "W_down:middle", "W_up:-1:3", "W_E", "middle:0"."""

import pandas as pd

from weight_atlas.errors import AtlasError, NotApplicable

NAMED_LAYERS = {"first": 0.0, "middle": 0.5, "last": 1.0}


def choose_matrices(table: pd.DataFrame, choices: list[str]) -> pd.DataFrame:
    """Rows of a table with role, layer and expert, in the order of the choices.

    A choice is a matrix's id, or ROLE, ROLE:LAYER or ROLE:LAYER:EXPERT. LAYER is a number (negative: from the end),
    first, middle or last, of the layers that have this role. A choice that the model does not have is left out; of
    several matrices that match one choice, the first is taken.
    """
    chosen = []
    for choice in choices:
        if (table["id"] == choice).any():
            chosen.append(table[table["id"] == choice])
            continue
        role, layer, expert = [*choice.split(":"), "", ""][:3]
        rows = table[table["role"] == role]
        if layer:
            rows = rows[rows["layer"] == _layer(rows["layer"], layer, choice)]
        if expert:
            rows = rows[rows["expert"] == _number(expert, choice)]
        chosen.append(rows.head(1))
    return pd.concat(chosen).drop_duplicates("id") if chosen else table.head(0)


def required_matrices(table: pd.DataFrame, choices: list[str]) -> pd.DataFrame:
    """choose_matrices, and NotApplicable where the model has none of them."""
    chosen = choose_matrices(table, choices)
    if chosen.empty:
        raise NotApplicable(f"the model has none of the chosen matrices: {', '.join(choices) or 'none is chosen'}")
    return chosen


def choose_heads(kernels: pd.DataFrame, choices: list[str]) -> pd.DataFrame:
    """Rows of a table with layer and head, in the order of the choices, each LAYER:HEAD; see choose_matrices."""
    chosen = []
    for choice in choices:
        layer, _, head = choice.partition(":")
        rows = kernels[kernels["head"].notna()]
        rows = rows[(rows["layer"] == _layer(rows["layer"], layer, choice)) & (rows["head"] == _number(head, choice))]
        chosen.append(rows.sort_values("circuit", ascending=False, kind="stable"))
    return pd.concat(chosen) if chosen else kernels.head(0)


def _layer(layers: pd.Series, word: str, choice: str) -> int:
    known = sorted(layers.dropna().unique())
    if word in NAMED_LAYERS:
        return int(known[round(NAMED_LAYERS[word] * (len(known) - 1))]) if known else -1
    number = _number(word, choice)
    return number if number >= 0 or not known else int(known[-1]) + 1 + number


def _number(word: str, choice: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise AtlasError(
            f"{choice!r} is not a choice: {word!r} is neither a number nor first, middle or last",
            remedy='write e.g. "W_down:middle", "W_up:-1:3" (role, layer, expert) or "12:0" (layer, head)',
        ) from None
