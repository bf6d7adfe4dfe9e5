"""The vocabularies of two models: how tokens are spelled, and what became of their rows."""

from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.comparison.sides import Sides
from weight_atlas.errors import NotApplicable
from weight_atlas.tokens.tokenizer import token_names

LISTED = 10


def spellings(folder: Path, trust_remote_code: bool) -> list[str | None]:
    """The spelling of each token by its number; none where a model comes without a tokenizer."""
    try:
        return token_names(folder, trust_remote_code=trust_remote_code)
    except NotApplicable:
        return []


def vocabulary_counts(sides: Sides) -> dict[str, Any] | None:
    """What became of the rows of the vocabulary; None where no matrix of it is compared.

    rows_a, rows_b; matched, by how (token or number), moved: matched ones at another number; only_a, only_b, with the
    first tokens of each.
    """
    found = sides.tokens
    if found is None:
        return None
    spelled = sides.spelled
    return {
        "rows_a": len(found.a) + len(found.only_a),
        "rows_b": len(found.b) + len(found.only_b),
        "matched": len(found.a),
        "how": found.how,
        "moved": int((found.a != found.b).sum()),
        "only_a": len(found.only_a),
        "only_b": len(found.only_b),
        "tokens_a": [name for row in found.only_a[:LISTED] if (name := spelled("a", int(row)))],
        "tokens_b": [name for row in found.only_b[:LISTED] if (name := spelled("b", int(row)))],
    }


def most_changed_tokens(tokens: pd.DataFrame, sides: Sides, top: int) -> pd.DataFrame:
    """The rows of each vocabulary matrix that changed most relative to their size, at most `top`, with their tokens."""
    changed = tokens[tokens["changed"] > 0].drop(columns="position")
    ranked = changed.sort_values(["id_a", "relative"], ascending=[True, False], kind="stable")
    best = ranked.groupby("id_a", sort=False).head(top).reset_index(drop=True)
    best.insert(2, "token", [sides.spelled("a", int(row)) or "" for row in best["row_a"]])
    return best
