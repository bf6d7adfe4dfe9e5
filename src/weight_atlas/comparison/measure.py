"""Every tensor of two models compared: what changed, by how much, where, and in how many directions."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from weight_atlas.comparison.delta_spectra import DeltaSpectrum, delta_spectrum
from weight_atlas.comparison.elementwise import Difference, difference, segment_of
from weight_atlas.comparison.heads import CHANGED, head_rows, places
from weight_atlas.comparison.pairing import KEY
from weight_atlas.comparison.reordered import reordered
from weight_atlas.comparison.sides import Sides
from weight_atlas.comparison.sources import Source, Stored
from weight_atlas.comparison.subspaces import overlap
from weight_atlas.families.roles import MATRIX_ROLES, Role
from weight_atlas.settings.comparison import ComparisonPart
from weight_atlas.spectra import schedule

_MATRICES = {role.value for role in MATRIX_ROLES}
_PLACE = [*KEY, "id_a", "id_b", "rows", "cols", "dtype_a", "dtype_b", "renamed", "by_token"]
_COUNTS = ["n", "changed", "beyond_step", "signs", "not_finite_a", "not_finite_b"]
_NUMBERS = ["norm_a", "norm_b", "norm_d", "relative", "cosine", "largest", "value_a", "value_b", "ks", "ks_null"]
_WHOLE = ["place_row", "place_col", "flipped_bit", "rows_changed", "overlap_k"]
_OVERLAP = ["overlap_left", "overlap_right", "overlap_left_null", "overlap_right_null", "overlap_angle"]
_SPECTRUM = ["error_bound", "frobenius", "rounding"]
PART_COLUMNS = [
    "position", *_PLACE, *_COUNTS, *_NUMBERS, *_WHOLE, *_OVERLAP, "method", "reordered", *_SPECTRUM, "zero_rows",
    "zero_cols", "sigma",
]  # fmt: skip
HEAD_COLUMNS = [
    "position", "id_a", "stack", "layer", "component", "role", "head", "n", "changed", "norm_a", "norm_b", "norm_d",
    "relative", "cosine", "origin", "origin_cosine",
]  # fmt: skip
TOKEN_COLUMNS = ["position", "id_a", "role", "row_a", "row_b", "changed", "norm_a", "norm_b", "norm_d", "relative"]


class Measured(NamedTuple):
    """What one pair of tensors gives: its row, and the rows of its heads and of its tokens."""

    row: dict[str, Any]
    heads: list[dict[str, Any]]
    tokens: pd.DataFrame | None


class PartTables(NamedTuple):
    """The tables of a part, see PART_COLUMNS, HEAD_COLUMNS and TOKEN_COLUMNS."""

    tensors: pd.DataFrame
    heads: pd.DataFrame
    tokens: pd.DataFrame


def share_of(pairs: pd.DataFrame, part: int, count: int) -> pd.DataFrame:
    """The pairs in part `part` (from 1) of `count` parts of about equal cost."""
    costs = [_cost(row) for row in pairs.itertuples(index=False)]
    return pairs.iloc[schedule.parts(costs, count)[part - 1]]


def _cost(row: Any) -> float:
    rows, columns = int(row.rows), 1 if pd.isna(row.cols) else int(row.cols)
    # An element costs about as much to read and to compare as fifty multiply-adds.
    return 50.0 * rows * columns + (schedule.cost(rows, columns) if row.role in _MATRICES else 0.0)


def measured(
    share: pd.DataFrame, sides: Sides, settings: ComparisonPart, *, threads: int, memory_bytes: int
) -> PartTables:
    """Compare the tensors of a share of sides.pairs; threads: pairs that are compared at once.

    memory_bytes: what they may take beyond the largest matrix in float64 and its Gram matrix.
    """
    rows = list(share.itertuples())
    shapes = [(int(row.rows), 1 if pd.isna(row.cols) else int(row.cols)) for row in rows]
    needs = [2 * schedule.working_bytes(*shape, 4 * shape[0] * shape[1]) for shape in shapes]
    tasks: list[Callable[[], Measured]] = [partial(_measured, row, sides, settings) for row in rows]
    with schedule.one_thread_each():
        found = schedule.run_within(tasks, needs, schedule.allowed_bytes(shapes, memory_bytes), threads)
    heads = [row for each in found for row in each.heads]
    tokens = [each.tokens for each in found if each.tokens is not None]
    return PartTables(
        _typed(pd.DataFrame([each.row for each in found], columns=PART_COLUMNS)),
        _typed(pd.DataFrame(heads, columns=HEAD_COLUMNS)),
        _typed(pd.concat(tokens, ignore_index=True) if tokens else pd.DataFrame(columns=TOKEN_COLUMNS)),
    )


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """With the same types whatever the rows, also of an empty part."""
    whole = {"layer", "expert", "rows", "cols", *_COUNTS, *_WHOLE, "zero_rows", "zero_cols", "head", "origin"}
    whole |= {"position", "row_a", "row_b"}
    floats = {*_NUMBERS, *_OVERLAP, *_SPECTRUM, "origin_cosine"}
    types = {name: "Int64" if name in whole else "float64" for name in table.columns if name in whole | floats}
    words = {
        name: str
        for name in table.columns
        if name in {*KEY, "id_a", "id_b", "dtype_a", "dtype_b", "method", "reordered"} - whole
    }
    flags = {name: bool for name in table.columns if name in ("renamed", "by_token")}
    return table.astype(types | words | flags)


def _measured(row: Any, sides: Sides, settings: ComparisonPart) -> Measured:
    a, b = sides.load(row)
    heads, by_columns = _heads(row, a.shape)
    width = a.shape[1] // heads if heads and by_columns else None
    if width is None and len(a.shape) == 2 and (heads or row.by_token):
        width = a.shape[1]  # each row for itself, however short it is
    found = difference(a, b, segment_of(a.shape, width))
    place = {name: getattr(row, name) for name in _PLACE}
    place |= {"rows": a.shape[0] if a.shape else 1, "cols": a.shape[1] if len(a.shape) > 1 else None}
    record = {"position": row.Index, **place, **_recorded(found, a.shape), **_bit(found, a, b), "reordered": ""}
    if row.role in _MATRICES and len(a.shape) == 2 and found.changed:
        # Rounding moves only what changed: its norm is that of as many of the elements.
        norm = (max(found.square_a, found.square_b) * found.changed / found.n) ** 0.5
        spectrum = delta_spectrum(a, b, norm)
        record |= _spectral(spectrum)
        if (
            spectrum.sigma.size
            and found.square_a
            and found.square_b
            and isinstance(a, Stored)
            and isinstance(b, Stored)
        ):
            record |= _overlap(a, b, settings.subspace) | {"reordered": reordered(a.tensor, b.tensor, found)}
    else:
        record |= {"method": "" if found.changed else "identical", "sigma": np.empty(0)}
    tokens = _tokens(row, found, sides) if row.by_token and len(a.shape) == 2 else None
    return Measured(record, _head_rows(row, a, b, found, heads, by_columns), tokens)


def _heads(row: Any, shape: tuple[int, ...]) -> tuple[int, bool]:
    """How many heads a matrix is cut into, 0 if none, and whether by columns."""
    heads = 0 if pd.isna(row.n_heads) else int(row.n_heads)
    by_columns = row.role == Role.W_O.value
    return (heads if len(shape) == 2 and heads and shape[int(by_columns)] % heads == 0 else 0), by_columns


def _recorded(found: Difference, shape: tuple[int, ...]) -> dict[str, Any]:
    columns = shape[1] if len(shape) > 1 else 1
    by_row = found.sums[:, 3].reshape(shape[0], -1).sum(axis=1) if shape and len(found.sums) % shape[0] == 0 else None
    return {
        **{name: getattr(found, name) for name in _COUNTS},
        **{f"norm_{side}": getattr(found, f"square_{side}") ** 0.5 for side in ("a", "b", "d")},
        **{
            name: getattr(found, name)
            for name in ("relative", "cosine", "largest", "value_a", "value_b", "ks", "ks_null")
        },
        "place_row": found.place // columns if found.place >= 0 else None,
        "place_col": found.place % columns if found.place >= 0 and len(shape) > 1 else None,
        "rows_changed": int((by_row > 0).sum()) if by_row is not None and len(shape) > 1 else None,
    }


def _bit(found: Difference, a: Source, b: Source) -> dict[str, Any]:
    """The one bit that differs between two tensors of one stored type, counted from the lowest; none otherwise."""
    if found.changed != 1 or not (isinstance(a, Stored) and isinstance(b, Stored)) or a.dtype != b.dtype:
        return {"flipped_bit": None}
    patterns = []
    for side in (a, b):
        value = side.tensor.reshape(-1)[found.place : found.place + 1].contiguous()
        patterns.append(int.from_bytes(value.view(torch.uint8).numpy().tobytes(), "little"))
    bits = patterns[0] ^ patterns[1]
    return {"flipped_bit": bits.bit_length() - 1 if bits.bit_count() == 1 else None}


def _spectral(spectrum: DeltaSpectrum) -> dict[str, Any]:
    kept = ["method", *_SPECTRUM, "zero_rows", "zero_cols", "sigma"]
    return {name: getattr(spectrum, name) for name in kept}


def _overlap(a: Stored, b: Stored, subspace: int) -> dict[str, Any]:
    k = max(1, min(subspace, min(a.shape) // 4))
    agreed = overlap(a.tensor, b.tensor, k)
    names = ("left", "right", "left_null", "right_null", "angle")
    return {"overlap_k": k, **{f"overlap_{name}": getattr(agreed, name) for name in names}}


def _head_rows(row: Any, a: Source, b: Source, found: Difference, heads: int, by_columns: bool) -> list[dict[str, Any]]:
    """The change of every head of a matrix in which something changed, and where heads that changed much come from."""
    if not heads or not found.changed:
        return []
    rows = head_rows(found, a.shape, heads, by_columns)
    made = []
    for each in rows:
        parts = Difference(**{name: each[name] for name in ("square_a", "square_b", "square_d", "changed", "n")})
        norms = {f"norm_{side}": each[f"square_{side}"] ** 0.5 for side in ("a", "b", "d")}
        made.append(
            {
                "position": row.Index,
                **{name: getattr(row, name) for name in ("id_a", "stack", "layer", "component", "role")},
            }
            | {"head": each["head"], "n": each["n"], "changed": each["changed"], **norms}
            | {"relative": parts.relative, "cosine": parts.cosine}
        )
    if (
        heads > 1
        and isinstance(a, Stored)
        and isinstance(b, Stored)
        and any(not each["cosine"] >= CHANGED for each in made)
    ):
        origin, cosines = places(a.tensor, b.tensor, heads, by_columns)
        for each, head, cosine in zip(made, origin, cosines, strict=True):
            each |= {"origin": int(head), "origin_cosine": float(cosine)}
    return made


def _tokens(row: Any, found: Difference, sides: Sides) -> pd.DataFrame:
    """The change of every row of a vocabulary's matrix."""
    count = len(found.sums)
    matched = sides.tokens
    numbers = (np.arange(count), np.arange(count)) if matched is None or matched.identity else (matched.a, matched.b)
    norms = np.sqrt(found.sums[:, :3])
    with np.errstate(all="ignore"):
        relative = norms[:, 2] / norms[:, 0]
    columns = {"row_a": numbers[0], "row_b": numbers[1], "changed": found.sums[:, 3]}
    columns |= {"norm_a": norms[:, 0], "norm_b": norms[:, 1], "norm_d": norms[:, 2], "relative": relative}
    return pd.DataFrame({"position": row.Index, "id_a": row.id_a, "role": row.role, **columns})[TOKEN_COLUMNS]
