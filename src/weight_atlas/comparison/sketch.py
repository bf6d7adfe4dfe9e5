"""A sketch of a model's weights: of each matrix a few thousand elements, at places that only its shape decides.

Elements at the same places of two models tell how many signs and bits they share, and how far each is a weighted sum of
others, without reading a weight again.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from weight_atlas.comparison.pairing import KEY
from weight_atlas.families.pieces import load_piece, matrices

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint

# Elements of a matrix: at most, and at least where a model has very many; of a whole model about so many.
MOST, LEAST, TOGETHER = 4096, 256, 1 << 24
COLUMNS = [*KEY, "id", "rows", "cols", "dtype", "values"]


def places(rows: int, columns: int, count: int) -> np.ndarray:
    """The first `count` places of a matrix of this shape, in memory order; fewer are the beginning of more."""
    if rows * columns <= LEAST:
        return np.arange(rows * columns)
    return np.random.default_rng([rows, columns]).integers(0, rows * columns, size=MOST)[:count]


def sketch(checkpoint: "Checkpoint", inventory: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """A row for each matrix with data of its own: COLUMNS, values in float32; an empty table where there is none.

    most: elements of a matrix.
    """
    own = matrices(inventory)
    count = max(LEAST, min(most, TOGETHER // max(1, len(own))))
    rows = [_sketched(checkpoint, row, count) for row in own.itertuples(index=False)]
    whole = ("layer", "expert", "rows", "cols")
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(whole, "Int64"))


def _sketched(checkpoint: "Checkpoint", row: Any, count: int) -> dict[str, Any]:
    import torch

    tensor = load_piece(checkpoint, row).reshape(-1)
    chosen = torch.from_numpy(places(int(row.rows), int(row.cols), count))
    values = tensor[chosen].float().numpy()
    return {**{name: getattr(row, name) for name in COLUMNS[:-1]}, "values": values}
