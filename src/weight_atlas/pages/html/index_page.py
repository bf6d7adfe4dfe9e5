"""The first page of the atlas: all models side by side, and what compares them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weight_atlas.artifacts import write_text
from weight_atlas.pages.html.sections import PARTS, in_parts, section, tables_in
from weight_atlas.pages.html.templates import rendered
from weight_atlas.pages.page import Failures, Product

# Facts and numbers that the table of models shows first; the others are a click away.
FACTS = ("family", "parameters", "n_layers", "d_model", "n_heads", "vocabulary", "stored_types")
NUMBERS = (
    "effective_rank.erank_relative", "heavy_tail.alpha", "weight_statistics.kurtosis",
    "weight_statistics.dynamic_range", "quantization_sensitivity.tensors.worst_loss_db",
)  # fmt: skip
# Findings that a card tells.
TOLD = 3
GRADES = ("critical", "notable", "info")


def write_index(
    page: Path,
    data: Path,
    summaries: Sequence[dict[str, Any]],
    products: Sequence[Product],
    paths: Sequence[Path],
    others: dict[str, list[dict[str, Any]]],
    failures: Failures | None = None,
) -> None:
    """Write the index and the folder of its data.

    summaries: of the models, as pages.write_page leaves them, in their order. products: of the comparisons, and paths:
    their outputs. others: by what they are, summaries of other pages, each with its `href`.
    """
    results = page.parents[1]
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    tables = tables_in(paths, results)
    sections = [section(product, tables, results, data, page) for product in products]
    models = [
        {"facts": {}, "grades": {}, "incomplete": False, **each, "told": each.get("findings", [])[:TOLD],
         "href": f"models/{each['model']}.html"}
        for each in summaries
    ]  # fmt: skip
    text = rendered(
        "index.html.jinja",
        models=models,
        grades=GRADES,
        parts=in_parts([each for each in sections if each.tables or each.charts or each.figures or each.files]),
        left_out=[each for each in sections if each.not_applicable or each.missing],
        others={what: pages for what, pages in others.items() if pages},
        index=_compared(models, data),
        failures=failures,
        up="",
    )
    write_text(page, text)


def _compared(models: list[dict[str, Any]], data: Path) -> dict[str, Any]:
    """Names, links and numbers of the models for the charts and the table of the page."""
    known: dict[str, dict[str, str]] = {}
    for each in models:
        known |= each.get("metrics", {})
    facts = list(dict.fromkeys(fact for each in models for fact in each.get("facts", {})))
    columns: list[dict[str, Any]] = [
        {"name": "model", "links": {each["model"]: each["href"] for each in models}},
        *({"name": grade, "title": f"{grade} findings"} for grade in GRADES),
        *({"name": fact, **({} if fact in FACTS else {"more": True})} for fact in [*FACTS, *facts] if fact in facts),
        *(
            {"name": about["title"], "title": "median over the tensors", "metric": name.partition(":")[0],
             **({} if name in NUMBERS else {"more": True})}
            for name, about in known.items()
        ),
    ]  # fmt: skip
    names = [column["name"] for column in columns]
    columns = [column for number, column in enumerate(columns) if column["name"] not in names[:number]]
    cells: dict[str, list[Any]] = {"model": [each["model"] for each in models]}
    cells |= {grade: [each.get("grades", {}).get(grade, 0) for each in models] for grade in GRADES}
    cells |= {fact: [_fact(each.get("facts", {}).get(fact)) for each in models] for fact in facts}
    for name, about in known.items():
        cells.setdefault(about["title"], [each.get("numbers", {}).get(name) for each in models])
    return {
        "data": data.name,
        "table": {"columns": columns, "cells": [cells[column["name"]] for column in columns]},
        "models": [
            {"name": each["model"], "data": f"models/{each['model']}"} for each in models if each.get("numbers")
        ],
        "metrics": [
            {"id": name, "title": about["title"], "group": PARTS.get(about["group"]) or about["group"]}
            for name, about in known.items()
        ],
        "numbers": {each["model"]: each.get("numbers", {}) for each in models},
    }


def _fact(text: Any) -> Any:
    """A fact of architecture_summary, a number where it is one."""
    if not isinstance(text, str):
        return text
    try:
        number = float(text)
    except ValueError:
        return {"True": True, "False": False}.get(text, text)
    return int(number) if number.is_integer() else number
