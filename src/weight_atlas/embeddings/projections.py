"""Principal components of a model's projections, whole and head by head: what are samples, and what follows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.embeddings.components import Components, components_for, gaussian_ratios, principal_components
from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import InventoryRow, Load
from weight_atlas.settings.embeddings import ProjectionPca

# A fused tensor of queries, keys and values as it is stored, and the roles of its pieces.
FUSED, PIECES = "W_QKV", ("W_Q", "W_K", "W_V")
MILESTONES = (50, 90, 95, 99)
COLUMNS = {
    "id": "str", "role": "str", "stack": "str", "component": "str", "layer": "Int64", "expert": "Int64",
    "head": "Int64", "status": "str",
    "samples": "Int64", "features": "Int64", "first": "float64", "first_null": "float64", "second": "float64",
    "second_null": "float64", "spread": "float64", "spread_null": "float64",
    **{f"n{share}{null}": "Int64" for share in MILESTONES for null in ("", "_null")},
}  # fmt: skip


@dataclass(frozen=True)
class Projection:
    """One matrix, or one head of it: place (id, role, stack, layer, expert, head), and a function that reads it.

    heads: of the whole matrix, by which its samples can be told apart; 0 where they are no heads' rows.
    """

    place: dict[str, Any]
    read: Callable[[], np.ndarray]
    heads: int = 0


def projections(matrices: pd.DataFrame, load: Load, roles: list[str] | None) -> list[Projection]:
    """The projections of some roles (None: all) in the order of an inventory, and fused tensors of queries, keys and
    values whose pieces are among them, as they are stored.

    load(row) gives a tensor (out, in). Each is read when it is asked for; NotApplicable where there is none.
    """
    chosen = matrices[matrices["role"].isin(roles)] if roles is not None else matrices
    chosen = chosen[(chosen["rows"] > 1) & (chosen["cols"] > 1)]
    found = []
    for tensor, rows in chosen.groupby("tensor", sort=False):
        pieces = list(rows.itertuples(index=False))
        if len(pieces) > 1 and all(row.role in PIECES and pd.isna(row.expert) for row in pieces):
            place = {**_place(pieces[0]), "id": str(tensor), "role": FUSED}
            found.append(Projection(place, partial(_fused, pieces, load)))
        found += [_projection(row, load) for row in pieces]
    if not found:
        raise NotApplicable(f"the model has no projections of these roles: {', '.join(roles or ['any'])}")
    return found


def _projection(row: InventoryRow, load: Load) -> Projection:
    heads = 0 if pd.isna(row.n_heads) else int(row.n_heads)
    return Projection(_place(row), lambda: _array(load(row)), heads)


def _fused(pieces: list[Any], load: Load) -> np.ndarray:
    return np.concatenate([_array(load(row)) for row in pieces])


def _place(row: InventoryRow) -> dict[str, Any]:
    return {"id": row.id, "role": row.role, "stack": row.stack, "component": getattr(row, "component", ""),
            "layer": row.layer, "expert": row.expert}  # fmt: skip


def _array(weight: Any) -> np.ndarray:
    return np.asarray(weight.double().numpy())


def samples_of(matrix: np.ndarray, samples: str) -> np.ndarray:
    """The samples of a matrix (out, in): its rows ("outputs", each a vector over the inputs), or columns ("inputs")."""
    return matrix if samples == "outputs" else matrix.T


def head_slices(matrix: np.ndarray, role: str, heads: int) -> Iterator[np.ndarray]:
    """The part of each head: rows of queries, keys and values; columns of the output projection."""
    yield from np.split(matrix, heads, axis=1 if role == "W_O" else 0)


def said(settings: ProjectionPca) -> str:
    """What the samples are, and how they were scaled, for a title."""
    scaled = ", divided by standard deviations" if settings.standardise else ""
    return f"samples: {settings.samples}; features centred{scaled}"


def component_table(found: list[Projection], settings: ProjectionPca) -> pd.DataFrame:
    """A row for each projection, and for each of its heads: how its variance is spread over principal components.

    first, second: share of the variance in these. n50 ... n99: components that hold that share of it. spread: see
    Components. Nulls: of independent Gaussian samples of the same shape and variance. status: ok, constant (no
    variance), not finite.
    """
    rows = []
    for projection in found:
        matrix = projection.read()
        rows.append({**projection.place, **_measured(matrix, settings)})
        if settings.by_head and projection.heads > 1:
            parts = head_slices(matrix, projection.place["role"], projection.heads)
            for head, part in enumerate(parts):
                rows.append({**projection.place, "head": head, **_measured(part, settings)})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _measured(matrix: np.ndarray, settings: ProjectionPca) -> dict[str, Any]:
    samples = samples_of(matrix, settings.samples)
    count, width = samples.shape
    size = {"samples": count, "features": width}
    if count < 2:
        return {**size, "status": "one sample"}
    if not np.isfinite(samples).all():
        return {**size, "status": "not finite"}
    components = principal_components(samples, standardise=settings.standardise)
    ratios, null = components.ratios, gaussian_ratios(count, width)
    if not len(ratios):
        return {**size, "status": "constant"}
    second = [float(shares[1]) if len(shares) > 1 else 0.0 for shares in (ratios, null)]
    return {
        **size,
        "status": "ok",
        "first": ratios[0],
        "first_null": null[0],
        "second": second[0],
        "second_null": second[1],
        "spread": components.spread,
        "spread_null": float((components.variances.sum() * null[:2].sum()) ** 0.5),
        **{f"n{share}": components_for(ratios, share / 100) for share in MILESTONES},
        **{f"n{share}_null": components_for(null, share / 100) for share in MILESTONES},
    }


@dataclass(frozen=True)
class View:
    """A close look at one projection: its place, its components, the head of each sample (-1: of none), and the shares
    of the variance of Gaussian samples of the same shape.
    """

    place: dict[str, Any]
    components: Components
    head: np.ndarray
    null: np.ndarray


def views(found: list[Projection], ids: list[str], settings: ProjectionPca) -> list[View]:
    """Close looks at the projections with these ids, in their order; those without finite variance are left out."""
    named = {projection.place["id"]: projection for projection in found}
    made = []
    for name in ids:
        projection = named[name]
        values = samples_of(projection.read(), settings.samples)
        if len(values) < 2 or not np.isfinite(values).all() or np.ptp(values, axis=0).max() == 0:
            continue
        # Samples are a head's where the side that is cut into heads is the one that they lie along.
        along = (settings.samples == "inputs") == (projection.place["role"] == "W_O") and projection.heads > 1
        head = (
            np.repeat(np.arange(projection.heads), len(values) // projection.heads)
            if along
            else np.full(len(values), -1)
        )
        components = principal_components(values, standardise=settings.standardise)
        made.append(View(projection.place, components, head, gaussian_ratios(*values.shape)))
    return made


def curve_table(made: list[View]) -> pd.DataFrame:
    """A row for each component of the chosen projections: share and cumulative share of the variance, and its null."""
    columns = ["id", "role", "layer", "component", "share", "cumulative", "cumulative_null"]
    parts = [
        pd.DataFrame({
            **{key: view.place[key] for key in ("id", "role", "layer")},
            "component": np.arange(1, len(view.components.ratios) + 1),
            "share": view.components.ratios,
            "cumulative": np.cumsum(view.components.ratios),
            "cumulative_null": np.cumsum(view.null),
        })
        for view in made
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def score_table(made: list[View]) -> pd.DataFrame:
    """A row for each sample of the chosen projections: its head and its place in the first two components."""
    columns = ["id", "role", "layer", "sample", "head", "first", "second"]
    parts = [
        pd.DataFrame({
            **{key: view.place[key] for key in ("id", "role", "layer")},
            "sample": np.arange(len(view.head)),
            "head": pd.Series(view.head, dtype="Int64").where(view.head >= 0),
            "first": view.components.scores[:, 0],
            "second": view.components.scores[:, 1],
        })
        for view in made
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
