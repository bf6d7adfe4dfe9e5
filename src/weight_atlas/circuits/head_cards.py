"""A card for every attention head: its scores, kernels, partners and directions in one record."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from weight_atlas.circuits.head_circuits import composing_keys

# Partners of each kind, and directions, on a card.
PARTNERS = 3
_HEAD = ["layer", "component", "head"]
_PARTNER = ["kind", "layer", "head", "from_layer", "from_head", "score", "null", "label"]
_DIRECTION = ["direction", "sigma", "energy", "energy_null", "gap", "kurt", "up", "down"]
_KERNEL = ["head_dim", "erank", "erank_null", "asymmetry", "positivity", "label"]


def head_cards(
    circuits: pd.DataFrame,
    compositions: pd.DataFrame | None,
    kernels: pd.DataFrame | None,
    directions: pd.DataFrame | None,
) -> pd.DataFrame:
    """One record per head, to write as lines of JSON: the columns of head_circuits, and

    reads_from, read_by: the strongest partners in earlier and later layers (rows of compositions). kernels: by circuit
    (QK, OV), measures and label of head_table. directions: what the head writes along (rows of singular_directions).
    Each is empty where its analysis has nothing.
    """
    cards = circuits.copy()
    reads, writes = _partners(compositions, ""), _partners(compositions, "from_")
    kernel_rows = _by_head(kernels[kernels["stack"] == "decoder"] if kernels is not None else None)
    words = _by_head(directions[directions["kind"] == "OV"] if directions is not None else None)
    places = [_place(row) for row in circuits.itertuples()]
    cards["reads_from"] = [reads.get(place, []) for place in places]
    cards["read_by"] = [writes.get(place, []) for place in places]
    cards["kernels"] = [
        {record["circuit"]: _chosen(record, _KERNEL) for record in kernel_rows.get(place, [])} for place in places
    ]
    cards["directions"] = [[_chosen(record, _DIRECTION) for record in words.get(place, [])] for place in places]
    return cards


def leading_pairs(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of a table of compositions that head_circuits and head_cards read, in their order.

    frames: of the table, one after the other, of which one at a time is in memory. Of each the composing_keys are kept,
    and of the whole the first PARTNERS rows of every head that reads and of every one that writes.
    """
    parts = []
    seen: dict[str, pd.Series] = {}
    for frame in frames:
        chosen = pd.Series(frame.index.isin(composing_keys(frame).index), index=frame.index)
        for side in ("", "from_"):
            groups = frame.groupby(["stack", *(f"{side}{name}" for name in _HEAD)], dropna=False)
            sizes = groups.size()
            before = seen.get(side, sizes[:0])
            number = before.reindex(sizes.index, fill_value=0).to_numpy()[groups.ngroup()] + groups.cumcount()
            chosen |= number < PARTNERS
            seen[side] = sizes.add(before, fill_value=0)
        parts.append(frame[chosen])
    return pd.concat(parts, ignore_index=True)


def _place(row: Any) -> tuple[int, str, int]:
    return int(row.layer), row.component if isinstance(row.component, str) else "", int(row.head)


def _partners(compositions: pd.DataFrame | None, side: str) -> dict[tuple[int, str, int], list[dict[str, Any]]]:
    """By head: its pairs of largest excess in which it reads (side "") or writes ("from_")."""
    if compositions is None:
        return {}
    keys = [f"{side}{name}" for name in _HEAD]
    own = compositions[compositions["stack"] == "decoder"]
    best = own[own.groupby(keys, dropna=False).cumcount() < PARTNERS]
    found: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    for place, record in zip(best[keys].itertuples(index=False, name=None), best.to_dict("records"), strict=True):
        layer, component, head = place
        key = int(layer), component if isinstance(component, str) else "", int(head)
        found.setdefault(key, []).append(_chosen(record, _PARTNER))
    return found


def _by_head(table: pd.DataFrame | None) -> dict[tuple[int, str, int], list[dict[str, Any]]]:
    found: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    if table is not None:
        for row, record in zip(table.itertuples(), table.to_dict("records"), strict=True):
            found.setdefault(_place(row), []).append(record)
    return found


def _chosen(record: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: record[name] for name in names}
