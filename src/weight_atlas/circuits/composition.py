"""How much heads of later layers read of what heads of earlier ones write: Q-, K- and V-composition.

After Elhage et al., A mathematical framework for transformer circuits, 2021: |W_QK^T W_OV| / (|W_QK| |W_OV|) for
queries, |W_QK W_OV| / (|W_QK| |W_OV|) for keys and |W_OV' W_OV| / (|W_OV'| |W_OV|) for values, in Frobenius norms, from
the sides of the heads (see head_sides): |R W^T| / (|R| |W|), which needs k x k numbers for two heads.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from weight_atlas.circuits.head_sides import READS, Norms, Sides, head_sides
from weight_atlas.circuits.orientation_null import Shape, shape_of, upper_tail
from weight_atlas.circuits.pair_scores import PairScores
from weight_atlas.errors import NotApplicable
from weight_atlas.inventory_row import Load
from weight_atlas.spectra import schedule
from weight_atlas.spectra.attention_factors import Block, attention_blocks

# Memory for the writing sides of earlier layers, in bytes: where they take more, the later layers are read again for
# each group of earlier ones.
MEMORY = 1 << 29


@dataclass(frozen=True)
class Side:
    """One side of the heads of a module, (heads, k, d) float32 of norm 1 each (NaN for zeros), and its shape."""

    block: Block
    unit: np.ndarray
    shape: Shape


def compositions(matrices: pd.DataFrame, load: Load, norms: Norms, *, threads: int = 1) -> pd.DataFrame:
    """Composition scores of all pairs of heads, as one table (see pair_scores, which never holds it as a whole).

    A row per kind (Q, K, V) and pair: stack, layer, component and head that read, from_layer, from_component and
    from_head that write, score in [0, 1], null (root mean square over random orientations), excess over it, p (chance
    of a random orientation to score as much, see orientation_null), q (its false discovery rate over all pairs) and
    label: "composes" where q < LEVEL and the score is LEAST_RATIO times the null, else "". Sorted by excess, largest
    first. Pairs with a head of zeros or with numbers that are not finite are left out.
    """
    return pd.concat(pair_scores(matrices, load, norms, threads=threads).frames(), ignore_index=True)


def pair_scores(matrices: pd.DataFrame, load: Load, norms: Norms, *, threads: int = 1) -> PairScores:
    """Composition scores of all pairs of heads of one stack, the reading one in a later layer than the writing one.

    matrices: rows of an inventory; load(row) gives a tensor (out, in). threads: earlier layers computed in parallel,
    each with one BLAS thread. Products are in float32, of sides of unit norm.
    """
    blocks = attention_blocks(matrices)
    scores = PairScores(blocks)
    if not scores.readers:
        raise NotApplicable("no attention head has another in an earlier layer that it could read")
    with schedule.one_thread_each(), ThreadPoolExecutor(max(1, threads)) as pool:
        for group in _groups(blocks):
            _score(scores, head_sides(matrices, load, norms, _from(group)), group, norms, pool)
    scores.finish()
    return scores


def _groups(blocks: list[Block]) -> list[list[Block]]:
    """Writing modules cut into groups whose sides fit the memory together, at least one each."""
    groups: list[list[Block]] = []
    taken = 0
    for block in blocks:
        if (row := block.rows.get("W_O")) is None:
            continue
        size = 4 * int(row.rows) * int(row.cols)
        if not groups or taken + size > MEMORY:
            groups.append([])
            taken = 0
        groups[-1].append(block)
        taken += size
    return groups


def _from(group: list[Block]) -> Callable[[Block], bool]:
    """The modules to read for a group of writing ones: these and all later ones."""
    first: dict[str, int] = {}
    for block in group:
        first.setdefault(block.stack, block.layer)
    return lambda block: block.layer >= first.get(block.stack, np.inf)


def _score(
    scores: PairScores, modules: Iterator[Sides], group: list[Block], norms: Norms, pool: ThreadPoolExecutor
) -> None:
    places = {(block.stack, block.layer, block.component) for block in group}
    written: list[Side] = []
    for module in modules:
        block = module.block
        earlier = [side for side in written if side.block.stack == block.stack and side.block.layer < block.layer]
        for kind in READS:
            if kind in module.reads and earlier:
                reads = _unit(block, module.reads[kind])
                lost = int(block.stack in norms.centred)
                for _ in pool.map(partial(_pairs, scores, kind, reads, lost=lost), earlier):
                    pass  # an error of a thread is raised here
        if module.write is not None and (block.stack, block.layer, block.component) in places:
            written.append(_unit(block, module.write))


def _unit(block: Block, sides: np.ndarray) -> Side:
    largest = np.abs(sides).max(axis=(1, 2), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = sides / largest
        unit = scaled / np.linalg.norm(scaled, axis=(1, 2), keepdims=True)
    return Side(block, unit.astype(np.float32), shape_of(unit))


def _pairs(scores: PairScores, kind: str, reads: Side, writes: Side, *, lost: int) -> None:
    """Score all pairs of two modules; lost: dimensions that no head reads or writes, since norms centre."""
    d = reads.unit.shape[2]
    heads, others = len(reads.unit), len(writes.unit)
    product = reads.unit.reshape(-1, d) @ writes.unit.reshape(-1, d).T
    product *= product
    squares = product.reshape(heads, -1, product.shape[1]).sum(axis=1)
    squares = squares.reshape(heads, others, -1).sum(axis=2, dtype=np.float64)
    tail = upper_tail(squares, reads.shape, writes.shape, d - lost)
    scores.put(kind, reads.block, writes.block, squares**0.5, tail, max(d - lost, 1) ** -0.5)
