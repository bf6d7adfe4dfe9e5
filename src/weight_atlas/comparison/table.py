"""The comparison of two models as tables: every tensor with what its change's spectrum says, by role and layer, and
what changed most.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from weight_atlas.settings.spectra import Tails
from weight_atlas.spectra.heavy_tails import heavy_tails
from weight_atlas.spectra.nulls import gaussian_shares
from weight_atlas.spectra.ranks import rank_measures
from weight_atlas.spectra.spectrum_rows import SpectrumRow, floor_of, spectrum_rows

# Of a change to an unrelated tensor of the same size, |b - a| / |a| = sqrt(1 + |b|^2 / |a|^2).
MEASURES = ["erank", "stable_rank", "n90"]
# Rounding errors grow with the values, so that their largest singular value lies above that of even noise.
UNEVEN = 1.5
_TAIL = ["alpha", "alpha_error", "alpha_null", "alpha_status"]


def in_order(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts in the order of the pairs, whatever the number of parts."""
    filled = [part for part in parts if len(part)] or list(parts[:1])
    whole = pd.concat(filled, ignore_index=True)
    return whole.sort_values("position", kind="stable").reset_index(drop=True)


def comparison_table(tensors: pd.DataFrame, tails: Tails, ranks: Sequence[int]) -> pd.DataFrame:
    """A row for each pair of tensors, without lists.

    Adds to what was measured: sign_share, changed_share, beyond_share; erank, stable_rank and n90 of b - a, each with
    the value of a Gaussian matrix of that shape (_null); resolved: singular values above UNEVEN times what rounding
    leaves;
    lora_error_R: sqrt of the energy beyond the R largest, over the whole; alpha with its error, null and status, see
    heavy_tails.
    """
    spectra = tensors.rename(columns={"id_a": "id"})
    spectra = spectra.assign(shuffled=pd.Series([np.empty(0)] * len(spectra), index=spectra.index, dtype=object))
    shapes = spectra.assign(cols=spectra["cols"].fillna(1))
    rows = [_directions(row, ranks) for row in spectrum_rows(shapes)]
    columns = [*MEASURES, *[f"{name}_null" for name in MEASURES], "resolved", *lora_columns(ranks)]
    measured = pd.DataFrame(rows, columns=columns, index=tensors.index).astype(float)
    counts = ["n90", "resolved"]
    measured = measured.astype(dict.fromkeys(counts, "Int64"))
    with np.errstate(all="ignore"):
        shares = pd.DataFrame(
            {
                "changed_share": (tensors["changed"] / tensors["n"]).astype(float),
                "beyond_share": (tensors["beyond_step"] / tensors["n"]).astype(float),
                "sign_share": (tensors["signs"] / tensors["n"]).astype(float),
                "relative_null": np.sqrt(1 + (tensors["norm_b"] / tensors["norm_a"]) ** 2),
                "cosine_null": 1 / np.sqrt(tensors["n"].astype(float)),
            }
        )
    kept = tensors.drop(columns=["position", "sigma", "zero_rows", "zero_cols", "error_bound", "frobenius", "rounding"])
    return pd.concat([kept, shares, measured, _tails(spectra, tails)], axis=1)


def lora_columns(ranks: Sequence[int]) -> list[str]:
    """The columns of the errors at these ranks."""
    return [f"lora_error_{rank}" for rank in ranks]


def lora_error(sigma: np.ndarray, rank: int) -> float:
    """What a product of this rank must leave of a matrix with these singular values, by its Frobenius norm, relative.

    sqrt(sum over i > rank of sigma_i^2 / sum sigma_i^2) (Eckart and Young, 1936).
    """
    squares = np.asarray(sigma, dtype=float) ** 2
    return float((squares[rank:].sum() / squares.sum()) ** 0.5)


def _directions(row: SpectrumRow, ranks: Sequence[int]) -> dict[str, float]:
    sigma = np.asarray(row.sigma, dtype=float)
    if not sigma.size or not sigma[0] > 0:
        return {}
    found = rank_measures(sigma)
    count, null = len(sigma), gaussian_shares(int(row.rows), int(row.cols))
    floor = max(UNEVEN * floor_of(row), row.error_bound * sigma[0])
    return {
        **{name: found[name] for name in MEASURES},
        **{f"{name}_null": null[name] * count for name in MEASURES},
        "resolved": int((sigma > floor).sum()),
        **{name: lora_error(sigma, rank) for name, rank in zip(lora_columns(ranks), ranks, strict=True)},
    }


def _tails(spectra: pd.DataFrame, tails: Tails) -> pd.DataFrame:
    """alpha of the changes of matrices; missing for all others."""
    empty = pd.DataFrame(np.nan, index=spectra.index, columns=_TAIL).astype({"alpha_status": object})
    some = spectra[spectra["sigma"].map(len) > 1]
    if some.empty:
        return empty
    found = heavy_tails(some, tails).rename(columns={"status": "alpha_status"}).set_index(some.index)
    empty.loc[some.index, _TAIL] = found[_TAIL]
    return empty


def by_role(table: pd.DataFrame) -> pd.DataFrame:
    """The change of each role of each layer, experts and parts together: stack, role, of_role, layer, and the rest.

    relative: sqrt(sum |b - a|^2 / sum |a|^2); changed_share, sign_share: of their elements; cosine: of all as one
    vector.
    """
    keys = ["stack", "role", "of_role", "layer"]
    groups = table.assign(
        square_a=table["norm_a"] ** 2, square_b=table["norm_b"] ** 2, square_d=table["norm_d"] ** 2
    ).groupby(keys, sort=False, dropna=False)
    sums = groups[["n", "changed", "signs", "square_a", "square_b", "square_d"]].sum()
    tensors = groups.size().rename("tensors")
    with np.errstate(all="ignore"):
        made = pd.DataFrame(
            {
                "tensors": tensors,
                "n": sums["n"],
                "relative": np.sqrt(sums["square_d"] / sums["square_a"]),
                "changed_share": (sums["changed"] / sums["n"]).astype(float),
                "sign_share": (sums["signs"] / sums["n"]).astype(float),
                "cosine": _cosine(sums),
            }
        )
    return made.reset_index()


def _cosine(sums: pd.DataFrame) -> pd.Series:
    a, b = sums["square_a"] ** 0.5, sums["square_b"] ** 0.5
    cosine = 1 - (sums["square_d"] - (a - b) ** 2) / (2 * a * b)
    return cosine.where((a > 0) & (b > 0)).clip(-1, 1)


def pooled(table: pd.DataFrame) -> dict[str, float]:
    """The change of all tensors of a table as one vector: n, changed and sign share, relative change, cosine."""
    squares = {f"square_{side}": float((table[f"norm_{side}"] ** 2).sum()) for side in ("a", "b", "d")}
    sums = pd.DataFrame([squares])
    n = int(table["n"].sum())
    nothing = float("nan")
    return {
        "n": n,
        "changed_share": float(table["changed"].sum()) / n if n else nothing,
        "sign_share": float(table["signs"].sum()) / n if n else nothing,
        "relative": (squares["square_d"] / squares["square_a"]) ** 0.5 if squares["square_a"] else nothing,
        "cosine": float(_cosine(sums).iloc[0]),
    }


def most_changed(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """The rows with the largest relative change, at most `top`, the largest first; what did not change is left out."""
    changed = table[table["changed"] > 0]
    return changed.sort_values("relative", ascending=False, kind="stable").head(top).reset_index(drop=True)
