"""What single heads do with tokens, from the weights alone: copying, matching, attending backwards, induction.

After Elhage et al., A mathematical framework for transformer circuits, 2021: the full circuits of a head run through
the vocabulary, U W_OV E^T from the token that is attended to to the logits, and E W_QK E^T from two tokens to the score
between them. Both are V x V of rank k, and their eigenvalues those of a k x k core. An induction head copies, and finds
its place by keys that an earlier head wrote: E W_QK W_OV' E^T, whose eigenvalues are positive where a token looks for
the one that follows an earlier copy of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.circuits.head_sides import CROSS, Norms, folded_factors
from weight_atlas.circuits.token_tables import TokenTables
from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import Load
from weight_atlas.spectra.attention_factors import Block, attention_blocks
from weight_atlas.spectra.attention_kernels import kernel
from weight_atlas.spectra.schedule import one_thread_each
from weight_atlas.statistics.corrections import false_discovery_rates

# Pairs of heads looked at for induction: those whose keys compose most.
PAIRS = 64
# Positivity beyond which a head has a label, where chance is excluded at this false discovery rate.
POSITIVITY, LEVEL = 0.5, 0.001
# Mean attention to the position before, by positions alone, from which a head is said to attend there.
PREVIOUS = 0.5
# Distances that are compared with the position before.
DISTANCES = 16
HEAD = ["layer", "component", "head", "kv_head"]
SCORES = ["copying", "matching", "induction"]
Factors = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Score:
    """Sum of the eigenvalues over the sum of their moduli, and the z of that sum over random orientations.

    The sum of eigenvalues of A = left^T right is a linear function of the rotation between the two: over all rotations
    of D dimensions its mean is 0 and its variance |A|^2 / D.
    """

    positivity: float
    z: float


def score(left: np.ndarray, right: np.ndarray, dimensions: int) -> Score:
    """The score of A = left^T right, left and right (k, d)."""
    spectrum = kernel(left, right)
    total, moduli = spectrum.eigenvalues.real.sum(), np.abs(spectrum.eigenvalues).sum()
    if not (moduli > 0 and spectrum.frobenius > 0):
        return Score(float("nan"), float("nan"))
    return Score(float(total / moduli), float(total * dimensions**0.5 / spectrum.frobenius))


def head_circuits(
    matrices: pd.DataFrame, load: Load, norms: Norms, tokens: TokenTables, compositions: pd.DataFrame
) -> pd.DataFrame:
    """The scores of every self-attention head of the decoder, a row each.

    matrices: rows of an inventory; load(row) gives a tensor (out, in). compositions: of `compositions`, which names the
    pairs that are looked at for induction: the PAIRS that compose most by their keys.

    Columns: layer, component, head, kv_head; copying, matching and induction, each with _z and _q (false discovery
    rate over the model, two-sided); from_layer, from_head: the earlier head of the induction; previous_token and
    previous_token_null (see attention_backwards), missing where positions are not in the residual stream; and label:
    "copies", "inverts", "matches", "mismatches" (a positivity beyond POSITIVITY either way, q < LEVEL), "previous
    token", "induction" (copies, and the score of induction is as positive), with "?" where it is not known whether
    the earlier head attends to the position before, several by commas; else "".
    """
    pairs = _pairs(compositions)
    written: dict[tuple[int, int], Factors] = {}
    with one_thread_each():
        rows = [
            row
            for block in attention_blocks(matrices)
            if block.stack == "decoder" and block.component != CROSS
            for row in _of_block(block, load, norms, tokens, pairs, written)
        ]
    if not rows:
        raise NotApplicable("the model has no self-attention head in a decoder whose circuits could be formed")
    return _labelled(pd.DataFrame(rows))


def attention_backwards(
    queries: np.ndarray, keys: np.ndarray, positions: np.ndarray, centred: bool
) -> tuple[float, bool]:
    """Mean attention to the position before, by positions alone, and whether no other distance has more.

    queries, keys: (k, d) with the norm's gain. positions: (n, d), brought to the length that the norm gives them.
    Causal softmax of x_i^T W_Q^T W_K x_j / sqrt k; distances up to DISTANCES.
    """
    x = positions - positions.mean(axis=1, keepdims=True) if centred else positions
    x = x / np.maximum(np.sqrt((x**2).mean(axis=1, keepdims=True)), 1e-30)
    scores = (x @ queries.T) @ (x @ keys.T).T / len(queries) ** 0.5
    scores[np.triu_indices(len(x), 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    means = [float(np.diagonal(weights, -distance).mean()) for distance in range(min(DISTANCES + 1, len(x)))]
    return means[1], means[1] == max(means)


def previous_null(count: int) -> float:
    """Mean attention to the position before of a head that attends to all it sees alike; count: positions."""
    return float(np.mean(1 / np.arange(2, count + 1)))


def composing_keys(compositions: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of compositions that are looked at for induction: PAIRS at most, largest excess first."""
    chosen = compositions[
        (compositions["stack"] == "decoder") & (compositions["kind"] == "K") & (compositions["label"] != "")
    ]
    own = (chosen["component"].fillna("") == "") & (chosen["from_component"].fillna("") == "")
    return chosen[own].head(PAIRS)


def _pairs(compositions: pd.DataFrame) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """By (layer, head) of the reading head: the earlier heads (layer, head) whose keys it may have taken."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row in composing_keys(compositions).itertuples():
        found.setdefault((int(row.layer), int(row.head)), []).append((int(row.from_layer), int(row.from_head)))
    return found


def _of_block(
    block: Block,
    load: Load,
    norms: Norms,
    tokens: TokenTables,
    pairs: dict[tuple[int, int], list[tuple[int, int]]],
    written: dict[tuple[int, int], Factors],
) -> Iterator[dict[str, Any]]:
    wanted = {pair for earlier in pairs.values() for pair in earlier}
    rows: dict[int, dict[str, Any]] = {}
    outputs = [] if block.missing("OV") else folded_factors(block, "OV", load, norms)
    centred = block.stack in norms.centred
    for head, kv_head, left, right in outputs:
        row = rows.setdefault(head, _place(block, head, kv_head))
        if _finite(left, right):
            row |= _named("copying", score(left, right @ tokens.copying, left.shape[1] - centred))
            if (block.layer, head) in wanted and not block.component:
                written[block.layer, head] = left, right
    scores = [] if block.missing("QK") else folded_factors(block, "QK", load, norms)
    for head, kv_head, queries, keys in scores:
        row = rows.setdefault(head, _place(block, head, kv_head))
        if _finite(queries, keys):
            row |= _named("matching", score(queries, keys @ tokens.matching, keys.shape[1] - centred))
            row |= _previous(queries, keys, tokens.positions, centred)
            earlier = pairs.get((block.layer, head), []) if not block.component else []
            row |= _induction(queries, keys, earlier, written, tokens, centred)
    yield from rows.values()


def _place(block: Block, head: int, kv_head: int) -> dict[str, Any]:
    return {"layer": block.layer, "component": block.component, "head": head, "kv_head": kv_head}


def _finite(*factors: np.ndarray) -> bool:
    return all(np.isfinite(factor).all() for factor in factors)


def _named(name: str, found: Score) -> dict[str, float]:
    return {name: found.positivity, f"{name}_z": found.z}


def _previous(queries: np.ndarray, keys: np.ndarray, positions: np.ndarray | None, centred: bool) -> dict[str, Any]:
    if positions is None or len(positions) < 2:
        return {}
    mean, first = attention_backwards(queries, keys, positions, centred)
    return {"previous_token": mean, "previous_token_null": previous_null(len(positions)), "first": first}


def _induction(
    queries: np.ndarray,
    keys: np.ndarray,
    earlier: list[tuple[int, int]],
    written: dict[tuple[int, int], Factors],
    tokens: TokenTables,
    centred: bool,
) -> dict[str, Any]:
    """The earlier head with the most significant score of E W_Q^T (W_K W_O') W_V' E^T, and that score."""
    best: dict[str, Any] = {}
    for place in earlier:
        if place in written:
            left, right = written[place]
            found = score(queries, (keys @ left.T) @ right @ tokens.matching, queries.shape[1] - centred)
            if not best or abs(found.z) > abs(best["induction_z"]):
                best = {**_named("induction", found), "from_layer": place[0], "from_head": place[1]}
    return best


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    from scipy.special import log_ndtr

    numbers = [*(f"{name}{end}" for name in SCORES for end in ("", "_z")), "previous_token", "previous_token_null"]
    columns = [*HEAD, *numbers, "from_layer", "from_head", "first"]
    table = table.reindex(columns=columns).astype(dict.fromkeys(numbers, "float64"))
    for name in SCORES:
        known = table[f"{name}_z"].notna()
        log_p = np.log(2) + log_ndtr(-table.loc[known, f"{name}_z"].abs().to_numpy())
        table[f"{name}_q"] = np.nan
        table.loc[known, f"{name}_q"] = np.exp(false_discovery_rates(log_p))
    sure = {name: table[name].where(table[f"{name}_q"] < LEVEL, 0.0) for name in SCORES}
    backwards = (table["previous_token"] >= PREVIOUS) & table["first"].eq(True)
    places = set(zip(table["layer"][backwards], table["head"][backwards], strict=True))
    known_positions = table["previous_token"].notna()
    earlier = zip(table["from_layer"], table["from_head"], strict=True)
    confirmed = np.array([pair in places for pair in earlier], dtype=bool)
    induces = (sure["induction"] > POSITIVITY) & (sure["copying"] > POSITIVITY)
    marks = {
        "copies": sure["copying"] > POSITIVITY,
        "inverts": sure["copying"] < -POSITIVITY,
        "matches": sure["matching"] > POSITIVITY,
        "mismatches": sure["matching"] < -POSITIVITY,
        "previous token": backwards,
        "induction": induces & confirmed,
        "induction?": induces & ~known_positions,
    }
    label = [", ".join(name for name, mark in marks.items() if mark[row]) for row in table.index]
    whole = dict.fromkeys(["layer", "head", "kv_head", "from_layer", "from_head"], "Int64")
    ordered = [f"{name}{end}" for name in SCORES for end in ("", "_z", "_q")]
    order = [*HEAD, *ordered, "from_layer", "from_head", "previous_token", "previous_token_null", "label"]
    return table.assign(label=label)[order].astype(whole)
