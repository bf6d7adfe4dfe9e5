"""How far the weights of a checkpoint lie from those of the one before, and from the first: tensor by tensor."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import torch

# What a checkpoint is measured against.
OTHERS = ("previous", "first")
COLUMNS = {
    "id": "str", "role": "str", "stack": "str", "layer": "Int64", "expert": "Int64", "elements": "Int64",
    "not_finite": "Int64", "norm": "float64",
    **{f"{what}_{other}": "float64" for other in OTHERS for what in ("norm", "distance", "change", "cosine", "equal")},
    "note": "str",
}  # fmt: skip
# Elements that are compared at once: their copies in float64 stay in the cache.
BLOCK = 1 << 18
# Reads one tensor by its row of an inventory.
Load = Callable[[Any], "torch.Tensor"]


def drift(inventory: pd.DataFrame, load: Load, others: Mapping[str, tuple[pd.DataFrame, Load]]) -> pd.DataFrame:
    """One row a tensor of a checkpoint: its L2 norm, and against each of `others` (previous, first) how far it moved.

    norm: of the other one's tensor W; distance: |W' - W|; change: distance / |W|; cosine: of the angle between the two;
    equal: share of elements of the same value. Sums are of float64, without elements that are NaN or infinite in either
    (not_finite: in this checkpoint). note: of a tensor that another checkpoint lacks, or has in another shape. Tied,
    unreadable and constant tensors are left out. Takes the memory of one tensor of each checkpoint.
    """
    own = _by_id(inventory)
    rows = {name: _by_id(table) for name, (table, _) in others.items()}
    found = [
        _moved(row, load, {name: (rows[name].get(row.id), others[name][1]) for name in others}) for row in own.values()
    ]
    missing = [
        {**_place(row), "note": f"gone since the {name} checkpoint"}
        for name in others
        for row in rows[name].values()
        if row.id not in own
    ]
    table = pd.DataFrame([*found, *missing], columns=list(COLUMNS))
    return table.astype(COLUMNS).drop_duplicates("id", ignore_index=True)


def _by_id(inventory: pd.DataFrame) -> dict[str, Any]:
    """The rows of an inventory that have weights of their own."""
    own = inventory[inventory["readable"] & (inventory["tied_to"] == "") & (inventory["parameters"] > 0)]
    return {row.id: row for row in own.itertuples(index=False)}


def _moved(row: Any, load: Load, others: dict[str, tuple[Any, Load]]) -> dict[str, Any]:
    now = _flat(load(row))
    about = _place(row)
    sums = _sums([(block, block) for block in _blocks(now)])
    about |= {"elements": now.numel(), "not_finite": now.numel() - sums["n"], "norm": math.sqrt(sums["now"])}
    notes: list[str] = []
    measured: dict[Any, dict[str, float]] = {}
    for name, (other, read) in others.items():
        if other is None:
            notes.append(f"not in the {name} checkpoint")
        elif (_size(other.rows), _size(other.cols)) != (_size(row.rows), _size(row.cols)):
            notes.append(f"of another shape in the {name} checkpoint")
        else:
            key = id(read), other.tensor
            measured[key] = measured.get(key) or against(now, _flat(read(other)))
            about |= {f"{what}_{name}": value for what, value in measured[key].items()}
    return {**about, "note": "; ".join(notes)}


def _place(row: Any) -> dict[str, Any]:
    return {key: getattr(row, key) for key in ("id", "role", "stack", "layer", "expert")}


def _size(value: Any) -> int:
    return -1 if pd.isna(value) else int(value)


def _flat(tensor: "torch.Tensor") -> "torch.Tensor":
    return tensor.detach().cpu().contiguous().reshape(-1)


def against(now: "torch.Tensor", before: "torch.Tensor") -> dict[str, float]:
    """norm (of `before`), distance, change, cosine and equal of two flat tensors of one length; see `drift`.

    Of zero weights that moved, change is infinite and the cosine missing; of such that did not, 0 and missing.
    """
    sums = _sums(zip(_blocks(now), _blocks(before), strict=True))
    norm, distance = math.sqrt(sums["before"]), math.sqrt(sums["distance"])
    scale = math.sqrt(sums["now"]) * norm
    return {
        "norm": norm,
        "distance": distance,
        "change": distance / norm if norm else (math.inf if distance else 0.0),
        "cosine": max(-1.0, min(1.0, sums["dot"] / scale)) if scale else math.nan,
        "equal": sums["equal"] / max(1, now.numel()),
    }


def _blocks(tensor: "torch.Tensor") -> Iterable[np.ndarray]:
    import torch

    for start in range(0, tensor.numel(), BLOCK):
        yield tensor[start : start + BLOCK].to(torch.float64).numpy()


def _sums(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("now", "before", "dot", "distance"), 0.0) | {"n": 0, "equal": 0}
    for now, before in pairs:
        finite = np.isfinite(now) & np.isfinite(before)
        found["equal"] += int(np.count_nonzero(now == before))
        if not finite.all():
            now, before = now[finite], before[finite]
        change = now - before
        found["n"] += len(now)
        for name, one, other in (
            ("now", now, now), ("before", before, before), ("dot", now, before), ("distance", change, change)
        ):  # fmt: skip
            found[name] += float(np.dot(one, other))
    return found


def drift_by_role(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of drift() pooled by stack and role, and with role `all` together: as if each were one long vector.

    change: |W' - W| / |W| of all their elements; cosine: of these. tensors: how many can be compared.
    """
    whole = table.assign(role="all", stack="")
    parts = [group for _, group in table.groupby(["stack", "role"], sort=False)] + [whole]
    return pd.DataFrame([_pooled(part) for part in parts if len(part)])


def _pooled(part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"stack": part["stack"].iloc[0], "role": part["role"].iloc[0], "tensors": len(part)}
    row |= {"elements": int(part["elements"].sum()), "not_finite": int(part["not_finite"].sum())}
    row["norm"] = _root(part["norm"])
    for other in OTHERS:
        both = part[part[f"norm_{other}"].notna()]
        norm, distance = _root(both[f"norm_{other}"]), _root(both[f"distance_{other}"])
        # The dot products, by the cosines; of zero tensors, without one, they are 0.
        dots = (both[f"cosine_{other}"] * both["norm"] * both[f"norm_{other}"]).sum()
        scale = _root(both["norm"]) * norm
        row[f"change_{other}"] = distance / norm if norm else math.nan
        row[f"cosine_{other}"] = max(-1.0, min(1.0, dots / scale)) if scale else math.nan
        row[f"equal_{other}"] = (
            float(np.average(both[f"equal_{other}"], weights=both["elements"])) if len(both) else math.nan
        )
    return row


def _root(values: pd.Series) -> float:
    return float(np.sqrt(np.square(values.to_numpy(float)).sum()))
