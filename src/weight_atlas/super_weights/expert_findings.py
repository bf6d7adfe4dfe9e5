"""Sentences about the super experts of a mixture of experts, each graded notable or info."""

import pandas as pd


def expert_findings(experts: pd.DataFrame) -> list[dict[str, str]]:
    """A finding for each super expert, the largest output first, and for each other expert with a candidate weight.

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
