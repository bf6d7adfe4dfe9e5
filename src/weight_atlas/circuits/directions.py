"""Singular directions that heads and feed-forward parts write along, read as tokens.

After Millidge and Black, The singular value decompositions of transformer weight matrices are highly interpretable,
2022. The left singular vectors u of W_OV of a head and of W_down span what they add to the residual stream; W_U' u is
what one unit of it does to the logits, to first order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.circuits.head_sides import CROSS, Norms, folded_factors
from weight_atlas.circuits.reading import TokenReader
from weight_atlas.errors import NotApplicable
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.families.roles import Role
from weight_atlas.spectra.attention_factors import attention_blocks
from weight_atlas.spectra.marchenko_pastur import gaussian_spectrum
from weight_atlas.spectra.schedule import one_thread_each
from weight_atlas.vocabulary.neurons import neuron_blocks

PLACE = ["kind", "layer", "component", "expert", "head", "direction"]
NUMBERS = ["sigma", "energy", "energy_null", "gap", "skew", "kurt"]
LISTS = ["up", "down", "up_ids", "down_ids", "up_effects", "down_effects"]
SHOWN = [*PLACE, *NUMBERS, "up", "down"]


@dataclass(frozen=True)
class Written:
    """The first directions of one matrix: vectors (d_model, k), sigma (k,), its squared norm, energy expected of noise.

    energies: (k,) the shares of a Gaussian matrix, or of Gaussian factors, of the same shape.
    """

    place: dict[str, Any]
    vectors: np.ndarray
    sigma: np.ndarray
    squares: float
    energies: np.ndarray


def singular_directions(
    checkpoint: Any, inventory: pd.DataFrame, reader: TokenReader, norms: Norms, *, directions: int, tokens: int
) -> pd.DataFrame:
    """The first singular directions of W_OV of every head and of W_down of every feed-forward part, read as tokens.

    norms: see attention_norms; W_down has the gains of norms after it folded in. directions: of each matrix. tokens:
    strongest tokens up and down.

    A row per direction: kind ("OV" or "W_down"), layer, component, expert, head, direction (from 1), sigma, energy
    (its share of the squared norm), energy_null (that of noise of the same shape), gap ((sigma_i - sigma_i+1) /
    sigma_i: near 0 two directions are one plane, and any two vectors of it will do), skew and kurt of its effects, and
    its strongest tokens. Its sign, which is free, is that in which the strongest effect is positive. Matrices of zeros
    or with numbers that are not finite are left out.
    """
    with one_thread_each():
        written = [*_of_heads(checkpoint, inventory, norms, directions)]
        written += _of_neurons(checkpoint, inventory, reader, directions)
    if not written:
        raise NotApplicable("the model has no attention head and no feed-forward part whose output could be read")
    read = reader.read(np.concatenate([each.vectors for each in written], axis=1), tokens)
    places = pd.DataFrame([row for each in written for row in _rows(each)])
    table = pd.concat([places, _positive(read)], axis=1)
    whole = dict.fromkeys(["layer", "expert", "head", "direction"], "Int64")
    return table[[*PLACE, *NUMBERS, *LISTS]].astype(whole)


def _of_heads(checkpoint: Any, inventory: pd.DataFrame, norms: Norms, directions: int) -> Iterator[Written]:
    load = partial(load_piece, checkpoint)
    for block in attention_blocks(matrices(inventory)):
        if block.stack != "decoder" or block.missing("OV") or block.component == CROSS:
            continue
        for head, _, left, right in folded_factors(block, "OV", load, norms):
            place = {"kind": "OV", "layer": block.layer, "component": block.component, "head": head}
            if np.isfinite(left).all() and np.isfinite(right).all():
                vectors, sigma = product_directions(left, right)
                energies = _factor_energies(left.shape[0], left.shape[1], right.shape[1])
                if sigma[0] > 0:
                    yield _first(place, vectors, sigma, float((sigma**2).sum()), energies, directions)


def product_directions(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (d, r) and singular values (r,) of left^T right, from factors (k, d): r = min(k, d)."""
    frame, outer = np.linalg.qr(left.T)
    inner = np.asarray(np.linalg.qr(right.T, mode="r"))
    vectors, sigma, _ = np.linalg.svd(outer @ inner.T, full_matrices=False)
    return frame @ vectors, sigma


def _of_neurons(checkpoint: Any, inventory: pd.DataFrame, reader: TokenReader, directions: int) -> Iterator[Written]:
    present = (inventory["role"] == Role.W_DOWN.value) & inventory["layer"].notna() & (inventory["stack"] == "decoder")
    if not present.any():
        return
    for block in neuron_blocks(checkpoint, inventory, reader.readout):
        place = {"kind": "W_down", "layer": block.layer, "component": block.component, "expert": block.expert}
        if 0 in block.vectors.shape or not bool(torch.isfinite(block.vectors).all()):
            continue
        vectors, sigma = matrix_directions(block.vectors, directions)
        squares = float(block.vectors.double().square().sum()) if min(block.vectors.shape) else 0.0
        law = gaussian_spectrum(*block.vectors.shape)[::-1]
        if squares > 0:
            yield _first(place, vectors, sigma, squares, law / law.sum(), directions)


def matrix_directions(weight: torch.Tensor, directions: int) -> tuple[np.ndarray, np.ndarray]:
    """The first left singular vectors (d, k) and singular values (k,) of a matrix (d, n), float64.

    By the Gram matrix of the smaller side. k: one more than `directions`, for the gap, as far as there are any.
    """
    from scipy.linalg import eigh

    small = min(weight.shape)
    rows = weight if weight.shape[0] <= weight.shape[1] else weight.T
    gram = np.zeros((small, small))
    for block in rows.split(4096, dim=1):
        wide = block.double().numpy()
        gram += wide @ wide.T
    count = min(directions + 1, small)
    squares, vectors = eigh(gram, subset_by_index=[small - count, small - 1], overwrite_a=True)
    sigma, vectors = np.sqrt(np.clip(squares[::-1], 0, None)), vectors[:, ::-1]
    if weight.shape[0] > weight.shape[1]:
        vectors = weight.double().numpy() @ vectors / np.where(sigma > 0, sigma, 1.0)
    return vectors, sigma


def _first(
    place: dict[str, Any], vectors: np.ndarray, sigma: np.ndarray, squares: float, energies: np.ndarray, count: int
) -> Written:
    count = min(count, int((sigma > 1e-7 * sigma[0]).sum()))
    # A copy, so that the other directions are not kept with a view of them all.
    return Written(place, vectors[:, :count].astype(np.float32), sigma[: count + 1], squares, energies[:count])


def _rows(written: Written) -> Iterator[dict[str, Any]]:
    blank = {"component": "", "expert": pd.NA, "head": pd.NA}
    for number, null in enumerate(written.energies[: written.vectors.shape[1]]):
        sigma = written.sigma[number]
        after = written.sigma[number + 1] if number + 1 < len(written.sigma) else 0.0
        yield {
            **{**blank, **written.place, "direction": number + 1, "sigma": sigma},
            **{"energy": sigma**2 / written.squares, "energy_null": null, "gap": (sigma - after) / sigma},
        }


def _positive(read: pd.DataFrame) -> pd.DataFrame:
    """Directions turned so that their strongest effect is positive."""
    turned = [
        len(up) > 0 and abs(down[0]) > abs(up[0])
        for up, down in zip(read["up_effects"], read["down_effects"], strict=True)
    ]
    table = read.copy()
    table["skew"] = np.where(turned, -read["skew"], read["skew"])
    for name in ("", "_ids", "_effects"):
        sign = -1 if name == "_effects" else 1
        pairs = zip(read[f"up{name}"], read[f"down{name}"], turned, strict=True)
        swapped = [(_signed(down, sign), _signed(up, sign)) if turn else (up, down) for up, down, turn in pairs]
        table[f"up{name}"], table[f"down{name}"] = [up for up, _ in swapped], [down for _, down in swapped]
    return table


def _signed(values: Any, sign: int) -> Any:
    return -values if sign < 0 else values


@lru_cache(maxsize=64)
def _factor_energies(head_dim: int, left: int, right: int, samples: int = 4) -> np.ndarray:
    """Mean shares of the squared norm, descending, of products of Gaussian factors; simulated with a fixed seed."""
    random = np.random.default_rng([head_dim, left, right])
    shares = []
    for _ in range(samples):
        _, sigma = product_directions(*(random.standard_normal((head_dim, width)) for width in (left, right)))
        shares.append(sigma**2 / (sigma**2).sum())
    return np.mean(shares, axis=0)


def telling(directions: pd.DataFrame, shown: int) -> pd.DataFrame:
    """The directions of largest kurtosis (a Gaussian has 3), at most `shown` of each kind, without ids and effects.

    directions: of singular_directions. Largest first, kind by kind.
    """
    order = directions.sort_values("kurt", ascending=False, kind="stable", na_position="last")
    kinds = [order[order["kind"] == kind].head(shown) for kind in ("OV", "W_down")]
    return pd.concat(kinds, ignore_index=True)[SHOWN]
