"""The verdict on super weights in sentences, graded: critical, notable or info."""

import math

import pandas as pd


def findings(verdict: str, table: pd.DataFrame, joint: dict | None) -> list[dict[str, str]]:
    """One finding per verified weight, one for all together; grade and text, the gravest first.

    table: rows of the verification; joint: its row of all candidates together, if there were several.
    """
    if verdict == "none found":
        return [{"grade": "info", "text": "No super weight: no massive activation is written by a few single weights."}]
    found = [_of_weight(row) for row in table.itertuples()]
    if joint is not None:
        grade = "critical" if verdict in ("critical", "critical together") else "info"
        text = f"All {joint['weights']} super weights set to zero multiply perplexity by {_factor(joint['ratio'])}."
        found.append({"grade": grade, "text": text})
    order = {"critical": 0, "notable": 1, "info": 2}
    return sorted(found, key=lambda finding: order[finding["grade"]])


def _of_weight(row) -> dict[str, str]:
    expert = "" if pd.isna(row.expert) else f" expert {row.expert}"
    place = f"Layer {row.layer}{expert} [{row.row}, {row.column}]"
    effect = f"set to zero it multiplies perplexity by {_factor(row.ratio)}"
    null = [f"{row.null_draws} random weights by at most {_factor(math.exp(row.null_max))}"] if row.null_draws else []
    if row.shift_draws:
        null.append(f"the same change at {row.shift_draws} random places by at most {_factor(math.exp(row.shift_max))}")
    against = f", {', '.join(null)}" if null else ""
    match row.verdict:
        case "critical":
            return {"grade": "critical", "text": f"{place} is critical: {effect}{against}."}
        case "contributing":
            return {"grade": "notable", "text": f"{place} contributes: {effect}{against}."}
    return {"grade": "info", "text": f"{place} writes a massive activation but is inert: {effect}{against}."}


def _factor(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.4g}"
