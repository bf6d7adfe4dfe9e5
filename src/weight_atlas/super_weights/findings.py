"""The verdict on super weights in sentences, graded: critical, notable or info."""

import math

import pandas as pd


def findings(verdict: str, table: pd.DataFrame, joint: dict | None) -> list[dict[str, str]]:
    """One finding per verified weight, one for all together; grade and text, the gravest first.

    table: rows of the verification; joint: its row of all candidates together, if there were several, and `null_max`,
    the largest rise of its controls in nats per token.
    """
    if verdict == "none found":
        return [{"grade": "info", "text": "No super weight: no massive activation is written by a few single weights."}]
    found = [_of_weight(row) for row in table.itertuples()]
    if joint is not None:
        grade = "critical" if verdict in ("critical", "critical together") else "info"
        text = f"All {joint['weights']} super weights set to zero multiply it by {_factor(joint['ratio'])}"
        null = joint.get("null_max")
        against = "" if null is None else f", the worst of their random controls by {_factor(math.exp(null))}"
        text = f"{text}{against}."
        found.append({"grade": grade, "text": text})
    order = {"critical": 0, "notable": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding["grade"]])


def agreement_findings(agreement: pd.DataFrame) -> list[dict[str, str]]:
    """One finding on how far a detection agrees with the published coordinates of a known model; none for another."""
    if agreement.empty:
        return []
    count, total, model = int(agreement.found.sum()), len(agreement), agreement.model.iloc[0]
    if count == total:
        return [{"grade": "info", "text": f"All {total} published coordinates of {model} are found."}]
    missed = [f"layer {row.layer} [{row.row}, {row.column}]" for row in agreement[~agreement.found].itertuples()]
    some = f"{count} of {total}" if count else f"None of {total}"
    text = f"{some} published coordinates of {model} are found; not found: {', '.join(missed)}."
    return [{"grade": "notable", "text": text}]


def expert_findings(experts: pd.DataFrame) -> list[dict[str, str]]:
    """One finding per super expert, the largest output first, and one per other expert with a candidate weight.

    experts: rows of the expert table; empty for a model without a mixture of experts, which has no findings.
    """
    if experts.empty:
        return []
    found = []
    for row in experts[experts.super_expert].sort_values("max_output", ascending=False, kind="stable").itertuples():
        text = f"{_expert(row)} is a super expert: its largest output is {row.max_output:.4g}, {_carried(row)}."
        found.append({"grade": "notable", "text": text})
    others = experts[experts.candidate & ~experts.super_expert]
    for row in others.sort_values("contribution_ratio", ascending=False, kind="stable").itertuples():
        found.append({"grade": "notable", "text": f"{_expert(row)} is no super expert, but {_carried(row)}."})
    return found or [{"grade": "info", "text": f"None of {len(experts)} experts is a super expert."}]


def _expert(row) -> str:
    return f"Layer {row.layer} expert {row.expert} ({row.p_active:.1%} of tokens)"


def _carried(row) -> str:
    size = f"{row.contribution_ratio:,.0f} times the median of its token's residual stream"
    return f"its weight [{row.row}, {row.column}] contributes {size}"


def _of_weight(row) -> dict[str, str]:
    expert = "" if pd.isna(row.expert) else f" expert {row.expert}"
    place = f"Layer {row.layer}{expert} [{row.row}, {row.column}]"
    effect = f"set to zero it multiplies perplexity on the verification text by {_factor(row.ratio)}"
    null = [f"{row.null_draws} random weights by at most {_factor(math.exp(row.null_max))}"] if row.null_draws else []
    if row.shift_draws:
        null.append(f"the same change at {row.shift_draws} random places by at most {_factor(math.exp(row.shift_max))}")
    against = f", {', '.join(null)}" if null else ""
    match row.verdict:
        case "critical":
            return {"grade": "critical", "text": f"{place} is critical: {effect}{against}."}
        case "contributing":
            return {"grade": "notable", "text": f"{place} contributes: {effect}{against}{_rescued(row)}."}
    why = ", but its 95 % interval includes none" if row.delta_nll > 0 >= row.delta_nll_low else ""
    return {"grade": "info", "text": f"{place} writes a massive activation but is inert: {effect}{against}{why}."}


def _rescued(row) -> str:
    """What a weight does among the others, which is what decides where alone it does not stand out."""
    if pd.isna(row.rescue):
        return ""
    return f"; kept while all others are zero it undoes {row.rescue:.3g} nats per token of what removing all costs"


def _factor(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.4g}"
