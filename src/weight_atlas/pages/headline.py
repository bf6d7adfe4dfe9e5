"""The lines at the top of a page of a model or a vector: what somebody wants to know first."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from weight_atlas.metrics import metric, of
from weight_atlas.numbers_of import number_of
from weight_atlas.ratios import times, written

# The contents of one analysis's tables by file name: a DataFrame for .csv, plain JSON for .json.
Tables = dict[str, Any]
# The key under which the lines on super weights find their verification.
VERDICTS = "verdicts"
# The key under which the line on what removal costs finds the cards of the same weights.
CARDS = "cards"


def headline(tables: dict[str, Tables]) -> list[tuple[str, str]]:
    """Rows (what, value) from the tables of each analysis; an absent analysis says nothing."""
    verdicts = _verified(tables.get("super_weight_verification") or {})
    own = {name: {**(tables.get(name) or {}), VERDICTS: verdicts} for name in ("super_weights", "ablation_perplexity")}
    own["ablation_perplexity"] |= {CARDS: tables.get("super_weight_cards") or {}}
    all_tables = {**tables, **own}
    return [row for analysis, lines in LINES.items() if tables.get(analysis) for row in lines(all_tables[analysis])]


def _with_columns(tables: Tables, *columns: str) -> Iterator[pd.DataFrame]:
    for table in tables.values():
        if isinstance(table, pd.DataFrame) and set(columns) <= set(table.columns):
            yield table


def _token_counts(tables: Tables) -> Iterator[tuple[str, str]]:
    known = of("token_counts.summary").by_column
    for name, counts in tables.items():
        if not isinstance(counts, dict):
            continue

        def number(column: str, counts: dict = counts) -> str:
            return known[column].written(known[column].value_in(counts))

        def counted(column: str, one: str, many: str | None = None, counts: dict = counts) -> str:
            return number_of(known[column].value_in(counts), one, many)

        yield (
            f"{known['tokens'].title} of {name.removesuffix('.json')}",
            f"{number('tokens')} in {counted('documents', 'document')}; "
            f"{counted('coverage_rank.50%', 'token makes', 'tokens make')} half of them; "
            f"{number('unseen')} of {number('vocabulary')} never {'occurs' if counts['unseen'] == 1 else 'occur'}",
        )


def _effective_rank(tables: Tables) -> Iterator[tuple[str, str]]:
    relative = metric("effective_rank.erank_relative")
    for ranks in _with_columns(tables, "role", "layer", relative.column):
        by_role = ranks[ranks.layer.notna()].groupby("role", sort=False)[relative.column].median().dropna()
        if len(by_role):
            told = ", ".join(f"{role} {relative.written(share)}" for role, share in by_role.items())
            yield relative.title, f"{told} (median over layers)"


def _verified(tables: Tables) -> dict | None:
    """The artifact of the verification, if it is there."""
    return next((each for each in tables.values() if isinstance(each, dict) and "super_weights" in each), None)


def _super_weights(tables: Tables) -> Iterator[tuple[str, str]]:
    """What was found, by what its removal showed; without the verification, what there is to verify."""
    verified = tables.get(VERDICTS)
    if verified is None:
        for found in _with_columns(tables, "layer", "row", "column", "component"):
            places = [_place(each) for each in found.to_dict("records")]
            yield "candidates for super weights, not verified", "; ".join(places) or "none found"
        return
    records = verified["super_weights"]
    grave = [each for each in records if each["verdict"] != "inert"]
    told = [f"{_place(each)} ({each['verdict']}{_found_by(each)})" for each in grave]
    verdict = verified["verdict"]
    together = verdict == "critical together" or (not told and verdict not in ("not confirmed", "none found"))
    if not told and together and records:
        what = verdict.removesuffix(" together")
        told = [f"{len(records)} weights, {what} together only: {'; '.join(map(_place, records))}"]
    told += [_together(each) for each in verified.get("sets", ())]
    yield "super weights", "; ".join(told) or "none found where it was searched (see the findings)"
    decoys = [_place(each) for each in records if each["verdict"] == "inert" and not _found_by(each)]
    if decoys and not together:
        yield "decoys: massive activations, removal harmless", "; ".join(decoys)


def _together(group: dict) -> str:
    return group["line"] if group["whole"] else f"{len(group['places'])} weights of {group['line']} together"


def _place(record: dict) -> str:
    if "place" in record:
        return record["place"]
    expert = record.get("expert_id")
    of = "" if expert is None or pd.isna(expert) else f" expert {int(expert)}"
    return f"layer {record['layer']} {record['component']}{of} [{record['row']}, {record['column']}]"


def _found_by(record: dict) -> str:
    return {
        "screening": ", found by its size",
        "attribution": ", found by its first-order effect",
        "activation": ", found by what writes an activation",
        "partner": ", found beside a harmful weight",
    }.get(record["found_by"][0] if len(record["found_by"]) == 1 else "", "")


def _ablation_perplexity(tables: Tables) -> Iterator[tuple[str, str]]:
    known = of("ablation_perplexity").by_column
    perplexity, size = known["perplexity"], known["magnitude_ratio"]
    for ablations in _with_columns(tables, "corpus", "targets", "kind", perplexity.column, "ratio", "severity"):
        main = ablations[ablations.corpus == ablations.corpus.iloc[0]]
        unchanged = perplexity.written(main[main.kind == "baseline"].perplexity.iloc[0])
        yield perplexity.title, f"{unchanged} on {main.corpus.iloc[0]}"
        removed = main[(main.kind == "zero") & (main.targets == "detected") & main.perplexity.notna()]
        if len(removed):
            row = removed.iloc[0]
            controls = main[(main.kind == "random") & (main.ablation == row.ablation) & main.perplexity.notna()]
            share = size.written(controls.magnitude_ratio.mean())
            against = f"; random weights ({share} of the size): at most {written(controls.ratio.max())} times"
            yield (
                "without the detected weights",
                f"{written(row.perplexity)}: {_factor(row.delta_nll, row.delta_nll_low, row.delta_nll_high)}, "
                f"{row.severity}, on {written(row.tokens)} tokens of {written(row.documents)} documents"
                f"{against if len(controls) else ''}",
            )
            elsewhere = [*_verification_says(tables[VERDICTS], row.weights), *_cards_say(tables[CARDS], row.weights)]
            if elsewhere:
                yield "the same removal on other text", "; ".join(elsewhere)


def _factor(delta: float, low: float, high: float) -> str:
    """A rise of the loss as a factor on perplexity, with its interval."""
    bounds = f" (95 %: {times(low)} to {times(high)})" if pd.notna(low) else ""
    return f"{times(delta)} times{bounds}"


def _verification_says(verified: dict | None, weights: int) -> Iterator[str]:
    """What the verification measured for removing these weights and no others, if it did."""
    if verified is None:
        return
    detected = [each for each in verified["super_weights"] if not _found_by(each)]
    joint = verified["joint"] if len(detected) == len(verified["super_weights"]) else None
    row = detected[0] if len(detected) == weights == 1 else joint if joint and joint["weights"] == weights else None
    if row is not None:
        yield (
            f"super_weight_verification {_factor(row['delta_nll'], row['delta_nll_low'], row['delta_nll_high'])}, on "
            f"{verified['text']}"
        )


def _cards_say(cards: Tables, weights: int) -> Iterator[str]:
    for table in _with_columns(cards, "delta_loss", "delta_loss_ci_2.5", "delta_loss_ci_97.5"):
        if len(table) == weights == 1:
            factor = _factor(*table.loc[0, ["delta_loss", "delta_loss_ci_2.5", "delta_loss_ci_97.5"]])
            yield f"super_weight_cards {factor}, on the passages of windows"


def _comparison(tables: Tables) -> Iterator[tuple[str, str]]:
    known = of("comparison.summary").by_column
    for summary in tables.values():
        if isinstance(summary, dict) and "relation" in summary:
            whole, same = summary["whole"], summary["tensors"] - summary["changed_tensors"]
            yield "a", summary["a"]
            yield "b", summary["b"]
            yield "how b stands to a", summary["relation"]
            yield "tensors that are the same", f"{same:,} of {summary['tensors']:,}"
            for column in ("whole.relative", "whole.cosine", "whole.changed_share", "whole.sign_share"):
                value = whole[column.split(".")[1]]
                yield known[column].title, "missing" if value is None else known[column].written(value)


def _super_weight_inheritance(tables: Tables) -> Iterator[tuple[str, str]]:
    for summary in _summaries(tables, "inherited"):
        kept, of_a, of_b = (f"{summary[key]:,}" for key in ("inherited", "super_weights_a", "super_weights_b"))
        yield "super weights of a that b has", f"{kept} of {of_a}; b has {of_b} in all"


def _token_weights(tables: Tables) -> Iterator[tuple[str, str]]:
    known = of("token_weights.statistics").by_column
    for summary in _summaries(tables, "shape", "vocabulary"):
        number = {name: known[name].written(summary[name]) for name in ("mean", "median", "std", "min", "max")}
        yield (
            "token weights",
            f"mean {number['mean']}, median {number['median']}, standard deviation {number['std']}, {number['min']} to "
            f"{number['max']}; {summary['shape']}",
        )


def _reading_of(what: str, *keys: str) -> Callable[[Tables], Iterator[tuple[str, str]]]:
    """The reading in the summary that has some keys."""

    def line(tables: Tables) -> Iterator[tuple[str, str]]:
        for summary in _summaries(tables, "reading", *keys):
            yield what, summary["reading"]

    return line


def _summaries(tables: Tables, *keys: str) -> Iterator[dict[str, Any]]:
    for summary in tables.values():
        if isinstance(summary, dict) and summary.keys() >= set(keys):
            yield summary


LINES = {
    "comparison": _comparison,
    "super_weight_inheritance": _super_weight_inheritance,
    "super_weights": _super_weights,
    "ablation_perplexity": _ablation_perplexity,
    "effective_rank": _effective_rank,
    "token_counts": _token_counts,
    "token_weights": _token_weights,
    "token_weight_frequency": _reading_of("beside how often tokens occur", "pearson"),
    "token_weight_evolution": _reading_of("over training", "spread"),
}
