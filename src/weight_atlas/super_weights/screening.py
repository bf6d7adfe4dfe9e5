"""Candidates for super weights from the weights alone: no forward pass, one matrix in memory at a time.

Of the coordinates published in arXiv 2411.07191 nearly all are among the largest six weights of their matrix. Size
alone does not make a super weight: a large weight behind a neuron that never fires is inert. The score of a row is
a bound on how strongly its inputs can drive it: sqrt(sum_j W[i, j]^2 ||W_gate[j]||^2 ||W_up[j]||^2), with the norms of
the rows of neuron j.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch

from weight_atlas.errors import NotApplicable

COLUMNS = (
    "tensor", "layer", "component", "expert", "rank", "row", "column", "weight", "rms", "size", "gaussian_size",
    "path_gain", "row_score", "row_score_ratio", "row_rank",
)  # fmt: skip
# Elements of a block that is converted to float32 beside the stored matrix.
BLOCK = 1 << 22


def screen(inventory: pd.DataFrame, load: Callable[[Any], torch.Tensor], *, top: int) -> pd.DataFrame:
    """The largest weights of every MLP output projection, with the scores of their rows.

    inventory: the rows of one checkpoint; load: gives the logical (out, in) matrix of one of them. top: weights per
    matrix. Columns: rank by |W| in the matrix; weight; rms of the matrix; size = |W| / rms; gaussian_size, the size
    of the largest of as many Gaussian numbers (about sqrt(2 ln n)); path_gain = |W[i, j]| ||W_gate[j]|| ||W_up[j]||;
    row_score, its ratio to the median row's, and row_rank. Scores are missing where W_gate and W_up are not available.
    Values that are not finite are ignored.
    """
    rows: list[dict] = []
    before = rows_before(inventory)
    for row in output_projections(inventory).itertuples():
        norms = _neuron_norms(before(row), load)
        rows += _screened(row, load(row), norms, top)
    return screened_rows(pd.DataFrame(rows))


def screened_rows(rows: pd.DataFrame | None) -> pd.DataFrame:
    """The table that screen() gives, of its rows; None: without a row, which is NotApplicable."""
    if rows is None or rows.empty:
        raise NotApplicable("the model has no MLP output projection whose weights can be read")
    return pd.DataFrame(rows.to_dict("records"), columns=list(COLUMNS)).astype({"expert": "Int64"})


def output_projections(inventory: pd.DataFrame) -> pd.DataFrame:
    """The rows of an inventory that are MLP output projections whose weights can be read."""
    usable = inventory.readable & (inventory.tied_to == "") & inventory.layer.notna() & inventory.cols.notna()
    return inventory[usable & (inventory.role == "W_down") & (inventory.parameters > 0)]


def rows_before(inventory: pd.DataFrame) -> Callable[[Any], list[Any]]:
    """A function that gives the rows of W_gate and W_up before an output projection, by its row."""
    before: dict[tuple, list[Any]] = {}
    for row in inventory[inventory.role.isin(["W_gate", "W_up"]) & inventory.readable].itertuples():
        before.setdefault(_place(row), []).append(row)
    return lambda down: [row for row in before.get(_place(down), ()) if row.rows == down.cols]


def _place(row: Any) -> tuple:
    layer, expert = (None if pd.isna(number) else int(number) for number in (row.layer, row.expert))
    return row.stack, row.component, layer, expert


def _neuron_norms(before: list[Any], load: Callable[[Any], torch.Tensor]) -> torch.Tensor | None:
    """Product of the norms of the rows of W_gate and W_up of each neuron: float64 (cols,)."""
    norms = [_row_norms(load(row)) for row in before]
    if not 1 <= len(norms) <= 2:
        return None
    return norms[0] if len(norms) == 1 else norms[0] * norms[1]


def _row_norms(matrix: torch.Tensor) -> torch.Tensor:
    return torch.cat([block.square().sum(1, dtype=torch.float64) for _, block in _blocks(matrix)]).sqrt()


def _blocks(matrix: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    height = max(1, BLOCK // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], height):
        # A copy also where the matrix is float32 already: the block is worked on in place.
        yield start, matrix[start : start + height].to(torch.float32, copy=True)


def _screened(down: Any, matrix: torch.Tensor, norms: torch.Tensor | None, top: int) -> list[dict]:
    found, rms = largest_of(matrix, top)
    score = None if norms is None else _scores(matrix, norms)
    return [_row(down, matrix, rank, place, rms, norms, score) for rank, (*place, _) in enumerate(found, start=1)]


def _scores(matrix: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """The score of every row, float64 (rows,); see the head of this module."""
    weights, scores = norms.square().float(), []
    for _, block in _blocks(matrix):
        block.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        scores.append((block.square_() @ weights).double())
    return torch.cat(scores).sqrt()


def largest_of(matrix: torch.Tensor, top: int) -> tuple[list[tuple[int, int, float]], float]:
    """The `top` largest |w| of a matrix, each as (row, column, |w|), and the root mean square of all.

    In float32, block by block; values that are not finite count as zeros.
    """
    places, values, energy = [], [], 0.0
    for start, block in _blocks(matrix):
        block.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        energy += float(block.square().sum(dtype=torch.float64))
        magnitude, place = largest(block.abs_().flatten(), top)
        places.append(place + start * matrix.shape[1])
        values.append(magnitude)
    place, value = torch.cat(places), torch.cat(values)
    order = value.sort(descending=True, stable=True).indices[:top]
    found = [(*divmod(int(place[at]), matrix.shape[1]), float(value[at])) for at in order.tolist()]
    return found, math.sqrt(energy / max(matrix.numel(), 1))


def largest(values: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `top` largest of many values that are not negative, and their places; of equal values the first places.

    Selecting among all is slow: at least `top` values reach the `top`-th largest of the maxima of short pieces.
    """
    piece = max(1, min(512, len(values) // max(top, 1)))
    maxima = values[: len(values) // piece * piece].view(-1, piece).amax(1)
    least = maxima.topk(min(top, len(maxima))).values[-1]
    place = (values >= least).nonzero()[:, 0] if least > 0 else torch.arange(len(values))
    order = values[place].sort(descending=True, stable=True).indices[:top]
    return values[place[order]], place[order]


def _row(down: Any, matrix: torch.Tensor, rank: int, place: Sequence[int], rms: float, norms: Any, score: Any) -> dict:
    row, column = place
    count = matrix.numel()
    weight = float(matrix[row, column])
    scored = score is not None and float(score.median()) > 0
    return {
        "tensor": down.tensor,
        "layer": int(down.layer),
        "component": down.component,
        "expert": down.expert,
        "rank": rank,
        "row": row,
        "column": column,
        "weight": weight,
        "rms": rms,
        "size": abs(weight) / rms if rms else None,
        "gaussian_size": math.sqrt(2 * math.log(count)) if count > 1 else None,
        "path_gain": None if norms is None else abs(weight) * float(norms[column]),
        "row_score": float(score[row]) if scored else None,
        "row_score_ratio": float(score[row] / score.median()) if scored else None,
        "row_rank": int((score > score[row]).sum()) + 1 if scored else None,
    }
