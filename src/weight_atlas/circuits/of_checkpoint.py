"""The analyses of circuits of a stored model: what they read from its checkpoint and its inventory."""

from functools import partial
from typing import Any

import pandas as pd

from weight_atlas.circuits.composition import pair_scores
from weight_atlas.circuits.head_circuits import head_circuits
from weight_atlas.circuits.head_sides import Norms, attention_norms
from weight_atlas.circuits.pair_scores import PAIR, PairScores
from weight_atlas.circuits.reading import token_reader
from weight_atlas.circuits.token_tables import token_tables
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.pieces import load_gain, load_piece, matrices
from weight_atlas.spectra.attention_factors import CIRCUITS, attention_blocks


def norms_of(checkpoint: Any, inventory: pd.DataFrame) -> Norms:
    """What of a checkpoint's norms is folded into its heads."""
    architecture = Architecture.of(checkpoint, allow_other=True)
    return attention_norms(inventory, partial(load_gain, checkpoint), architecture.norm)


def scores_of(checkpoint: Any, inventory: pd.DataFrame, *, threads: int = 1) -> PairScores:
    """The composition scores of a checkpoint's heads (see pair_scores), with a word on what is folded and left out."""
    rows, norms = matrices(inventory), norms_of(checkpoint, inventory)
    print(f"folded: {norms.words()}", flush=True)
    for block in attention_blocks(rows):
        for circuit in CIRCUITS:
            if reason := block.missing(circuit):
                place = f"{block.stack} layer {block.layer} {block.component}".rstrip()
                print(f"no {circuit} circuit in {place}: {reason}", flush=True)
    return pair_scores(rows, partial(load_piece, checkpoint), norms, threads=threads)


def circuits_of(
    checkpoint: Any,
    inventory: pd.DataFrame,
    classes: pd.DataFrame,
    pairs: pd.DataFrame | None,
) -> pd.DataFrame:
    """The circuits of a checkpoint's heads through the vocabulary (see head_circuits).

    classes: of token_classes. pairs: of compositions, at least its leading_pairs, or None where no head has
    another before it.
    """
    reader = token_reader(checkpoint, inventory, classes)
    tokens = token_tables(checkpoint, inventory, reader)
    print(f"{len(reader.ids)} tokens; rows left out: {reader.left_out}", flush=True)
    if tokens.positions is None:
        print("positions are not in the residual stream: no head is told to attend to the token before", flush=True)
    if pairs is None:
        pairs = pd.DataFrame(columns=[*PAIR, "label"])
    load = partial(load_piece, checkpoint)
    return head_circuits(matrices(inventory), load, norms_of(checkpoint, inventory), tokens, pairs)
