"""Choice of neurons to describe: those of super weights, configured ones, and the extremes of each layer."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.vocabulary.down_projections import of_component
from weight_atlas.vocabulary.orders import ORDERS


def select_neurons(
    scan: pd.DataFrame,
    super_weights: Iterable[dict[str, Any]] = (),
    neurons: Sequence[Sequence[int]] = (),
    *,
    top_k: int = 0,
    order: str = "kurtosis",
) -> pd.DataFrame:
    """The chosen rows of a scan, with the columns `selected_by` (reason) and `super_weights` (records in the neuron).

    super_weights: records with layer, column, expert_id and component of detected super weights. neurons: [layer,
    neuron] or [layer, expert, neuron]. top_k: of each layer, by `order` (a key of ORDERS). A neuron that the model does
    not have is an AtlasError.
    """
    reasons: dict[int, list[str]] = {}
    weights_of: dict[int, list[dict[str, Any]]] = {}
    for record in super_weights:
        index = _find(scan, record["layer"], record.get("expert_id"), record["column"], record.get("component") or "")
        reasons.setdefault(index, []).append("super weight")
        weights_of.setdefault(index, []).append(record)
    for given in neurons:
        if not isinstance(given, Sequence) or len(given) not in (2, 3):
            raise AtlasError(f"{given} is no neuron", remedy="give [layer, neuron] or [layer, expert, neuron]")
        index = _find(scan, given[0], given[1] if len(given) == 3 else None, given[-1], "")
        reasons.setdefault(index, []).append("configured")
    if top_k:
        column, sign = ORDERS[order]
        strongest = (sign * scan[column].astype(float)).dropna().sort_values(ascending=False, kind="stable")
        for index in strongest.groupby(scan.layer.astype(int), sort=True).head(top_k).index.sort_values():
            reasons.setdefault(index, []).append(f"top {order}")
    chosen = scan.loc[sorted(reasons)].copy()
    # A neuron can have several super weights.
    chosen["selected_by"] = [", ".join(dict.fromkeys(reasons[index])) for index in chosen.index]
    chosen["super_weights"] = [weights_of.get(index, []) for index in chosen.index]
    return chosen.reset_index(drop=True)


def _find(scan: pd.DataFrame, layer: int, expert: int | None, neuron: int, component: str) -> int:
    here = (scan.layer == layer) & (scan.neuron == neuron)
    here &= scan.expert.isna() if expert is None else (scan.expert == expert).fillna(False)
    found = scan[here]
    found = of_component(found, component)
    if len(found) != 1:
        place = f"layer {layer}" + ("" if expert is None else f" expert {expert}") + f" neuron {neuron}"
        raise AtlasError(f"the model has no {place}", remedy="neurons count from 0, by layer and expert")
    return int(found.index[0])
