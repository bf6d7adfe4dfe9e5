"""The page of a model for a browser: what is unusual first, the map with its cards, the sections of all analyses."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weight_atlas.artifacts import read_json, read_table, write_text
from weight_atlas.metrics import of, table_of
from weight_atlas.pages.headline import Tables, headline
from weight_atlas.pages.html.drawings import write_cards, write_heads
from weight_atlas.pages.html.encoding import grouped, in_chunks, packed, write_chunk
from weight_atlas.pages.html.evidence import WIDTH, strip
from weight_atlas.pages.html.grids import numbered_grid, tensor_grid
from weight_atlas.pages.html.marks import marks_of, super_weight_marks
from weight_atlas.pages.html.measures import Measure, changes, measures
from weight_atlas.pages.html.sections import Section, in_parts, section, tables_in
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.html.templates import rendered
from weight_atlas.pages.page import Failures, Product

# Bytes of a chunk of metrics; the first one is loaded with the page.
CHUNK = 300_000
# The metrics that the map begins with, the first that there is.
FIRST = (
    "comparison.changed_share",
    "weight_statistics.dynamic_range",
    "effective_rank.erank_relative",
    "weight_statistics.kurtosis",
)


# Facts that a page shows first, in this order; the others are a click away.
FIRST_FACTS = ("architecture", "parameters", "n_layers", "d_model", "n_heads", "n_experts", "vocabulary", "context",
               "stored_types")  # fmt: skip


def write_model_page(
    page: Path,
    data: Path,
    model: str,
    products: Sequence[tuple[Product, Tables]],
    paths: Sequence[Path],
    findings: list[dict[str, Any]],
    artifacts: Artifacts,
    failures: Failures | None = None,
    changed: Mapping[str, pd.DataFrame] | None = None,
    told: Sequence[tuple[str, str]] | None = None,
    parts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write a model's page and the folder of its data; what the index says of it, as of `_summary`.

    page: two folders below the results; data: a folder beside it. products: of the analyses, with their tables, in the
    order of the sections; paths: their outputs. failures: what keeps the page from being complete; None for a whole
    one. changed: comparisons with other models, see sources.changes_against. told: the headline, where it is not that
    of the tables. parts: links to the pages of what this one is about, by name.
    """
    results = page.parents[2]
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    tables = tables_in(paths, results)
    grids = _grids(artifacts, tables, results)
    found = [(grid, measure) for grid in grids for measure in measures(grid, _of_registry(tables, results))]
    against = [(grid, measure) for grid in grids[:1] for measure in changes(grid, changed or {})]
    about = _write_measures(data, [*found, *against])
    by_file = {path.relative_to(results).as_posix(): table for path, table in tables.items()}
    sections = [section(product, tables, results, data, page) for product, _ in products]
    facts = _facts(by_file, model)
    rows = headline({product.name: contents for product, contents in products}) if told is None else told
    stars = super_weight_marks(grids, by_file, artifacts.tensor_inventory)
    marks = marks_of(grids, findings, stars)
    map_data = {
        "model": model,
        "data": data.name,
        "grids": [{key: value for key, value in grid.items() if key != "keys"} for grid in grids],
        "metrics": about,
        "first": _first(about),
        "marks": marks,
        "stars": stars,
        "cards": write_cards(data, grids, artifacts) if grids else {},
        "heads": write_heads(data, grids, artifacts.attention_kernel),
        "card_tables": _card_tables(sections, by_file),
    }
    text = rendered(
        "model.html.jinja",
        model=model,
        headline=rows,
        facts=facts,
        about=parts or {},
        first_facts=sum(each["field"] in FIRST_FACTS for each in facts),
        findings=[
            {
                **each,
                "chart": strip(each, by_file),
                "number": number,
                "cell": _cell_of(number, each["place"], grids, marks),
            }
            for number, each in enumerate(findings)
        ],
        chart_width=WIDTH,
        parts=in_parts([each for each in sections if each.tables or each.charts or each.figures or each.files]),
        left_out=[each for each in sections if each.not_applicable or each.missing],
        map=map_data,
        has_map=bool(grids),
        provenance=_provenance(artifacts),
        failures=failures,
        up="../",
    )
    write_text(page, text)
    if grids:
        write_chunk(data, "profile", _profile(found))
    return _summary(facts, findings, found)


def _grids(artifacts: Artifacts, tables: dict[Path, pd.DataFrame], results: Path) -> list[dict[str, Any]]:
    if artifacts.tensor_inventory is None:
        return []
    grids = [tensor_grid(read_table(artifacts.tensor_inventory))]
    for kind in ("head", "expert"):
        of_kind = [table for name, table in _of_registry(tables, results).items() if _is_of(name, table, kind)]
        grid = numbered_grid(kind, of_kind)
        grids += [grid] if grid else []
    return grids


def _is_of(name: str, table: pd.DataFrame, kind: str) -> bool:
    """Whether the rows of a table are heads (or experts)."""
    of_kind = kind in {metric.level for metric in of(name).metrics} and {"layer", kind} <= set(table.columns)
    return of_kind and bool(table[["layer", kind]].notna().all(axis=None))


def _of_registry(tables: dict[Path, pd.DataFrame], results: Path) -> dict[str, pd.DataFrame]:
    """The tables by their names in the registry; those that it does not know are left out."""
    known = {path: table_of(path.relative_to(results).as_posix()) for path in tables}
    return {table.name: tables[path] for path, table in known.items() if table is not None}


def _cell_of(number: int, place: str, grids: list[dict[str, Any]], marks: list[dict[str, Any]]) -> str:
    """The name of the cell of a finding's gravest place, else of its first one, "" if none is on the map."""
    cells = [grids[0]["cells"]["id"][mark["cell"]] for mark in marks if number in mark["findings"]]
    return place if place in cells else next(iter(cells), "")


def _write_measures(data: Path, found: list[tuple[dict[str, Any], Measure]]) -> list[dict[str, Any]]:
    """Write the numbers of all metrics in chunks; what the page says of each, its grid and chunk included."""
    numbers = {f"{grid['kind']}/{measure.id}": measure.packed for grid, measure in found}
    chunks = in_chunks((len(str(each)) for each in numbers.values()), CHUNK)
    for chunk, content in grouped(numbers, chunks).items():
        write_chunk(data, f"metrics/{chunk}", content)
    return [
        {**measure.about, "grid": grid["kind"], "chunk": chunk}
        for (grid, measure), chunk in zip(found, chunks, strict=True)
    ]


def _first(about: list[dict[str, Any]]) -> str:
    there = [each["id"] for each in about if each["grid"] == "tensor"]
    return next((name for name in FIRST if name in there), there[0] if there else "")


def _facts(tables: dict[str, pd.DataFrame], model: str) -> list[dict[str, Any]]:
    table = tables.get(f"architecture_summary/{model}.csv")
    if table is None:
        return []
    facts = table.astype(object).where(table.notna(), "").to_dict("records")
    place = {field: number for number, field in enumerate(FIRST_FACTS)}
    return sorted(facts, key=lambda each: place.get(each["field"], len(place)))


def _card_tables(sections: list[Section], tables: dict[str, pd.DataFrame]) -> list[dict[str, str]]:
    """The tables that have rows about single tensors beside their metrics: channels, weights, schemes."""
    found = []
    for each in (table for part in sections for table in part.tables):
        known, columns = table_of(each["file"]), set(tables[each["file"]].columns)
        level = {metric.level for metric in known.metrics} if known else set()
        column = next((name for name in ("id", "tensor", "parameter") if name in columns), None)
        if column and level & {"channel", "weight"} and each["rows"] == each["of"]:
            found.append({"key": each["key"], "title": each["title"], "column": column})
    return found


def _provenance(artifacts: Artifacts) -> dict[str, Any]:
    return read_json(artifacts.checkpoint) if artifacts.checkpoint is not None else {}


def _summary(
    facts: list[dict[str, Any]], findings: list[dict[str, Any]], found: list[tuple[dict[str, Any], Measure]]
) -> dict[str, Any]:
    """Facts, grades of the findings, metrics, and numbers: the median of each metric over the tensors that have it."""
    of_tensors = [measure for grid, measure in found if grid["kind"] == "tensor"]
    grades = [each["grade"] for each in findings]
    return {
        "facts": {each["field"]: each["value"] for each in facts},
        "grades": {grade: grades.count(grade) for grade in dict.fromkeys(grades)},
        "numbers": {each.id: float(np.nanmedian(each.values)) for each in of_tensors},
        "metrics": {each.id: {"title": each.about["title"], "group": each.table.part} for each in of_tensors},
    }


def _profile(found: list[tuple[dict[str, Any], Measure]]) -> dict[str, Any]:
    """By metric and row of the map of tensors the median of each layer: what the index draws by relative depth."""
    of_tensors = [(grid, measure) for grid, measure in found if grid["kind"] == "tensor"]
    if not of_tensors:
        return {}
    grid = of_tensors[0][0]
    rows, columns = np.array(grid["cells"]["row"]), np.array(grid["cells"]["column"])
    shape = (len(grid["rows"]), len(grid["columns"]))
    values = {}
    for _, measure in of_tensors:
        cells = pd.Series(measure.values).groupby([rows, columns]).median()
        filled = np.full(shape, np.nan)
        filled[cells.index.get_level_values(0), cells.index.get_level_values(1)] = cells
        values[measure.id] = packed(filled.ravel())
    labels = [row["label"] for row in grid["rows"]]
    return {"rows": labels, "columns": grid["columns"], "values": values}
