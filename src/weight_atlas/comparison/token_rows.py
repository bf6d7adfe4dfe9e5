"""Which rows of two vocabularies are the same token: by its spelling, whatever its number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenRows:
    """Rows of a and of b that stand for the same tokens, in the order of a; and those that stand alone.

    how: "token" where both sides have spellings, else "number".
    """

    a: np.ndarray
    b: np.ndarray
    only_a: np.ndarray
    only_b: np.ndarray
    how: str

    @property
    def identity(self) -> bool:
        """Whether every row of both sides stands at its own place."""
        return not len(self.only_a) and not len(self.only_b) and bool((self.a == self.b).all())


def token_rows(tokens_a: Sequence[str | None], tokens_b: Sequence[str | None], rows_a: int, rows_b: int) -> TokenRows:
    """Match the rows of two embeddings by the spellings of their tokens.

    tokens_a, tokens_b: by number, empty without a tokenizer. Rows without a token on both sides, such as padding, are
    matched by number; without a tokenizer on one side all are.
    """
    if not any(tokens_a) or not any(tokens_b):
        shared = np.arange(min(rows_a, rows_b))
        return TokenRows(shared, shared, np.arange(len(shared), rows_a), np.arange(len(shared), rows_b), "number")
    names_a, names_b = (_spelled(tokens, rows) for tokens, rows in ((tokens_a, rows_a), (tokens_b, rows_b)))
    places = {name: row for row, name in enumerate(names_b) if name is not None}
    pairs = []
    for row, name in enumerate(names_a):
        unnamed = name is None and row < rows_b and names_b[row] is None
        other = row if unnamed else places.get(name or "")
        if other is not None:
            pairs.append((row, other))
    matched = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    left = [np.setdiff1d(np.arange(rows), matched[:, side]) for side, rows in ((0, rows_a), (1, rows_b))]
    return TokenRows(matched[:, 0], matched[:, 1], left[0], left[1], "token")


def _spelled(tokens: Sequence[str | None], rows: int) -> list[str | None]:
    return [tokens[row] if row < len(tokens) else None for row in range(rows)]
