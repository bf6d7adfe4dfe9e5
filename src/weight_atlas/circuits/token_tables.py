"""What heads meet in the residual stream: token embeddings, what tokens are read out by, and learned positions."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.circuits.reading import TokenReader
from weight_atlas.errors import NotApplicable
from weight_atlas.families.pieces import load_piece
from weight_atlas.families.roles import Role

# Rows of embeddings that are brought to float64 at a time, and learned positions that are looked at.
BLOCK, POSITIONS = 4096, 256


@dataclass(frozen=True)
class TokenTables:
    """The tokens of a model as its heads meet them, with E (V, d) the embeddings and U (V, d) the folded unembedding.

    copying: (d, d), sum over tokens of (e - mean)^T (u - mean): a circuit through the vocabulary, U A E^T, has the
    eigenvalues of its k x k core with this matrix between its factors. Means are taken out, since one that all tokens
    share says nothing of a token, and a logit that all share changes no prediction. matching: the same of E with E.
    positions: (n, d) the first learned positions, or None where positions are not in the residual stream.
    """

    copying: np.ndarray
    matching: np.ndarray
    positions: np.ndarray | None


def token_tables(checkpoint: Any, inventory: pd.DataFrame, reader: TokenReader) -> TokenTables:
    """The tables of a checkpoint's tokens that stand for text and were trained (see token_reader)."""
    load = partial(load_piece, checkpoint)
    decoder = inventory[(inventory["stack"] == "decoder") & inventory["readable"] & (inventory["component"] == "")]
    embeddings = decoder[decoder["role"] == Role.W_E.value]
    if embeddings.empty:
        raise NotApplicable("the model has no token embedding of its own: no circuit begins at a token")
    W_E, U = load(next(embeddings.itertuples())), reader.vocabulary.readout.unembedding
    if W_E.shape[1] != U.shape[1]:
        raise NotApplicable("the token embedding is narrower than the residual stream, and projected into it")
    ids = torch.from_numpy(reader.ids)
    known = ids < len(W_E)
    E, U = W_E[ids[known]], U[known]
    positions = decoder[(decoder["role"] == Role.W_POS.value) & (decoder["cols"] == W_E.shape[1])]
    first = load(next(positions.itertuples()))[:POSITIONS].double().numpy() if len(positions) else None
    return TokenTables(covariance(E, U), covariance(E, E), first)


def covariance(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """sum over rows of (l - mean)^T (r - mean), (d_left, d_right) float64, block by block; left, right: (V, d)."""
    total = np.zeros((left.shape[1], right.shape[1]))
    sums = [np.zeros(each.shape[1]) for each in (left, right)]
    for start in range(0, len(left), BLOCK):
        a, b = (each[start : start + BLOCK].double().numpy() for each in (left, right))
        total += a.T @ b
        sums = [sums[0] + a.sum(axis=0), sums[1] + b.sum(axis=0)]
    return total - np.outer(*sums) / max(len(left), 1)
