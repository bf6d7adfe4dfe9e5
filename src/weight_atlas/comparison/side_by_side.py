"""What the analyses of two models found, side by side, where both ran: tables of the one beside those of the other."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

COLUMNS = ["what", "item", "a", "b", "difference", "text_a", "text_b"]
Tables = Mapping[str, pd.DataFrame]


def side_by_side(a: Tables, b: Tables) -> pd.DataFrame:
    """A row for each number or name that both models, or one of them, have: COLUMNS.

    a, b: tables of each model by the step that made them, those of READ that are there. Of ranks and heavy tails
    medians by role, of the latter over trusted fits; super weights and findings by their places, with what one side
    lacks empty.
    """
    rows = [row for name, read in READ.items() if name in a and name in b for row in read(a[name], b[name])]
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(("a", "b", "difference"), "float64"))


def _number(what: str, item: str, a: Any, b: Any) -> dict[str, Any]:
    one, other = (float("nan") if pd.isna(value) else float(value) for value in (a, b))
    return {"what": what, "item": item, "a": one, "b": other, "difference": other - one, "text_a": "", "text_b": ""}


def _text(what: str, item: str, a: str, b: str) -> dict[str, Any]:
    nothing = float("nan")
    return {"what": what, "item": item, "a": nothing, "b": nothing, "difference": nothing, "text_a": a, "text_b": b}


def _medians(what: str, a: pd.DataFrame, b: pd.DataFrame, column: str) -> Iterator[dict[str, Any]]:
    one, other = (table[table["layer"].notna()].groupby("role", sort=False)[column].median() for table in (a, b))
    for role in dict.fromkeys([*one.index, *other.index]):
        yield _number(what, str(role), one.get(role), other.get(role))


def _ranks(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[dict[str, Any]]:
    yield from _medians("effective rank", a, b, "erank")


def _tails(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[dict[str, Any]]:
    trusted = [table[table["status"] == "ok"] for table in (a, b)]
    yield from _medians("alpha, of trusted fits", trusted[0], trusted[1], "alpha")


def _findings(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[dict[str, Any]]:
    one, other = (dict(zip(table["id"], table["grade"], strict=True)) for table in (a, b))
    texts = [dict(zip(table["id"], table["text"], strict=True)) for table in (a, b)]
    for name in dict.fromkeys([*one, *other]):
        if texts[0].get(name) != texts[1].get(name):
            said = [
                f"{grades[name]}: {known[name]}" if name in grades else ""
                for grades, known in ((one, texts[0]), (other, texts[1]))
            ]
            yield _text("finding", str(name), *said)


def _super_weights(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[dict[str, Any]]:
    one, other = ({_place(row): row["original_value"] for row in table.to_dict("records")} for table in (a, b))
    for place in dict.fromkeys([*one, *other]):
        yield _number("super weight (candidate), its value", place, one.get(place), other.get(place))


def _place(row: Mapping[str, Any]) -> str:
    expert = row.get("expert_id")
    of = "" if expert is None or pd.isna(expert) else f" expert {int(expert)}"
    return f"layer {row['layer']} {row['component']}{of} [{row['row']}, {row['column']}]"


def _perplexity(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[dict[str, Any]]:
    one, other = (table[table["kind"] == "baseline"].set_index("corpus")["perplexity"] for table in (a, b))
    for corpus in dict.fromkeys([*one.index, *other.index]):
        yield _number("perplexity", str(corpus), one.get(corpus), other.get(corpus))


def _evaluations(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[dict[str, Any]]:
    keys = ["task", "metric"]
    one, other = (table[table["kind"] == "baseline"].drop_duplicates(keys).set_index(keys)["value"] for table in (a, b))
    for task, metric in dict.fromkeys([*one.index, *other.index]):
        yield _number(f"evaluation, {metric}", str(task), one.get((task, metric)), other.get((task, metric)))


# What is read of each step's table.
READ: dict[str, Callable[[pd.DataFrame, pd.DataFrame], Iterator[dict[str, Any]]]] = {
    "findings": _findings,
    "super_weights": _super_weights,
    "effective_rank": _ranks,
    "heavy_tail": _tails,
    "ablation_perplexity": _perplexity,
    "impact_summary": _evaluations,
}
