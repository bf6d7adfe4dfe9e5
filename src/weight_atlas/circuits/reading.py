"""Vectors of the residual stream read as tokens, through the final norm and the unembedding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.vocabulary.neuron_scan import Vocabulary, prepare, scan_block
from weight_atlas.vocabulary.readout import Readout, read_readout
from weight_atlas.vocabulary.token_classes import rows_with_tokens, text_tokens


@dataclass(frozen=True)
class TokenReader:
    """What reads vectors as tokens.

    readout: the whole map to logits. vocabulary: its rows that stand for text. ids: (n,) these rows' token ids. texts:
    the decoded token of each. left_out: numbers of rows that are not read, by reason.
    """

    readout: Readout
    vocabulary: Vocabulary
    ids: np.ndarray
    texts: list[str]
    left_out: dict[str, int]

    def read(self, vectors: np.ndarray, tokens: int) -> pd.DataFrame:
        """What vectors (d_model, n) do to the logits, a row each: the moments of scan_block over the tokens, and lists
        up, up_effects, down, down_effects of the strongest tokens, decoded, with their ids (up_ids, down_ids)."""
        scanned = scan_block(self.vocabulary, torch.from_numpy(np.ascontiguousarray(vectors, np.float32)), k=tokens)
        table = scanned[["skew", "kurt"]].copy()
        for name, column in (("up", "top"), ("down", "bottom")):
            places = scanned[f"{column}_ids"]
            table[f"{name}_ids"] = [self.ids[each].astype(np.int64) for each in places]
            table[name] = [[self.texts[place] for place in each] for each in places]
            table[f"{name}_effects"] = list(scanned[f"{column}_effects"])
        return table


def token_reader(checkpoint: Any, inventory: pd.DataFrame, classes: pd.DataFrame) -> TokenReader:
    """The reader of a checkpoint's vectors.

    classes: of token_classes. Special tokens, rows without a token and rows without training are left out: vectors of
    no training are alike, and would be the strongest tokens of all directions that point where they lie.
    """
    readout = read_readout(checkpoint, inventory)
    kept = rows_with_tokens(classes, readout.vocabulary)
    ids = kept[text_tokens(classes)[kept]]
    untrained = int(classes["untrained"][: readout.vocabulary].sum())
    left_out = {
        "without a token": readout.vocabulary - len(kept) - untrained,
        "special": len(kept) - len(ids),
        "untrained": untrained,
    }
    rows = readout.rows(torch.from_numpy(ids))
    texts = classes["text"].to_numpy()[ids].tolist()
    return TokenReader(readout, prepare(rows, np.ones(len(ids), dtype=bool)), ids, texts, left_out)
