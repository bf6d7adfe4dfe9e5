"""The lines at the top of a model's page: what somebody wants to know first."""

from collections.abc import Iterator

import pandas as pd

# The contents of one analysis's tables by file name: a DataFrame for .csv, plain JSON for .json.
Tables = dict[str, object]
GRADES = ("critical", "notable", "info")


def headline(tables: dict[str, Tables]) -> list[tuple[str, str]]:
    """Rows (what, value) from the tables of each analysis; an absent analysis says nothing."""
    return [row for analysis, lines in LINES.items() if tables.get(analysis) for row in lines(tables[analysis])]


def findings(tables: dict[str, Tables]) -> list[dict[str, str]]:
    """The graded findings (grade, text) that analyses left in their JSON artifacts, the gravest first."""
    contents = [content for analysis in tables.values() for content in analysis.values()]
    found = [each for content in contents if isinstance(content, dict) for each in content.get("findings", ())]
    return sorted(found, key=lambda finding: GRADES.index(finding["grade"]))


def _with_columns(tables: Tables, *columns: str) -> Iterator[pd.DataFrame]:
    for table in tables.values():
        if isinstance(table, pd.DataFrame) and set(columns) <= set(table.columns):
            yield table


def _token_counts(tables: Tables) -> Iterator[tuple[str, str]]:
    for name, counts in tables.items():
        corpus = name.removesuffix(".json")
        half = counts["coverage_rank"]["50%"]
        yield (
            f"tokens of {corpus}",
            f"{counts['tokens']:,} in {counts['documents']:,} documents; {half:,} tokens make half of them; "
            f"{counts['unseen']:,} of {counts['vocabulary']:,} never occur",
        )


def _effective_rank(tables: Tables) -> Iterator[tuple[str, str]]:
    for ranks in _with_columns(tables, "role", "layer", "erank_relative", "status"):
        by_role = ranks[ranks.layer.notna()].groupby("role", sort=False).erank_relative.median()
        if len(by_role):
            yield (
                "effective rank, share of a Gaussian matrix's",
                ", ".join(f"{role} {share:.2f}" for role, share in by_role.items()) + " (median over layers)",
            )


def _super_weights(tables: Tables) -> Iterator[tuple[str, str]]:
    for found in _with_columns(tables, "layer", "row", "column", "component"):
        places = []
        for each in found.itertuples():
            expert = getattr(each, "expert_id", None)
            of = "" if expert is None or pd.isna(expert) else f" expert {int(expert)}"
            places.append(f"layer {each.layer} {each.component}{of} [{each.row}, {each.column}]")
        yield "super weights", "; ".join(places) or "none found"


def _ablation_perplexity(tables: Tables) -> Iterator[tuple[str, str]]:
    for ablations in _with_columns(tables, "corpus", "targets", "kind", "perplexity", "ratio", "severity"):
        main = ablations[ablations.corpus == ablations.corpus.iloc[0]]
        yield "perplexity", f"{main[main.kind == 'baseline'].perplexity.iloc[0]:,.2f} on {main.corpus.iloc[0]}"
        removed = main[(main.kind == "zero") & (main.targets == "detected") & main.perplexity.notna()]
        if len(removed):
            row = removed.iloc[0]
            controls = main[(main.kind == "random") & (main.ablation == row.ablation) & main.perplexity.notna()]
            size = controls.magnitude_ratio.mean()
            against = f"; random weights ({size:.2g} of the size): at most {controls.ratio.max():.4g} times"
            yield (
                "without the super weights",
                f"{row.perplexity:,.0f}: {row.ratio:,.4g} times, {row.severity}{against if len(controls) else ''}",
            )


LINES = {
    "token_counts": _token_counts,
    "effective_rank": _effective_rank,
    "super_weights": _super_weights,
    "ablation_perplexity": _ablation_perplexity,
}
