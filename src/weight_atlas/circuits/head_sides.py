"""Where attention heads touch the residual stream: what each reads for queries, keys and values, and what it writes.

A head's circuits are low-rank products A = left^T right of its factors (see head_factors). Whatever else stands beside
them, |left^T M| = |R M| with R^T R = left left^T, so that a head's side towards another is R right, (k, d) with k its
head_dim: of the same norm as the whole kernel, and never d x d.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from weight_atlas.families.roles import centres
from weight_atlas.inventory_row import Load
from weight_atlas.spectra.attention_factors import Block, attention_blocks, head_factors, norm_gains, norm_rows
from weight_atlas.spectra.attention_kernels import triangle

CROSS = "cross_attention"
READS = ("Q", "K", "V")


@dataclass(frozen=True)
class Norms:
    """What of a model's norms is folded into its heads.

    before, after: by (stack, layer), the gain of the norm whose output the attention reads and of the norm of what it
    adds. centred: the stacks whose attention reads the output of a LayerNorm, which sees no mean.
    """

    before: dict[tuple[str, int], np.ndarray]
    after: dict[tuple[str, int], np.ndarray]
    centred: frozenset[str]

    def words(self) -> str:
        """What is folded, for a log and a table."""
        parts = [f"gains of {len(self.before)} norms before and {len(self.after)} after attention"]
        return ", ".join([*parts, *(f"means taken out ({stack})" for stack in sorted(self.centred))])


def attention_norms(inventory: pd.DataFrame, load: Load, norm: str) -> Norms:
    """The norms around the attention of a model.

    load(row) gives a norm's gain. norm: what the model's norms compute (Architecture.norm), for one without parameters
    before the attention, which the inventory does not have. Where norms follow each addition to the residual stream
    (BERT), none is folded.
    """
    rows = norm_rows(inventory)
    centred = {row.stack for row in rows.itertuples() if centres(row.norm)}
    if rows.empty and norm.endswith("without parameters") and centres(norm):
        centred = set(inventory["stack"])
    return Norms(norm_gains(inventory, load), norm_gains(inventory, load, "post_attention"), frozenset(centred))


@dataclass(frozen=True)
class Sides:
    """The heads of one attention module towards the residual stream.

    reads: by "Q", "K" and "V", and write: (heads, k, d) float64, the sides of W_QK, W_QK and W_OV that read, and of
    W_OV that writes; one is missing where the module lacks its circuit, or reads another stream.
    """

    block: Block
    reads: dict[str, np.ndarray]
    write: np.ndarray | None


def head_sides(
    matrices: pd.DataFrame, load: Load, norms: Norms, layers: Callable[[Block], bool] = lambda _: True
) -> Iterator[Sides]:
    """The sides of all heads, one module in memory at a time, in the order of the inventory.

    matrices: rows of an inventory; load(row) gives a tensor (out, in). layers: which modules to read.
    """
    for block in filter(layers, attention_blocks(matrices)):
        fold = partial(folded_factors, block, load=load, norms=norms)
        reads: dict[str, list[np.ndarray]] = {}
        writes = []
        if not block.missing("QK"):
            for _, _, queries, keys in fold("QK"):
                reads.setdefault("Q", []).append(_side(keys, queries))
                # Cross-attention takes keys and values from the encoder.
                if block.component != CROSS:
                    reads.setdefault("K", []).append(_side(queries, keys))
        if not block.missing("OV"):
            for _, _, outputs, values in fold("OV"):
                writes.append(_side(values, outputs))
                if block.component != CROSS:
                    reads.setdefault("V", []).append(_side(outputs, values))
        yield Sides(
            block, {name: np.stack(sides) for name, sides in reads.items()}, np.stack(writes) if writes else None
        )


def folded_factors(
    block: Block, circuit: str, load: Load, norms: Norms
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """head_factors with the norms folded in: (head, kv_head, left, right), both (k, d) float64.

    What reads is multiplied by the gain of the norm before the attention, what writes by the one after it; both lose
    their mean over d where a LayerNorm takes it out of what is read.
    """
    place, centred = (block.stack, block.layer), block.stack in norms.centred
    own = block.component == ""
    before, after = (gains.get(place) if own else None for gains in (norms.before, norms.after))
    for head, kv_head, left, right in head_factors(block, circuit, load, before):
        if circuit == "OV" and after is not None:
            left = left * after
        if centred:
            left, right = _centred(left), _centred(right)
        yield head, kv_head, left, right


def _centred(factor: np.ndarray) -> np.ndarray:
    return factor - factor.mean(axis=1, keepdims=True)


def _side(other: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The side `own` of the kernel other^T own, with the other one folded in: of the same norm as the kernel."""
    if not (np.isfinite(other).all() and np.isfinite(own).all()):
        return np.full((min(other.shape), own.shape[1]), np.nan)
    with np.errstate(over="ignore"):
        return triangle(other, other @ other.T) @ own
