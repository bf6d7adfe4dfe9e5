"""How much each input channel of a matrix matters: the second moment of what comes in, or what is known of it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

Importance = Callable[[Any], tuple[np.ndarray | None, str]]
MOMENTS, GAIN, NOTHING = "second moments", "norm gain", "nothing"
# Which norm's output a matrix reads, in a block that normalises before it.
_READS = {
    **dict.fromkeys(["W_Q", "W_K", "W_V", "W_Q_a", "W_KV_a", "W_attn_gate"], "pre_attention"),
    **dict.fromkeys(["W_gate", "W_up"], "pre_mlp"),
}


def importance_of(
    inventory: pd.DataFrame, load_gain: Callable[[Any], Any], moments: pd.DataFrame | None = None
) -> Importance:
    """A function from a row of the inventory to the importance of its columns, and what that comes from.

    moments: of live.input_moments, if the model could run. Else the square of the gain of the norm that the matrix
    reads: what leaves a norm has that second moment, were the channels alike before. Else None.
    """
    by_name = {} if moments is None else dict(zip(moments["tensor"], moments["moments"], strict=True))
    gains = _gains(inventory, load_gain)

    def of(row: Any) -> tuple[np.ndarray | None, str]:
        if (found := _named(by_name, row.tensor)) is not None and len(found) == row.cols:
            return np.asarray(found, dtype=np.float64), MOMENTS
        component = "final" if row.role == "W_U" else _READS.get(row.role, "")
        gain = gains.get((row.stack, None if row.role == "W_U" else row.layer, component))
        if gain is not None and len(gain) == row.cols:
            return gain**2, GAIN
        return None, NOTHING

    return of


def _named(moments: Mapping[str, Any], tensor: str) -> Any:
    """By the name on disk, with or without the name of the part that the head stands on."""
    if tensor in moments:
        return moments[tensor]
    found = [values for name, values in moments.items() if name.endswith(f".{tensor}") or tensor.endswith(f".{name}")]
    return found[0] if len(found) == 1 else None


def _gains(inventory: pd.DataFrame, load_gain: Callable[[Any], Any]) -> dict[tuple, np.ndarray]:
    read = inventory["component"].isin(["pre_attention", "pre_mlp", "final"])
    norms = inventory[(inventory["role"] == "norm") & read]
    norms = norms[~norms.duplicated(["stack", "layer", "component"], keep=False)]
    rows = norms.itertuples(index=False)
    return {
        (row.stack, None if pd.isna(row.layer) else row.layer, row.component): load_gain(row).double().numpy()
        for row in rows
    }
