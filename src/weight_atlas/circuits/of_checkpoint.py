"""The analyses of circuits of a stored model: what they read from its checkpoint and its inventory."""

from functools import partial
from typing import Any

import pandas as pd

from weight_atlas.circuits.composition import compositions
from weight_atlas.circuits.head_sides import Norms, attention_norms
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.inventory import matrices
from weight_atlas.families.pieces import load_gain, load_piece
from weight_atlas.spectra.attention_factors import CIRCUITS, attention_blocks


def norms_of(checkpoint: Any, inventory: pd.DataFrame) -> Norms:
    """What of a checkpoint's norms is folded into its heads."""
    architecture = Architecture.of(checkpoint, allow_other=True)
    return attention_norms(inventory, partial(load_gain, checkpoint), architecture.norm)


def composition_of(checkpoint: Any, inventory: pd.DataFrame, *, threads: int = 1) -> pd.DataFrame:
    """The composition scores of a checkpoint's heads (see compositions), with a word on what is folded and left out."""
    rows, norms = matrices(inventory), norms_of(checkpoint, inventory)
    print(f"folded: {norms.words()}", flush=True)
    for block in attention_blocks(rows):
        for circuit in CIRCUITS:
            if reason := block.missing(circuit):
                place = f"{block.stack} layer {block.layer} {block.component}".rstrip()
                print(f"no {circuit} circuit in {place}: {reason}", flush=True)
    return compositions(rows, partial(load_piece, checkpoint), norms, threads=threads)
