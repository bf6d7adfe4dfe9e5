"""What a series tells: the lines at the top of its page, and its findings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.metrics import metric

# A step moves the weights unusually far from this factor on over the median of all; steps must be equally long.
FAR = 4.0
# Of the metrics whose course is told, by role.
TOLD = ("heavy_tail.alpha", "effective_rank.erank_relative")


def headline(
    drift: pd.DataFrame, courses: pd.DataFrame, arisen: pd.DataFrame, checkpoints: Sequence[str], steps: Sequence[int]
) -> list[tuple[str, str]]:
    """Rows (what, value): the checkpoints, how far the weights moved, what some metrics did, and super weights."""
    span = f", steps {steps[0]:,} to {steps[-1]:,}" if steps else ""
    ends = f"{checkpoints[0]} to {checkpoints[-1]}" if len(checkpoints) > 1 else checkpoints[0]
    rows = [("checkpoints", f"{len(checkpoints)}: {ends}{span}")]
    whole = drift[drift["role"] == "all"]
    if len(whole):
        last = whole.iloc[-1]
        rows.append(
            (
                "change of all weights from the first checkpoint to the last",
                f"{last['change_first']:.3g} of their norm, cosine {last['cosine_first']:.6f}",
            )
        )
    for name in TOLD:
        told = [_told(row) for row in courses[(courses["metric"] == name) & (courses["checkpoints"] > 1)].itertuples()]
        if told:
            rows.append((metric(name).title, f"{'; '.join(told)} (first to last, median over matrices)"))
    if len(arisen):
        rows.append(("super weights", "; ".join(_arisen(row) for row in arisen.itertuples())))
    return rows


def _told(row: Any) -> str:
    known = metric(row.metric)
    null = (
        f" (random: {known.written(row.null_last)})"
        if isinstance(known.null, str) and row.null_last == row.null_last
        else ""
    )
    return f"{row.role} {known.written(row.first)} to {known.written(row.last)}{null}"


def _arisen(row: Any) -> str:
    verdict = f", {row.last_verdict}" if isinstance(row.last_verdict, str) and row.last_verdict else ""
    return f"{place_of(row)} from checkpoint {row.first_checkpoint} on{verdict}"


def place_of(row: Any) -> str:
    """Where a weight is, in words: layer 1 mlp.down_proj [7, 11]."""
    expert = "" if pd.isna(row.expert) else f" expert {row.expert}"
    return f"layer {row.layer} {row.component}{expert} [{row.row}, {row.column}]"


def findings(
    drift: pd.DataFrame, tensors: Sequence[pd.DataFrame], arisen: pd.DataFrame, steps: Sequence[int]
) -> list[dict[str, str]]:
    """Records with grade and text, the gravest first.

    drift: of all checkpoints but the first, pooled by role, with `checkpoint`; tensors: of drift.drift, the same ones.
    """
    found = [*_not_finite(drift), *_unlike(drift, tensors), *_standing(drift), *_far(drift, steps)]
    found += [
        {"grade": "info", "text": f"a super weight arises: {_arisen(row)}"}
        for row in arisen[arisen["first_checkpoint"].isin(drift["checkpoint"])].itertuples()
    ]
    order = ("critical", "notable", "info")
    return sorted(found, key=lambda each: order.index(each["grade"]))


def _not_finite(drift: pd.DataFrame) -> list[dict[str, str]]:
    bad = drift[(drift["role"] == "all") & (drift["not_finite"] > 0)]
    return [
        {"grade": "critical", "text": f"{row.not_finite} weights are NaN or infinite in checkpoint {row.checkpoint}"}
        for row in bad.head(1).itertuples()
    ]


def _unlike(drift: pd.DataFrame, tensors: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """Tensors that not all checkpoints have, or in another shape."""
    found = []
    for name, table in zip(drift["checkpoint"].unique(), tensors, strict=True):
        noted = table[table["note"].notna() & (table["note"] != "")]
        if len(noted):
            more = f" and {len(noted) - 1} more" if len(noted) > 1 else ""
            text = f"checkpoint {name} has other tensors: {noted['id'].iloc[0]} is {noted['note'].iloc[0]}{more}"
            found.append({"grade": "notable", "text": text})
    return found


def _standing(drift: pd.DataFrame) -> list[dict[str, str]]:
    """Checkpoints that hold the same weights, and roles that never move while others do."""
    whole = drift[drift["role"] == "all"]
    same = whole.loc[whole["equal_previous"] == 1, "checkpoint"].tolist()
    found = [
        {"grade": "notable", "text": f"checkpoint {name} holds the same weights as the one before it"} for name in same
    ]
    moved = drift[~drift["checkpoint"].isin(same) & (drift["role"] != "all")]
    still = moved.groupby("role", sort=False)["equal_previous"].min()
    if len(frozen := still[still == 1]):
        found.append({"grade": "info", "text": f"never changes while others do: {', '.join(map(str, frozen.index))}"})
    return found


def _far(drift: pd.DataFrame, steps: Sequence[int]) -> list[dict[str, str]]:
    """Checkpoints, at equal steps, between which the weights moved much farther than they mostly do."""
    whole = drift[drift["role"] == "all"]
    if len(whole) < 3 or len(set(np.diff(steps))) != 1:
        return []
    usual = whole["change_previous"].median()
    far = whole[whole["change_previous"] > FAR * usual] if usual > 0 else whole.iloc[:0]
    return [
        {
            "grade": "notable",
            "text": f"on the way to checkpoint {row.checkpoint} the weights moved by {row.change_previous:.3g} of "
            f"their norm, {row.change_previous / usual:.1f} times as far as usual: look for a spike of the loss there",
        }
        for row in far.itertuples()
    ]
