"""Sentences about the verdict on super weights, each graded critical, notable or info.

Where a sentence rests on one number, it is given beside its null: the rise of the loss in nats per token.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from weight_atlas.live.anatomy import Coordinate
from weight_atlas.ratios import times
from weight_atlas.super_weights.sets import Group
from weight_atlas.super_weights.trials import Trial

_METRIC = "super_weight_verification.delta_nll"  # of the registry
# Channels of one origin named in a sentence.
MOST_LISTED = 4
KEEP = "Keep it at full precision where the model is quantized, and never prune or clip it."
KEEP_ALL = "Keep them at full precision where the model is quantized, and never prune or clip them."
# What to do about a weight, by its verdict.
REMEDIES = {
    "critical": KEEP,
    "harmful but not special": "The matrix does not bear changes of this size: quantize it with more bits than others.",
    "contributing": KEEP,
    "special but mild": KEEP,
    "inconclusive": "Verify on more text: super_weight_verification.tokens. Until then keep it at full precision.",
}


def findings(verdict: str, table: pd.DataFrame, joint: dict | None) -> list[dict[str, Any]]:
    """A finding for each verified weight and one for all together, the most severe first.

    Each has grade and text; value and null_value, the rise of the loss and the median of its controls (of all together
    the largest; missing without controls), in nats per token; the metric that these are; remedy, and of a single weight
    its place.

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
        numbers = {"value": joint["delta_nll"], "null_value": null, "metric": _METRIC}
        found.append(
            {"grade": grade, "text": f"{text}{against}.", **numbers, "remedy": KEEP if grade == "critical" else ""}
        )
    order = {"critical": 0, "notable": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding["grade"]])


def of_sets(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A critical finding for each set of weights that do harm together."""
    return [
        {
            "grade": "critical",
            "text": _of_set(each),
            "place": _capital(str(each.line)),
            "value": each.delta_nll,
            "null_value": each.null_max,
            "metric": _METRIC,
            "remedy": KEEP_ALL,
        }
        for each in groups
    ]


def _of_set(group: Group) -> str:
    harm = f"perplexity on the verification text by {times(group.delta_nll)}"
    many = _as_harmful(group.exceed_share, group.draws)
    if group.whole:
        kind = "row" if group.line.col is None else "column"
        return (
            f"The {kind} {group.line} is critical: set to zero it multiplies {harm}; of {group.draws} other {kind}s of "
            f"the matrix {many}. No small number of its weights does half of it."
        )
    return (
        f"{len(group.places)} weights of {group.line} are critical together: set to zero they multiply {harm}, the "
        f"worst of them alone by {times(group.single)}; of {group.draws} random sets of as many weights of the matrix, "
        f"nearest in size ({group.magnitude_ratio:.2g} of it), {many}."
    )


def searched(verdict: str, trial: Trial, unattributed: Sequence[dict], unverified: int) -> list[dict[str, Any]]:
    """Findings about the scope of the search: activations without a weight, removals tried, what was not searched.

    trial: of what promised to matter. unattributed: see detection.unattributed. unverified: number of weights beyond
    the limit, detected or found harmful in the trial.
    """
    found = []
    if unattributed:
        lasting = any("last" not in each["reason"] for each in unattributed)
        beside = pd.DataFrame(unattributed)
        beside["reason"] = [each["reason"] + _tried(trial, each) for each in unattributed]
        groups = beside.groupby(["layer", "reason"], sort=True)
        listed = "; ".join(_unattributed(layer, reason, rows) for (layer, reason), rows in groups)
        text = f"Massive activations that were attributed to no single weight of an MLP output projection: {listed}."
        explained = verdict not in ("none found", "not confirmed")
        found.append({"grade": "notable" if lasting and not explained else "info", "text": text})
    text = "Searched: massive activations of the residual stream, attributed to MLP output projections"
    if len(trial.table):
        worst = trial.table.delta_nll.max(skipna=False)
        beside = int((trial.table.found_by == "partner").sum())
        count = len(trial.table) - beside
        what = "what stands out most" if count == 1 else f"the {count} weights, rows and columns that stand out most"
        text += f"; of all matrices, norms and biases {what} by size or by first-order effect"
        text += f", and {beside} that harmful or detected weights work through" if beside else ""
        text += f", removed one at a time (perplexity times {times(worst)} at most)"
    left = [
        *([f"{trial.left['screening']} by their size"] if trial.left.get("screening") else []),
        *([f"{trial.left['attribution']} by their first-order effect"] if trial.left.get("attribution") else []),
    ]
    if left:
        text += f"; not tried were {' and '.join(left)} that stand out less"
    elif trial.table.empty:
        text += "; no weight stands out by its size or its first-order effect beside those"
    if unverified:
        text += f"; {unverified} candidates beyond the limit were not verified"
    start = "No super weight was found where it was searched. " if verdict in ("none found", "not confirmed") else ""
    return [*found, {"grade": "info", "text": f"{start}{text}."}]


def _tried(trial: Trial, activation: dict) -> str:
    """A clause about the tried weights in an activation's layer that write into its channel, or ""."""
    rows = trial.table
    if rows.empty:
        return ""
    # What writes into the residual stream has its channels as rows; an embedding as columns.
    writes = rows.role.isin(["W_down", "W_O", "W_down.bias", "W_O.bias"]) & (rows.layer == activation["layer"])
    own = rows[(rows.kind == "element") & writes & (rows.row == activation["channel"])]
    # A bias is tried because it lies there: it stands out if its removal does harm.
    harmful = [(each.place.role, each.place.layer, each.place.row) for each in trial.suspects]
    told = [each.found_by != "activation" or (each.role, each.layer, each.row) in harmful for each in own.itertuples()]
    own = own[pd.Series(told, index=own.index, dtype=bool)]
    named = [
        f"{each.role} [{each.row:.0f}{'' if each.role.endswith('.bias') else f', {each.column:.0f}'}]"
        for each in own.sort_values("delta_nll", ascending=False, kind="stable").head(2).itertuples()
    ]
    return "".join(f", where {each} stands out" for each in named)


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
    null = row.shift_median if row.shift_draws else row.null_median
    null = None if pd.isna(null) else float(null)
    numbers = {"value": float(row.delta_nll), "null_value": null, "metric": _METRIC}
    return {"grade": grade, "text": text, "place": _place(row), **numbers, "remedy": REMEDIES.get(row.verdict, "")}


def _place(row) -> str:
    expert = None if pd.isna(row.expert) else row.expert
    place = Coordinate(row.layer, row.row, row.column, expert, row.role, row.component)
    # A layer has one W_down, as a rule; of others the role alone would say less.
    return _capital(str(replace(place, component="") if place.role == "W_down" else place))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _graded(row, together: bool) -> tuple[str, str]:
    place = _place(row)
    effect = f"set to zero it multiplies perplexity on the verification text by {times(row.delta_nll)}"
    against = _against(row)
    match row.verdict:
        case "critical":
            return "critical", f"{place} is critical: {effect}{against}."
        case "harmful but not special":
            return "notable", f"{place} is harmful to remove, but not special: {effect}{against}."
        case "contributing":
            return "notable", f"{place} contributes: {effect}{against}{_rescued(row)}."
        case "special but mild":
            return "notable", f"{place} is special, but mild: {effect}{against}."
        case "mild":
            return "info", f"{place} is mild: {effect}{against}."
        case "inconclusive":
            why = f"that may be chance (false discovery rate {row.harm_q:.2g}): more text would tell"
            return "notable", f"{place} may matter: {effect}{against}, but {why}."
    if together:
        what = "is harmless to remove alone, but not with the others"
    elif "contribution" in row.found_by or "published" in row.found_by:
        what = "is a decoy: it writes a massive activation, but removing it is harmless"
    else:
        what = "is inert: it stood out in the trial, but removing it is harmless"
    return "info", f"{place} {what}: {effect}{against}."


def _against(row) -> str:
    """A clause about the null: how many random changes do as much harm, and whether that is enough to tell."""
    draws = int(row.shift_draws or row.null_draws)
    # Where a weight counts by what it does among the others, its own harm is not the point.
    if not draws or row.rescue > row.delta_nll:
        return ""
    what = f"{draws} random places for the same change" if row.shift_draws else f"{draws} random weights of its size"
    clause = f"; of {what} {_as_harmful(row.exceed_share, draws)}"
    return clause + (", too few to say whether it is special" if row.special == "undecided" else "")


def _as_harmful(share: float, draws: int) -> str:
    count = round(share * draws)
    return f"{count or 'none'} {'do' if count > 1 else 'does'} as much harm"


def _rescued(row) -> str:
    """A clause about the effect of a weight among the others, which decides if its effect alone is small."""
    if pd.isna(row.rescue):
        return ""
    return f"; kept while all others are zero it undoes {row.rescue:.3g} nats per token of what removing all costs"
