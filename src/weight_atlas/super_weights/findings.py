"""Sentences about the verdict on super weights, each graded critical, notable or info.

Where a sentence rests on one number, it is given beside its null: the rise of the loss in nats per token.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from weight_atlas.ratios import times
from weight_atlas.super_weights.outliers import Trial

# Channels of one origin named in a sentence.
MOST_LISTED = 4
KEEP = "Keep it at full precision where the model is quantized, and never prune or clip it."
# What to do about a weight, by its verdict.
REMEDIES = {
    "critical": KEEP,
    "contributing": KEEP,
    "inconclusive": "Verify on more text: super_weight_verification.tokens. Until then keep it at full precision.",
}


def findings(verdict: str, table: pd.DataFrame, joint: dict | None) -> list[dict[str, Any]]:
    """A finding for each verified weight and one for all together, the most severe first.

    Each has grade and text; value and null_value, the rise of the loss and the largest of its controls (missing without
    controls), in nats per token; remedy, and of a single weight its place.

    table: rows of the verification, with found_by. joint: the verification's row of all candidates together, if there
    were several, with `null_max`, the largest rise of its controls in nats per token.
    """
    # Weights that stand in for each other are no decoys.
    together = verdict == "critical together" or (verdict != "not confirmed" and (table.verdict == "inert").all())
    found = [_of_weight(row, together) for row in table.itertuples()]
    if joint is not None:
        grade = {"critical": "critical", "critical together": "critical", "not confirmed": "info"}.get(
            verdict, "notable"
        )
        text = f"All {joint['weights']} candidates set to zero multiply perplexity by {times(joint['delta_nll'])}"
        null = joint.get("null_max")
        against = "" if null is None else f", the worst of their random controls by {times(null)}"
        numbers = {"value": joint["delta_nll"], "null_value": null}
        found.append(
            {"grade": grade, "text": f"{text}{against}.", **numbers, "remedy": KEEP if grade == "critical" else ""}
        )
    order = {"critical": 0, "notable": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding["grade"]])


def searched(verdict: str, trial: Trial, unattributed: Sequence[dict], unverified: int) -> list[dict[str, Any]]:
    """Findings about the scope of the search: activations without a weight, outliers tried, matrices left out.

    trial: of the outliers. unattributed: see detection.unattributed. unverified: number of detected weights beyond
    the limit.
    """
    found = []
    if unattributed:
        lasting = any("last" not in each["reason"] for each in unattributed)
        beside = pd.DataFrame(unattributed)
        beside["reason"] = [each["reason"] + _outlier(trial, each) for each in unattributed]
        groups = beside.groupby(["layer", "reason"], sort=True)
        listed = "; ".join(_unattributed(layer, reason, rows) for (layer, reason), rows in groups)
        text = f"Massive activations that were attributed to no single weight of an MLP output projection: {listed}"
        text += ". Attention and embedding matrices were not searched: a super weight may lie there."
        remedy = (
            "Keep attention output and embedding matrices in 16 bits, or see what removing their largest weights does."
        )
        found.append({"grade": "notable" if lasting else "info", "text": text, "remedy": remedy if lasting else ""})
    text = "Searched: massive activations of the residual stream, attributed to MLP output projections"
    if len(trial.table):
        worst = trial.table.delta_nll.max(skipna=False)
        count = len(trial.table)
        what = "the largest outlier" if count == 1 else f"the {count} largest other outliers"
        text += f"; {what} of these projections, removed one at a time (perplexity times {times(worst)} at most)"
        text += f", at least {trial.left} smaller ones untried" if trial.left else ""
    elif trial.left:
        text += f"; at least {trial.left} of their weights stand out by their size and were not tried"
    else:
        text += "; none of their weights stands out by its size beside those"
    if unverified:
        text += f"; {unverified} detected weights that contribute less were not verified"
    start = "No super weight was found where it was searched. " if verdict in ("none found", "not confirmed") else ""
    return [*found, {"grade": "info", "text": f"{start}{text}. Other matrices were not searched."}]


def _outlier(trial: Trial, activation: dict) -> str:
    """A clause about the tried outliers in an activation's layer that write into its channel, or ""."""
    rows = trial.table
    own = rows[(rows.layer == activation["layer"]) & (rows.row == activation["channel"])] if len(rows) else rows
    return "".join(f", where [{each.row}, {each.column}] stands out by its size" for each in own.itertuples())


def _unattributed(layer: int, reason: str, rows: pd.DataFrame) -> str:
    """The channels of activations with one layer and reason, the largest first."""
    where = "the embedding" if layer < 0 else f"layer {layer}"
    if len(rows) == 1:
        return f"channel {rows.channel.iloc[0]} at {where} ({rows.ratio.iloc[0]:,.0f} times the median), {reason}"
    named = ", ".join(map(str, rows.channel[:MOST_LISTED]))
    more = f" and {len(rows) - MOST_LISTED} more" if len(rows) > MOST_LISTED else ""
    return f"channels {named}{more} at {where} (up to {rows.ratio.max():,.0f} times the median), {reason}"


def _of_weight(row, together: bool) -> dict[str, Any]:
    grade, text = _graded(row, together)
    null = float(row.null_max) if row.null_draws else None
    numbers = {"value": float(row.delta_nll), "null_value": null}
    return {"grade": grade, "text": text, "place": _place(row), **numbers, "remedy": REMEDIES.get(row.verdict, "")}


def _place(row) -> str:
    expert = "" if pd.isna(row.expert) else f" expert {row.expert}"
    return f"Layer {row.layer}{expert} [{row.row}, {row.column}]"


def _graded(row, together: bool) -> tuple[str, str]:
    place = _place(row)
    effect = f"set to zero it multiplies perplexity on the verification text by {times(row.delta_nll)}"
    null = [f"{row.null_draws} random weights by at most {times(row.null_max)}"] if row.null_draws else []
    if row.shift_draws:
        null.append(f"the same change at {row.shift_draws} random places by at most {times(row.shift_max)}")
    against = f", {', '.join(null)}" if null else ""
    # Where a weight counts by what it does among the others, its own harm is not the point.
    if null and not row.exceeds_null and row.verdict != "inert" and not row.rescue > row.delta_nll:
        against += ": a change of this size does as much harm elsewhere"
    match row.verdict:
        case "critical":
            return "critical", f"{place} is critical: {effect}{against}."
        case "contributing":
            return "notable", f"{place} contributes: {effect}{against}{_rescued(row)}."
        case "inconclusive":
            why = f"the 95 % interval begins at {row.delta_nll_low:.3g} nats per token: more text would tell"
            return "notable", f"{place} may matter: {effect}{against}, but {why}."
    what = "is a decoy: it writes a massive activation, but removing it is harmless"
    if together:
        what = "is harmless to remove alone, but not with the others"
    return "info", f"{place} {what}: {effect}{against}."


def _rescued(row) -> str:
    """A clause about the effect of a weight among the others, which decides if its effect alone is small."""
    if pd.isna(row.rescue):
        return ""
    return f"; kept while all others are zero it undoes {row.rescue:.3g} nats per token of what removing all costs"
